"""What another order would have earned, told from what was shown with known propensities: off-policy evaluation."""
