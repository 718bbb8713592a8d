"""Several legs' scores -> one order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.retriever.columns import ColumnsView
from services.retriever.order import Mask, Slots, best
from souk.retriever.v1 import retriever_pb2

# Cormack, Clarke, Buettcher 2009.
RANK_OFFSET = 60
# At this rank, from 0, a discounted score counts half; what was chosen how: docs/search-quality.md.
HALF_RANK = 50
# What an item that holds all of the query has on top, where the best discounted score is 1.
WHOLE = 0.75


@dataclass(frozen=True)
class Found:
    """What one leg found, best first: slots, scores, its share in the fused score, whether its scores are cosines, and
    of a leg of words which slots of any leg hold all of the query."""

    slots: Slots
    scores: NDArray[np.float32]
    weight: float
    cosine: bool = False
    whole: Slots | None = None


@dataclass(frozen=True)
class Fused:
    """Candidates, best first; legs[i][j] is what leg i says of candidate j, NaN where it did not find it; wholes[i][j],
    for legs of words, whether j holds all of the query."""

    slots: Slots
    scores: NDArray[np.float64]
    legs: list[NDArray[np.float32]]
    wholes: list[Mask | None]


def fuse(found: Sequence[Found], how: retriever_pb2.Fusion.ValueType, columns: ColumnsView, k: int) -> Fused:
    """The best k of all legs. Equal scores stand in order of popularity, then of a key drawn from the id."""
    slots = np.unique(np.concatenate([leg.slots for leg in found]))
    scores = np.zeros(len(slots), dtype=np.float64)
    at = [np.searchsorted(slots, leg.slots) for leg in found]
    for leg, places in zip(found, at, strict=True):
        scores[places] += leg.weight * _part(leg, how)
        if how == retriever_pb2.FUSION_DISCOUNTED and leg.whole is not None:
            # A share says little of whether one word is missing; who typed two words wants both.
            scores[np.searchsorted(slots, leg.whole)] += leg.weight * WHOLE
    first = best(scores, slots, columns.popularity, columns.key, k)
    legs = []
    wholes: list[Mask | None] = []
    for leg, places in zip(found, at, strict=True):
        said = np.full(len(slots), np.nan, dtype=np.float32)
        said[places] = leg.scores
        legs.append(said[first])
        wholes.append(None if leg.whole is None else np.isin(slots[first], leg.whole))
    return Fused(slots[first], scores[first], legs, wholes)


def _part(leg: Found, how: retriever_pb2.Fusion.ValueType) -> NDArray[np.float64]:
    """The leg's part of the fused score of each item it found, before its weight."""
    if how == retriever_pb2.FUSION_RECIPROCAL_RANK:
        return 1.0 / (RANK_OFFSET + 1 + np.arange(len(leg.slots)))
    scores = leg.scores.astype(np.float64)
    if leg.cosine:
        # A cosine says how near the best is; divided by the best, the least bad neighbour would look like a match.
        return scores
    best = scores.max(initial=0.0)
    if best <= 0 and len(scores):
        # Nothing above zero to divide by without turning the order round.
        best = -scores.min()
    shares = scores / best if best else scores
    if how == retriever_pb2.FUSION_DISCOUNTED:
        # BM25F gives hundreds of items that hold the same one or two words nearly the same score; cosines alone would
        # order them, but its own order says more.
        shares *= HALF_RANK / (HALF_RANK + np.arange(len(shares)))
    return shares
