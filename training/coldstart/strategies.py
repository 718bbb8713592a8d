"""Strategies for shoppers and items of whom little is known: each says of every item what speaks for it, by name.

None needs a learned vector of the item or of the shopper. What shoppers do with known items is carried to unknown ones
by their content: the rows of the tables "together" and "follows" are the behaviour vectors of known items, and those of
an unknown item are the mean of its nearest neighbours' in the content space.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from souk.vectors import Float32
from training.coldstart.segments import Segments, rates
from training.ranker.log import Bools, Floats, Ints, Log
from training.ranker.neighbours import Neighbours, find_neighbours, latest
from training.ranker.sequences.follows import find_follows
from training.ranker.situations import Facts, popularity

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
_PARTNERS = 100
_LATEST, _FADE = 20, 0.85
_NEAREST = 5
_AT_ONCE = 512
# Weight of a neighbour in the content space by its cosine: near ones count alone.
_SHARPNESS = 8


@dataclass(frozen=True)
class Tuning:
    """What may be tried."""

    likes: int = 20
    """Known neighbours in the content space from which an item takes what is known of them."""
    half_life: float = 90.0
    """Days, of popularity; means nothing without time."""


@dataclass(frozen=True)
class Strategies:
    """What a log says of n items, some of them unknown: those without any event that speaks for them."""

    facts: Facts
    content: Float32
    unknown: Bools
    popularity: Floats
    together: Neighbours
    basket: Neighbours
    follows: Neighbours
    like: Ints
    """The nearest known neighbours of each item in the content space, itself not among them: (n, k)."""
    likeness: Float32
    """What each of them weighs; a row sums to 1, or to 0 where the item has no content: (n, k)."""
    lifts: Float32

    @classmethod
    def of(
        cls, known: Log, facts: Facts, content: Float32, segments: Segments, until: float, tuning: Tuning
    ) -> "Strategies":
        """From the rows of a log that may be learned from, all of them before `until`. `content` (n, dim): vectors of
        length 1, or zeros."""
        n = len(known.item_ids)
        liked = known.liked
        shopper, item, session = known.shopper[liked], known.item[liked], known.session[liked]
        counts = popularity(known, np.ones(len(known.item), bool), until, tuning.half_life)
        unknown = np.bincount(item, minlength=n) == 0
        like, likeness = nearest_known(content, ~unknown & content.any(axis=1), tuning.likes)
        return cls(
            facts,
            content,
            unknown,
            counts,
            find_neighbours(shopper, item, n, _PARTNERS),
            find_neighbours(session, item, n, _PARTNERS),
            find_follows(shopper, item, n),
            like,
            likeness,
            segments.lifts(known, facts.category),
        )

    def features(self, log: Log, rows: slice, segments: Ints) -> Float32:
        """What each strategy says of every item to a shopper in these segments whose history are the rows of a log:
        (n, len(NAMES)), finite; 0 where it says nothing."""
        history = log.item[rows][log.liked[rows]]
        # Strategy by strategy in memory: each fills a row.
        said = dict(zip(NAMES, np.zeros((len(NAMES), len(self.unknown)), np.float32), strict=True))
        said["popularity"], said["demand"] = self._everybody
        if len(segments):
            said["segment"] = self.lifts[segments].sum(axis=0)
        if len(history):
            self._of_history(history, said)
        return np.stack([said[name] for name in NAMES]).T

    def _of_history(self, history: Ints, said: dict[str, Float32]) -> None:
        items, weights = latest(history, _LATEST, _FADE)
        vectors = self.content[items]
        profile = (weights / weights.sum()).astype(np.float32) @ vectors
        said["content"] = self.content @ (profile / np.float32(max(float(np.linalg.norm(profile)), 1e-12)))
        said["nearest"] = (vectors[:_NEAREST] @ self.content.T).max(axis=0)
        for name in ("together", "basket", "follows"):
            said[name] = getattr(self, name).of(items, weights, own=0.0)
        said["carried"] = self._carried(said["together"] + said["follows"])
        for name in ("together", "basket", "follows", "carried"):
            # Counts are spread over powers of ten.
            said[name] = np.log1p(100 * said[name])
        said["brand"] = _share(self.facts.brand[items], self.facts.brands)[self.facts.brand]
        kinds = _share(self.facts.category[items], len(self.facts.categories))
        said["category"] = (self.facts.alike @ kinds)[self.facts.category]
        said["again"] = np.log1p(np.bincount(history, minlength=len(self.unknown)).astype(np.float32))

    @cached_property
    def _everybody(self) -> tuple[Float32, Float32]:
        """Popularity, 0 for unknown items, and what it is among the items that each is like."""
        popular = np.log(rates(self.popularity))
        popular = (popular - popular.mean()).astype(np.float32)
        return np.where(self.unknown, np.float32(0), popular), self._carried(popular)

    def _carried(self, values: Float32) -> Float32:
        """The weighted mean of what is said of an item's known neighbours in the content space: (n,)."""
        found: Float32 = np.einsum("ij,ij->i", values[self.like], self.likeness)
        return found


def nearest_known(content: Float32, known: Bools, k: int) -> tuple[Ints, Float32]:
    """The k nearest known items of each of n by cosine, and their weights, cosine ** 8 over the sum: (n, k) both.

    `content` (n, dim), of length 1, or zeros: such an item has weights of 0. Fewer than k where fewer are known.
    """
    able = np.flatnonzero(known)
    k = min(k, max(len(able) - 1, 0))
    like = np.zeros((len(content), k), np.int64)
    weights = np.zeros((len(content), k), np.float32)
    if not k:
        return like, weights
    place = np.full(len(content), -1)
    place[able] = np.arange(len(able))
    others = content[able].T
    for begin in range(0, len(content), _AT_ONCE):
        part = np.arange(begin, min(begin + _AT_ONCE, len(content)))
        cosines = content[part] @ others
        own = np.flatnonzero(place[part] >= 0)
        cosines[own, place[part[own]]] = -np.inf
        found = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        like[part] = able[found]
        weights[part] = np.clip(np.take_along_axis(cosines, found, 1), 0, None) ** _SHARPNESS
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return like, weights


def _share(codes: Ints, size: int) -> Float32:
    """Share of each code; 0 for code 0, which is none."""
    counts = np.bincount(codes, minlength=size).astype(np.float32)
    counts[0] = 0
    return counts / np.float32(max(len(codes), 1))
