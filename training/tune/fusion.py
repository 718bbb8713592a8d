"""The retriever's fusion over legs that were asked for once, so that another weight costs no further search.

A test holds it to what the retriever answers.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CANDIDATES = 200
"""What the gateway asks the retriever for."""
DEPTH = 2 * CANDIDATES
"""How deep each of two legs then goes."""

_RANK_OFFSET = 60
_HALF_RANK = 50
_WHOLE = 0.75


@dataclass(frozen=True)
class Leg:
    """What one leg found, best first: places in the catalogue int64 (n,), scores float64 (n,).

    Of a leg of words, `certainty`: how sure it is of what was meant; `whole`: int64 (m,), the places of items of either
    leg that hold all of it. Scores of the leg of vectors are cosines; its `others` are items that it did not reach but
    words did.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float64]
    certainty: float = 1.0
    whole: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    others: "Leg | None" = None


def fuse(words: Leg, meaning: Leg, words_weight: float, fusion: str) -> NDArray[np.int64]:
    """The places of the first `CANDIDATES`, best first; `fusion` is one of services.domain.search.FUSIONS."""
    if fusion == "discounted" and meaning.others is not None:
        wanted = np.isin(meaning.others.items, words.items)
        items = np.concatenate((meaning.items, meaning.others.items[wanted]))
        meaning = Leg(items, np.concatenate((meaning.scores, meaning.others.scores[wanted])))
    items = np.union1d(words.items, meaning.items)
    scores = np.zeros(len(items))
    for leg, weight, cosine in ((words, words_weight * words.certainty, False), (meaning, 1 - words_weight, True)):
        scores[np.searchsorted(items, leg.items)] += weight * _part(leg, fusion, cosine)
        if fusion == "discounted":
            scores[np.isin(items, leg.whole)] += weight * _WHOLE
    return items[np.argsort(-scores, kind="stable")[:CANDIDATES]]


def _part(leg: Leg, fusion: str, cosine: bool) -> NDArray[np.float64]:
    if fusion == "reciprocal_rank":
        return 1.0 / (_RANK_OFFSET + 1 + np.arange(len(leg.items)))
    if cosine or not len(leg.scores):
        return leg.scores
    shares: NDArray[np.float64] = leg.scores / leg.scores.max()
    if fusion == "discounted":
        shares *= _HALF_RANK / (_HALF_RANK + np.arange(len(shares)))
    return shares
