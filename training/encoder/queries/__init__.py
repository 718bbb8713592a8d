"""Synthetic queries for a shop without a search log: typed as people type, kept where they lead back."""
