"""The one order of candidates: score, then popularity, then a key drawn from the id."""

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.domain.largest import kth_largest

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
    return np.concatenate(_split(scores, k))


def best(
    scores: NDArray[Any], slots: NDArray[Any], popularity: NDArray[np.float64], key: NDArray[np.uint64], k: int
) -> Slots:
    """Positions of the k best, best first. scores and slots: of the candidates; popularity and key: by slot.

    Where very many are equal only those that may be among the k are put in order.
    """
    chosen, tied = _split(scores, k)
    if len(chosen) + len(tied) > k:
        more, still = _split(popularity[slots[tied]], k - len(chosen))
        chosen, tied = np.concatenate((chosen, tied[more])), tied[still]
        wanted = k - len(chosen)
        if len(tied) > wanted:
            tied = tied[np.argpartition(key[slots[tied]], wanted - 1)[:wanted]]
    positions = np.concatenate((chosen, tied))
    at = slots[positions]
    return positions[ranked(scores[positions], popularity[at], key[at])]


def _split(values: NDArray[Any], k: int) -> tuple[Slots, Slots]:
    """Positions of the values larger than the k-th largest, and of those equal to it."""
    if len(values) <= k:
        return np.arange(len(values)), np.empty(0, dtype=np.int64)
    least = kth_largest(values, k)
    return np.flatnonzero(values > least), np.flatnonzero(values == least)
