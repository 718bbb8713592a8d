"""Personal data in datasets: pseudonyms, redaction, encryption, retention, and how well a crowd hides a shopper."""
