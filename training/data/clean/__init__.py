"""Cleaning by declared rules: what goes and what is mended, every row accounted for (docs/data-quality.md)."""
