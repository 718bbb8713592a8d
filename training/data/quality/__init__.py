"""How good a dataset is: measured, compared with another, held to thresholds (docs/data-quality.md)."""
