"""The retriever's fusion over legs that were asked for once, so that another weight costs no further search.

A test holds it to what the retriever answers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CANDIDATES = 200
"""What the gateway asks the retriever for."""
DEPTH = 2 * CANDIDATES
"""How deep each of two legs then goes."""

_RANK_OFFSET = 60


@dataclass(frozen=True)
class Leg:
    """What one leg found, best first: places in the catalogue int64 (n,), scores float64 (n,)."""

    items: NDArray[np.int64]
    scores: NDArray[np.float64]


def fuse(words: Leg, meaning: Leg, words_weight: float, fusion: str) -> NDArray[np.int64]:
    """The places of the first `CANDIDATES`, best first; `fusion` is one of services.domain.search.FUSIONS."""
    items = np.union1d(words.items, meaning.items)
    scores = np.zeros(len(items))
    for leg, weight, cosine in ((words, words_weight, False), (meaning, 1 - words_weight, True)):
        scores[np.searchsorted(items, leg.items)] += weight * _part(leg, fusion, cosine)
    return items[np.argsort(-scores, kind="stable")[:CANDIDATES]]


def _part(leg: Leg, fusion: str, cosine: bool) -> NDArray[np.float64]:
    if fusion == "reciprocal_rank":
        return 1.0 / (_RANK_OFFSET + 1 + np.arange(len(leg.items)))
    if cosine or not len(leg.scores):
        return leg.scores
    shares: NDArray[np.float64] = leg.scores / leg.scores.max()
    return shares
