"""New ids for benchmark files, whose own number items by first appearance: "the largest id so far + 1" alone guesses
some of what comes next."""

from collections.abc import Iterable

import numpy as np


def renumbered(ids: Iterable[str], prefix: str, seed: int) -> dict[str, str]:
    """A new id for each of the ids, by a permutation drawn by seed: it depends on nothing but the set of the ids."""
    old = sorted(set(ids))
    width = len(str(len(old)))
    order = np.random.default_rng(seed).permutation(len(old)).tolist()
    return {one: f"{prefix}{number:0{width}d}" for one, number in zip(old, order, strict=True)}
