"""What was trained here, from what and how well: one JSON file a run."""
