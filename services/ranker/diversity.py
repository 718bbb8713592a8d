"""The order of a list: by score, and among what is nearly as good, what differs from what stands above it."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from souk.types.v1 import types_pb2
from souk.vectors import Float32

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Likeness = Callable[[int], Floats]
"""Of the candidate at a place of the order: how alike each of n is to it, at most 1, (n,) in that order."""

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
# Those that are chosen for them are mostly among so many: their likeness comes of one product instead of one for each.
_AT_ONCE = 2 * _MIXED
# What a candidate keeps of its own beside its twin.
_LEAST_OWN = 0.01


class Limits(Protocol):
    """What may not have the next place; see services.ranker.exposure."""

    strict: bool
    """What is closed is left out; else it has the place where nothing else is left."""

    def closed(self) -> Bools:
        """Which of n candidates, in the order given, are closed: (n,)."""

    def add(self, at: int) -> None:
        """The candidate at `at` has the next place."""


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


class Mmr:
    """Maximal marginal relevance (Carbonell and Goldstein 1998): a candidate costs its likeness to the most alike of
    those chosen."""

    def __init__(self, n: int, likeness: Likeness) -> None:
        self.costs: Floats = np.zeros(n)
        self._likeness = likeness

    def add(self, at: int) -> None:
        """The candidate at `at` is chosen."""
        np.maximum(self.costs, self._likeness(at), out=self.costs)


class Dpp:
    """A determinantal point process, its most probable list built greedily (Chen, Zhang, Zhou, "Fast greedy MAP
    inference for determinantal point process", NeurIPS 2018): a candidate costs log(d) / log(0.01), where d is its part
    that none of those chosen explains, from 1 for nothing like them to 0.01 for a twin. Likeness to several adds up.

    The kernel is 0.99 x likeness + 0.01 x identity, so that twins keep a part of their own.
    """

    def __init__(self, n: int, likeness: Likeness) -> None:
        self.costs: Floats = np.zeros(n)
        self._likeness = likeness
        self._own = np.ones(n)
        # Columns of the Cholesky factor, a row for each candidate chosen.
        self._factor = np.zeros((min(n, _MIXED), n))
        self._chosen = 0

    def add(self, at: int) -> None:
        """The candidate at `at` is chosen; at most 100 are."""
        known = self._factor[: self._chosen]
        alike = (1 - _LEAST_OWN) * self._likeness(at)
        column = (alike - known[:, at] @ known) / math.sqrt(self._own[at])
        # No more can be explained than is left; likeness by brand and category, which is no kernel, might say so.
        np.clip(column, -np.sqrt(self._own), np.sqrt(self._own), out=column)
        self._factor[self._chosen] = column
        self._chosen += 1
        self._own = np.maximum(self._own - column**2, _LEAST_OWN)
        self.costs = np.log(self._own) / math.log(_LEAST_OWN)


KINDS: Mapping[str, type[Mmr] | type[Dpp]] = {"mmr": Mmr, "dpp": Dpp}


def mixed(
    order: Rows, scores: Floats, spread: Mmr | Dpp, trade_off: float, places: int, limits: Limits | None = None
) -> Rows:
    """The rows anew: place by place the row of largest

        score / best score - trade_off * its cost in `spread`, from 0 to 1

    and the first in `order` among equals, that the limits leave. `scores` (n,) are 0 or more and by row. Up to `places`
    rows are chosen so, the first 100 by their cost, too; the others follow in order.
    """
    best = float(scores[order[0]]) if len(order) else 0.0
    if best <= 0:
        trade_off = 0.0
    if not trade_off and limits is None:
        return order
    left = scores[order] / (best or 1.0)
    mixed_in = np.empty(len(order))
    chosen: list[int] = []
    for place in range(min(places, len(order))):
        mixing = trade_off and place < _MIXED
        if not mixing and limits is None:
            break
        value = left
        if mixing:
            np.multiply(spread.costs, trade_off, out=mixed_in)
            value = np.subtract(left, mixed_in, out=mixed_in)
        if limits is not None:
            allowed = np.where(limits.closed(), -np.inf, value)
            value = allowed if limits.strict or np.isfinite(allowed).any() else value
        at = int(value.argmax())
        if value[at] == -np.inf:
            break
        left[at] = -np.inf
        chosen.append(at)
        if mixing:
            spread.add(at)
        if limits is not None:
            limits.add(at)
    if limits is not None and limits.strict:
        return order[chosen]
    return np.concatenate((order[chosen], order[np.isfinite(left)]))


def likeness_of(order: Rows, vectors: Float32, present: Bools, candidates: types_pb2.CandidateColumns) -> Likeness:
    """How alike candidates are, in the order given: the cosine of vectors (n, dim) of length 1.

    Where one of two has no vector, half for the same category and half for the same brand.
    """
    vectors, present = vectors[order], present[order]
    categories = _codes(candidates.category, candidates.categories)[order]
    brands = _codes(candidates.brand, candidates.brands)[order]
    all_present = bool(present.all())

    def alike(rows: slice) -> Floats:
        cosine: Floats = (vectors[rows] @ vectors.T).astype(np.float64)
        if all_present:
            return cosine
        kin: Floats = (categories == categories[rows, None]) * 0.5 + (brands == brands[rows, None]) * 0.5
        return np.where(present & present[rows, None], cosine, kin)

    @cache
    def of_the_first() -> Floats:
        return alike(slice(_AT_ONCE))

    def likeness(at: int) -> Floats:
        found: Floats = of_the_first()[at] if at < _AT_ONCE else alike(slice(at, at + 1))[0]
        return found

    return likeness


def _codes(codes: Sequence[int], names: Sequence[str]) -> Floats:
    """Codes as numbers that equal each other where the names do; NaN, which equals nothing, where there is no name."""
    named = np.array([code if name else np.nan for code, name in enumerate(names)], np.float64)
    coded: Floats = named[np.array(codes, np.int64)]
    return coded


def _tie_key(item_id: str) -> int:
    """64 bits that say nothing of the item: neither its age nor the order of ids decides between equals."""
    return int.from_bytes(blake2b(item_id.encode(), digest_size=8).digest(), "little")
