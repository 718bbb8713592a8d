"""The one order of candidates: score, then popularity, then a key drawn from the id."""

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.int64]
Mask = NDArray[np.bool_]


def tie_key(item_id: str) -> int:
    """64 bits that say nothing of the item: neither its age nor the order of ids decides between equals."""
    return int.from_bytes(blake2b(item_id.encode(), digest_size=8).digest(), "little")


def ranked(scores: NDArray[Any], popularity: NDArray[np.float64], key: NDArray[np.uint64]) -> Slots:
    """Positions, best first: larger score, then larger popularity, then smaller key. All of shape (n,)."""
    return np.lexsort((key, -popularity, -scores))


def contenders(scores: NDArray[Any], k: int) -> Slots:
    """Positions of the k largest scores and of all that equal the least of them, in no order."""
    if len(scores) <= k:
        return np.arange(len(scores))
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores >= least)
