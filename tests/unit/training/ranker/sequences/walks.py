"""Shoppers who walk one ring of items, nine steps in ten: the last item tells the next, popularity tells nothing."""

from pathlib import Path

import numpy as np

ITEMS = 30


def write_walks(path: Path, shoppers: int = 150, names: str = "i") -> Path:
    """Always the same walks; `names` stands before each item's number, which it turns about where it is longer."""
    rng = np.random.default_rng(3)
    lines = []
    for shopper in range(shoppers):
        steps = np.where(rng.random(rng.integers(4, 9)) < 0.9, 1, rng.integers(1, ITEMS))
        walk = (rng.integers(ITEMS) + np.cumsum(steps)) % ITEMS
        if len(names) > 1:
            walk = (7 * walk + 11) % ITEMS
        lines.append(" ".join([f"s{shopper}", *(f"{names}{item}" for item in walk)]))
    path.write_text("\n".join(lines) + "\n")
    return path
