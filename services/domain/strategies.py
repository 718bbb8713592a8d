"""Strategies for shoppers and items of whom little is known: each says of every item what speaks for it, by name; and
their blend by confidence. One code for what is served and what is measured.

None needs a learned vector of the item or of the shopper. What shoppers do with known items is carried to unknown ones
by their content: the rows of the tables "together" and "follows" are the behaviour vectors of known items, and those of
an unknown item are the mean of its nearest neighbours' in the content space.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from services.domain.neighbours import Ints, Neighbours, latest
from souk.vectors import Float32

Bools = NDArray[np.bool_]

NAMES = (
    "popularity",
    "demand",
    "segment",
    "content",
    "nearest",
    "together",
    "basket",
    "follows",
    "carried",
    "brand",
    "category",
    "again",
)
_LATEST, _FADE = 20, 0.85
_NEAREST = 5
_AT_ONCE = 512
# Weight of a neighbour in the content space by its cosine: near ones count alone.
_SHARPNESS = 8
# Events after which a history counts as half known.
_HALF_KNOWN = 3.0


@dataclass(frozen=True)
class Strategies:
    """What a log says of n items, some of them unknown: those without any event that speaks for them."""

    content: Float32
    """Of length 1, or zeros: (n, dim)."""
    unknown: Bools
    popular: Float32
    """Log of the share of events, less the mean: (n,)."""
    together: Neighbours
    basket: Neighbours
    follows: Neighbours
    like: Ints
    """The nearest known neighbours of each item in the content space, itself not among them: (n, k)."""
    likeness: Float32
    """What each of them weighs; a row sums to 1, or to 0 where the item has no content: (n, k)."""
    lifts: Float32
    """How much more often than all shoppers a segment takes an item, as a logarithm: (segments, n)."""
    brand: Ints
    """0 for none: (n,)."""
    category: Ints
    """0 for none: (n,)."""
    alike: Float32
    """How much of a share at one category counts at another: (categories, categories)."""

    def features(self, history: Ints, segments: Ints) -> Float32:
        """What each strategy says of every item to a shopper in these segments who liked these items, oldest first:
        (n, len(NAMES)), finite; 0 where it says nothing."""
        # Strategy by strategy in memory: each fills a row.
        said = dict(zip(NAMES, np.zeros((len(NAMES), len(self.unknown)), np.float32), strict=True))
        said["popularity"], said["demand"] = self._everybody
        if len(segments):
            said["segment"] = self.lifts[segments].sum(axis=0)
        if len(history):
            self._of_history(history, said)
        return np.stack([said[name] for name in NAMES]).T

    @cached_property
    def _everybody(self) -> tuple[Float32, Float32]:
        """Popularity, 0 for unknown items, and what it is among the items that each is like."""
        return np.where(self.unknown, np.float32(0), self.popular), self.carried(self.popular)

    def carried(self, values: Float32) -> Float32:
        """The weighted mean of what is said of an item's known neighbours in the content space: (n,)."""
        found: Float32 = np.einsum("ij,ij->i", values[self.like], self.likeness)
        return found

    def _of_history(self, history: Ints, said: dict[str, Float32]) -> None:
        items, weights = latest(history, _LATEST, _FADE)
        vectors = self.content[items]
        if vectors.any():
            profile = (weights / weights.sum()).astype(np.float32) @ vectors
            profile /= np.float32(max(float(np.linalg.norm(profile)), 1e-12))
            # One pass over the catalogue's vectors.
            near = np.concatenate([profile[None], vectors[:_NEAREST]]) @ self.content.T
            said["content"], said["nearest"] = near[0], near[1:].max(axis=0)
        for name in ("together", "basket", "follows"):
            said[name] = getattr(self, name).of(items, weights, own=0.0)
        said["carried"] = self.carried(said["together"] + said["follows"])
        for name in ("together", "basket", "follows", "carried"):
            # Counts are spread over powers of ten.
            said[name] = np.log1p(100 * said[name])
        said["brand"] = _share(self.brand[items], int(self.brand.max(initial=0)) + 1)[self.brand]
        said["category"] = (self.alike @ _share(self.category[items], len(self.alike)))[self.category]
        said["again"] = np.log1p(np.bincount(history, minlength=len(self.unknown)).astype(np.float32))


@dataclass(frozen=True)
class Blend:
    """score = features @ (weights[g, 0] + confidence * weights[g, 1]) + bias[g, 0] + confidence * bias[g, 1].

    g is 1 for an unknown item, confidence is events / (events + 3). weights (2, 2, len(NAMES)), bias (2, 2), float32.
    Scores are log-odds of being next, in one unit for known and unknown items.
    """

    weights: Float32
    bias: Float32

    def scores(self, features: Float32, unknown: Bools, events: int) -> Float32:
        """Of n items, (n,)."""
        weights = self.weights[:, 0] + confidence(events) * self.weights[:, 1]
        said = features @ weights.T + self.bias[:, 0] + confidence(events) * self.bias[:, 1]
        found: Float32 = np.where(unknown, said[:, 1], said[:, 0]).astype(np.float32)
        return found


def confidence(events: int) -> float:
    """How far the history speaks for itself: 0 without any event, 1/2 with three, towards 1."""
    return events / (events + _HALF_KNOWN)


def nearest_known(content: Float32, known: Bools, k: int, first: int = 0) -> tuple[Ints, Float32]:
    """The k nearest known items by cosine of each of n items, from the one numbered `first` on, and their weights,
    cosine ** 8 over the sum: (n - first, k) both.

    `content` (n, dim), of length 1, or zeros: such an item has weights of 0. Fewer than k where fewer are known.
    """
    able = np.flatnonzero(known)
    k = min(k, max(len(able) - 1, 0))
    like = np.zeros((len(content), k), np.int64)
    weights = np.zeros((len(content), k), np.float32)
    if not k:
        return like[first:], weights[first:]
    place = np.full(len(content), -1)
    place[able] = np.arange(len(able))
    others = content[able].T
    for begin in range(first, len(content), _AT_ONCE):
        part = np.arange(begin, min(begin + _AT_ONCE, len(content)))
        cosines = content[part] @ others
        own = np.flatnonzero(place[part] >= 0)
        cosines[own, place[part[own]]] = -np.inf
        found = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        like[part] = able[found]
        weights[part] = np.clip(np.take_along_axis(cosines, found, 1), 0, None) ** _SHARPNESS
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return like[first:], weights[first:]


def _share(codes: Ints, size: int) -> Float32:
    """Share of each code; 0 for code 0, which is none."""
    counts = np.bincount(codes, minlength=size).astype(np.float32)
    counts[0] = 0
    return counts / np.float32(max(len(codes), 1))
