"""What is popular: over all, by category and by segment (country, age band), newer events counting more.

An event of weight w at time t counts w * 2^(t / half life), so that sums never need to be decayed again (forward decay:
Cormode, Shkapenyuk, Srivastava, Xu, "Forward Decay", ICDE 2009). An item's own popularity, as the shop told it, adds
less than one view: it orders items of which events say nothing yet. A second sum that forgets within days, held against
the first, tells whose demand rises. What a forgotten shopper did stays in the sums, in
which no one can be found, until the next start makes them anew from the log.
"""

import heapq
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.coldstart.log import Facts, Happening
from services.coldstart.shelf import roots
from services.domain.demand import LATELY_DAYS, WEIGHTS, rising, trend

MAX_LISTED = 500
_DAY_MS = 86_400_000
_LATELY_MS = LATELY_DAYS * _DAY_MS
# 2020-01-01: keeps 2^(days / half life) a finite number for half lives down to a few days.
_LANDMARK_MS = 1_577_836_800_000

Scored = Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Charts:
    """Lists of (item, score), best first, at most 500 each."""

    overall: Scored = ()
    categories: Mapping[str, Scored] = field(default_factory=dict)
    """By category path, every level."""
    segments: Mapping[str, Scored] = field(default_factory=dict)
    rising: Scored = ()
    """Items whose demand rises, with the trend of services.domain.demand; at most MAX_RISING."""


class Popularity:
    """Sums by item, over all and by segment; at most `max_items` and, a segment, `max_segment_items` are kept."""

    def __init__(
        self,
        half_life_days: float,
        max_items: int = 200_000,
        max_segments: int = 256,
        max_segment_items: int = 5_000,
    ) -> None:
        self._half_life_ms = half_life_days * _DAY_MS
        self._max_items = max_items
        self._max_segments = max_segments
        self._max_segment_items = max_segment_items
        self._all: dict[str, float] = {}
        self._lately: dict[str, float] = {}
        self._segments: dict[str, dict[str, float]] = {}
        self._latest_ms: int | None = None
        self._changing = threading.Lock()
        self.charts = Charts()
        """As of the last refresh."""

    def add(self, happenings: Iterable[Happening]) -> None:
        """Counts events."""
        with self._changing:
            for event in happenings:
                weight = WEIGHTS.get(event.type, 0.0)
                if not weight:
                    continue
                self._latest_ms = max(self._latest_ms or event.time_ms, event.time_ms)
                _count(self._lately, event.item, weight * _growth(event.time_ms, _LATELY_MS), self._max_items)
                weight *= _growth(event.time_ms, self._half_life_ms)
                _count(self._all, event.item, weight, self._max_items)
                for name in event.segments:
                    if name not in self._segments and len(self._segments) >= self._max_segments:
                        continue
                    _count(self._segments.setdefault(name, {}), event.item, weight, self._max_segment_items)

    def refresh(self, facts: Sequence[tuple[str, Facts]]) -> None:
        """Makes the charts anew: what events say, plus the shop's own popularity of items that can be sold."""
        with self._changing:
            counts = dict(self._all)
            segments = {name: dict(counts) for name, counts in self._segments.items()}
            lately = dict(self._lately)
            unit = _growth(self._latest_ms, self._half_life_ms) if self._latest_ms is not None else 1.0
            lately_unit = _growth(self._latest_ms, _LATELY_MS) if self._latest_ms is not None else 1.0
        known = dict(facts)
        highest = math.log1p(max((each.popularity for each in known.values()), default=0.0)) or 1.0
        scores = {item: count / unit for item, count in counts.items() if item not in known}
        for item, each in known.items():
            if each.sellable:
                scores[item] = counts.get(item, 0.0) / unit + 0.99 * math.log1p(each.popularity) / highest
        by_category: dict[str, list[tuple[str, float]]] = {}
        for item, score in scores.items():
            if (fact := known.get(item)) is not None:
                for category in roots(fact.category):
                    by_category.setdefault(category, []).append((item, score))
        self.charts = Charts(
            _best(scores.items()),
            {category: _best(members) for category, members in by_category.items()},
            {
                name: _best((item, count / unit) for item, count in segment.items() if item in scores)
                for name, segment in segments.items()
            },
            _rising([item for item in counts if item in scores], lately, lately_unit, counts, unit),
        )


def _growth(time_ms: int, half_life_ms: float) -> float:
    return math.exp2(max(-1000.0, min(1000.0, (time_ms - _LANDMARK_MS) / half_life_ms)))


def _rising(
    items: list[str], lately: Mapping[str, float], lately_unit: float, usual: Mapping[str, float], unit: float
) -> Scored:
    trends = trend(
        np.array([lately.get(item, 0.0) / lately_unit for item in items]),
        np.array([usual[item] / unit for item in items]),
    )
    return [(items[place], float(trends[place])) for place in rising(trends).tolist()]


def _count(sums: dict[str, float], item: str, weight: float, limit: int) -> None:
    sums[item] = max(0.0, sums.get(item, 0.0) + weight)
    if len(sums) > 2 * limit:
        kept = heapq.nlargest(limit, sums.items(), key=lambda each: each[1])
        sums.clear()
        sums.update(kept)


def _best(scored: Iterable[tuple[str, float]]) -> Scored:
    return heapq.nsmallest(MAX_LISTED, scored, key=lambda each: (-each[1], each[0]))
