"""What needs no learned weights, beside the cold start's strategies: popularity, by segment, likeness of content."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from services.domain.blended import compared
from services.domain.neighbours import latest
from souk.vectors import Float32
from training.coldstart.segments import Segments, rates, shrunk
from training.evaluate.coldstart_moments import Asked
from training.ranker.log import Floats, Ints
from training.ranker.situations import Facts, popularity
from training.whitening import whitening

Settings = Mapping[str, Any]
Scores = Callable[[int, slice], Float32]
"""From the number of a moment and the rows of its history to what is said of every item, (items,)."""

POPULARITY_TRIALS: tuple[Settings, ...] = tuple({"half_life": days} for days in (7, 30, 90, 365))
SEGMENT_TRIALS: tuple[Settings, ...] = tuple({"prior": events} for events in (30, 300, 3000, 30_000))
CONTENT_TRIALS: tuple[Settings, ...] = (
    {"fade": 1.0, "whiten": False},
    {"fade": 0.8, "whiten": False},
    {"fade": 1.0, "whiten": True},
    {"fade": 0.8, "whiten": True},
)
_LATEST = 100
_HALF_LIFE = 90.0
# What counts of an item in a category that the history does not hold.
_ELSEWHERE = 0.01


@dataclass(frozen=True)
class Told:
    """What is told of the items and the shoppers of a log, beside the events."""

    facts: Facts
    segments: Segments

    def content(self, whiten: bool) -> Float32:
        """Content vectors of length 1, zeros where an item has none: as the encoder made them, or whitened."""
        return self._whitened if whiten else self.facts.content

    @cached_property
    def _whitened(self) -> Float32:
        content = self.facts.content
        readable = content.any(axis=1)
        return compared(content, *whitening(content[readable])) if readable.sum() >= 2 else content


def popularity_scores(asked: Asked, told: Told, settings: Settings, seed: int) -> Scores:
    """Events that speak for an item, decayed with `half_life` days."""
    counts = _popularity(asked, settings["half_life"]).astype(np.float32)
    return lambda number, rows: counts


def segment_scores(asked: Asked, told: Told, settings: Settings, seed: int) -> Scores:
    """The mean rate of an item in the shopper's segments, shrunk to everybody's by `prior` events, times the share of
    its category in the history."""
    overall = rates(_popularity(asked, _HALF_LIFE))
    known, facts = asked.known, told.facts
    n = len(overall)
    by_segment = np.zeros((len(told.segments.names), n), np.float32)
    rows: list[list[Ints]] = [[] for _ in told.segments.names]
    for shopper, codes in enumerate(told.segments.of):
        own = np.arange(known.starts[shopper], known.starts[shopper + 1])
        for code in codes.tolist():
            rows[code].append(own)
    for code, parts in enumerate(rows):
        chosen = np.concatenate(parts or [np.empty(0, np.int64)])
        counts = np.bincount(known.item[chosen[known.liked[chosen]]], minlength=n)
        by_segment[code] = shrunk(counts, float(counts.sum()), overall, settings["prior"])

    def scores(number: int, history: slice) -> Float32:
        codes = told.segments.of[int(asked.shopper[number])]
        found = by_segment[codes].mean(axis=0) if len(codes) else overall
        items = asked.log.item[history]
        if len(items):
            kinds = np.bincount(facts.category[items], minlength=len(facts.categories)) / len(items)
            found = found * ((facts.alike @ kinds)[facts.category] + _ELSEWHERE)
        return found.astype(np.float32)

    return scores


def content_scores(asked: Asked, told: Told, settings: Settings, seed: int) -> Scores:
    """Cosine with the mean content vector of the history, each item `fade` times the weight of the one after it;
    popularity where there is no history to tell of."""
    content = told.content(settings["whiten"])
    popular = _popularity(asked, _HALF_LIFE).astype(np.float32)

    def scores(number: int, history: slice) -> Float32:
        items, weights = latest(asked.log.item[history], _LATEST, settings["fade"])
        mean = weights.astype(np.float32) @ content[items]
        length = float(np.linalg.norm(mean))
        if length < 1e-6:
            return popular
        found: Float32 = content @ (mean / length)
        return found

    return scores


def _popularity(asked: Asked, half_life: float) -> Floats:
    return popularity(asked.known, np.ones(len(asked.known.item), bool), asked.until, half_life)
