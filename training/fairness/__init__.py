"""Who is shown and who is served well, and lists that share exposure out."""
