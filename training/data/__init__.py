"""Data for training: the canonical dataset, loaders of real data, and the generated shop."""
