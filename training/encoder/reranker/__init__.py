"""The cross-encoder: reads a query with an item, learns from pairs, exported for the ranker to serve."""
