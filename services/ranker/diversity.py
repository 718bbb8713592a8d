"""The order of a list: by score, and among what is nearly as good, what differs from what stands above it."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from souk.types.v1 import types_pb2
from souk.vectors import Float32

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

TRADE_OFF: Mapping[int, float] = {
    # Who typed a query wants what answers it, and who looks at an item wants its like.
    types_pb2.SCENE_SEARCH: 0.05,
    types_pb2.SCENE_SIMILAR: 0.05,
    types_pb2.SCENE_HOME: 0.2,
    types_pb2.SCENE_CART: 0.15,
    types_pb2.SCENE_NEW_ARRIVALS: 0.2,
    types_pb2.SCENE_PROMOTION: 0.2,
    types_pb2.SCENE_CAMPAIGN: 0.1,
    # What was paid for is not moved.
    types_pb2.SCENE_SPONSORED: 0.0,
}
"""By scene: the share of the best score that an item may lose for being like one above it. An item never stands below
one whose score is smaller than its own by more than that."""

# Places that are mixed; what follows them stays in order of score.
_MIXED = 100


def by_score(scores: Floats, popularity: Floats, ids: list[str]) -> Rows:
    """Rows, best first: larger score, then larger popularity, then smaller hash of the id. Scores (n,)."""
    key = np.array([_tie_key(item_id) for item_id in ids], np.uint64)
    return np.lexsort((key, -popularity, -scores))


def mixed(order: Rows, scores: Floats, likeness: Callable[[int], Floats], trade_off: float, places: int) -> Rows:
    """The rows anew, by maximal marginal relevance (Carbonell and Goldstein 1998): place by place the row of largest

        score / best score - trade_off * (likeness to the most alike above it)

    and the first in `order` among equals. `likeness(row)` gives (n,) numbers of 0 to 1; scores are 0 or more.
    At most the first `places` are chosen so.
    """
    best = scores[order[0]]
    if not trade_off or best <= 0:
        return order
    value = scores[order] / best
    most_alike = np.zeros(len(order))
    left = np.ones(len(order), np.bool_)
    chosen = []
    for _ in range(min(places, _MIXED, len(order))):
        at = int(np.argmax(np.where(left, value - trade_off * most_alike, -np.inf)))
        left[at] = False
        chosen.append(at)
        np.maximum(most_alike, likeness(int(order[at]))[order], out=most_alike)
    return np.concatenate((order[chosen], order[left]))


def likeness_of(
    vectors: Float32, present: NDArray[np.bool_], candidates: types_pb2.CandidateColumns
) -> Callable[[int], Floats]:
    """How alike the candidates are: the cosine of vectors (n, dim) of length 1, 0 where it is negative.

    Where one of two has no vector, half for the same category and half for the same brand.
    """
    categories = _codes(candidates.category, candidates.categories)
    brands = _codes(candidates.brand, candidates.brands)

    def likeness(row: int) -> Floats:
        alike: Floats = (categories == categories[row]) * 0.5 + (brands == brands[row]) * 0.5
        if present[row]:
            cosine = np.clip((vectors @ vectors[row]).astype(np.float64), 0.0, 1.0)
            alike = np.where(present, cosine, alike)
        return alike

    return likeness


def _codes(codes: Sequence[int], names: Sequence[str]) -> Floats:
    """Codes as numbers that equal each other where the names do; NaN, which equals nothing, where there is no name."""
    named = np.array([code if name else np.nan for code, name in enumerate(names)], np.float64)
    coded: Floats = named[np.array(codes, np.int64)]
    return coded


def _tie_key(item_id: str) -> int:
    """64 bits that say nothing of the item: neither its age nor the order of ids decides between equals."""
    return int.from_bytes(blake2b(item_id.encode(), digest_size=8).digest(), "little")
