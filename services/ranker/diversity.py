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


def by_score(scores: Floats, popularity: Floats, ids: Sequence[str]) -> Rows:
    """Rows, best first: larger score, then larger popularity, then smaller hash of the id. All of length n."""
    key = np.zeros(len(scores), np.uint64)
    order = np.lexsort((-popularity, -scores))
    equal = (np.diff(scores[order]) == 0) & (np.diff(popularity[order]) == 0)
    if equal.any():
        tied = np.zeros(len(scores), np.bool_)
        tied[:-1] |= equal
        tied[1:] |= equal
        for row in order[tied].tolist():
            key[row] = _tie_key(ids[row])
        order = np.lexsort((key, -popularity, -scores))
    return order


def mixed(order: Rows, scores: Floats, likeness: Callable[[int], Floats], trade_off: float, places: int) -> Rows:
    """The rows anew, by maximal marginal relevance (Carbonell and Goldstein 1998): place by place the row of largest

        score / best score - trade_off * (likeness to the most alike above it)

    and the first in `order` among equals. `scores` (n,) are 0 or more and by row; `likeness(at)` gives numbers of at
    most 1, (n,) in the order of `order`, for its row number `at`. At most the first `places` are chosen so.
    """
    best = scores[order[0]] if len(order) else 0.0
    if not trade_off or best <= 0:
        return order
    left = scores[order] / best
    most_alike = np.zeros(len(order))
    value = np.empty(len(order))
    chosen = []
    for _ in range(min(places, _MIXED, len(order))):
        np.multiply(most_alike, -trade_off, out=value)
        value += left
        at = int(value.argmax())
        left[at] = -np.inf
        chosen.append(at)
        np.maximum(most_alike, likeness(at), out=most_alike)
    return np.concatenate((order[chosen], order[np.isfinite(left)]))


def likeness_of(
    order: Rows, vectors: Float32, present: NDArray[np.bool_], candidates: types_pb2.CandidateColumns
) -> Callable[[int], Floats]:
    """How alike candidates are, in the order given: the cosine of vectors (n, dim) of length 1.

    Where one of two has no vector, half for the same category and half for the same brand.
    """
    vectors, present = vectors[order], present[order]
    categories = _codes(candidates.category, candidates.categories)[order]
    brands = _codes(candidates.brand, candidates.brands)[order]
    all_present = bool(present.all())

    def likeness(at: int) -> Floats:
        cosine: Floats = (vectors @ vectors[at]).astype(np.float64)
        if all_present:
            return cosine
        kin: Floats = (categories == categories[at]) * 0.5 + (brands == brands[at]) * 0.5
        return np.where(present & present[at], cosine, kin)

    return likeness


def _codes(codes: Sequence[int], names: Sequence[str]) -> Floats:
    """Codes as numbers that equal each other where the names do; NaN, which equals nothing, where there is no name."""
    named = np.array([code if name else np.nan for code, name in enumerate(names)], np.float64)
    coded: Floats = named[np.array(codes, np.int64)]
    return coded


def _tie_key(item_id: str) -> int:
    """64 bits that say nothing of the item: neither its age nor the order of ids decides between equals."""
    return int.from_bytes(blake2b(item_id.encode(), digest_size=8).digest(), "little")
