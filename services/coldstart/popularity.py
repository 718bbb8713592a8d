"""What is popular: over all, by category and by segment (country, age band), newer events counting more.

An event of weight w at time t counts w * 2^(t / half life), t from a landmark that moves on every 500 half lives, so
that sums are hardly ever decayed again (forward decay: Cormode, Shkapenyuk, Srivastava, Xu, "Forward Decay", ICDE
2009). An item's own popularity, as the shop told it, adds
less than one view: it orders items of which events say nothing yet. A second sum that forgets within days, held against
the first, tells whose demand rises. What a forgotten shopper did stays in the sums, in
which no one can be found, until the next start makes them anew from the log.
"""

import heapq
import math
import threading
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from operator import itemgetter
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from services.coldstart.log import Facts, Happening
from services.coldstart.shelf import roots
from services.domain.demand import LATELY_DAYS, WEIGHTS, rising, trend
from services.domain.largest import kth_largest

MAX_LISTED = 500
_DAY_MS = 86_400_000
_LATELY_MS = LATELY_DAYS * _DAY_MS
# Half lives after which sums are brought back to one of now: 2^t must stay a finite number.
_MOST_HALF_LIVES = 500
# What the shop says of an item counts less than one view.
_TOLD = 0.99
_UNTOLD, _SELLABLE, _UNSELLABLE = range(3)

Scored = Sequence[tuple[str, float]]
Rows = NDArray[np.integer]


class Popularity:
    """Sums by item, over all and by segment. Grows with the catalogue; of items that nobody told of at most
    `max_untold` are kept, and a segment `max_segment_items`. Written by one thread, read from any."""

    def __init__(
        self,
        half_life_days: float,
        max_untold: int = 200_000,
        max_segments: int = 256,
        max_segment_items: int = 5_000,
    ) -> None:
        self._half_life_ms = half_life_days * _DAY_MS
        self._max_untold = max_untold
        self._max_segments = max_segments
        self._max_segment_items = max_segment_items
        self._items = _Items()
        self._segments: dict[str, dict[str, float]] = {}
        self._latest_ms: int | None = None
        self._landmark_ms = 0
        self._changing = threading.Lock()
        self.charts = Charts(self)
        """As of the last refresh, or of when they were first asked for since."""

    def put(self, item: str, facts: Facts) -> None:
        """Takes in what the shop told of an item."""
        with self._changing:
            self._items.put(item, facts)

    def add(self, happenings: Iterable[Happening]) -> None:
        """Counts events."""
        with self._changing:
            for event in happenings:
                weight = WEIGHTS.get(event.type, 0.0)
                if not weight:
                    continue
                self._latest_ms = event.time_ms if self._latest_ms is None else max(self._latest_ms, event.time_ms)
                self._follow(event.time_ms)
                row = self._items.row(event.item)
                _count(self._items.lately, row, weight * self._growth(event.time_ms, _LATELY_MS))
                weight *= self._growth(event.time_ms, self._half_life_ms)
                _count(self._items.usual, row, weight)
                for name in event.segments:
                    if name not in self._segments and len(self._segments) >= self._max_segments:
                        continue
                    _count_some(self._segments.setdefault(name, {}), event.item, weight, self._max_segment_items)
                if self._items.untold > 2 * self._max_untold:
                    self._items.drop_untold(self._max_untold)

    def refresh(self) -> None:
        """Has the charts made anew when they are next asked for."""
        self.charts = Charts(self)

    # For Charts, each under the lock.

    def overall(self) -> Scored:
        """What events say, plus the shop's own popularity of items that can be sold."""
        with self._changing:
            return self._best(np.arange(len(self._items.ids)))

    def category(self, path: str) -> Scored:
        """The same of the items in a category or below it."""
        with self._changing:
            return self._best(self._items.within(path))

    def departments(self) -> list[str]:
        """The top categories, sorted."""
        with self._changing:
            return sorted(path for path in self._items.below if len(roots(path)) == 1)

    def segment(self, name: str) -> Scored:
        """What the shoppers of a segment did."""
        with self._changing:
            items, unit = self._items, self._unit(self._half_life_ms)
            counts = self._segments.get(name, {}).items()
            return best_first({item: count / unit for item, count in counts if items.can_be_listed(item)})[:MAX_LISTED]

    def rising(self) -> Scored:
        """Items whose demand rises, with the trend of services.domain.demand; at most MAX_RISING."""
        with self._changing:
            items = self._items
            n = len(items.ids)
            rows = np.flatnonzero((items.usual[:n] > 0) & (items.state[:n] != _UNSELLABLE))
            trends = trend(
                items.lately[rows] / self._unit(_LATELY_MS), items.usual[rows] / self._unit(self._half_life_ms)
            )
            return [(items.ids[rows[place]], float(trends[place])) for place in rising(trends).tolist()]

    def _unit(self, half_life_ms: float) -> float:
        """What an event of now counts."""
        return self._growth(self._latest_ms, half_life_ms) if self._latest_ms is not None else 1.0

    def _growth(self, time_ms: int, half_life_ms: float) -> float:
        # Above 0: sums are divided by one of these, and events may be of long before 1970.
        return math.exp2(max(-1000.0, (time_ms - self._landmark_ms) / half_life_ms))

    def _follow(self, time_ms: int) -> None:
        """Moves the landmark to a time that is many half lives after it."""
        after = time_ms - self._landmark_ms
        if after <= _MOST_HALF_LIVES * min(self._half_life_ms, _LATELY_MS):
            return
        self._landmark_ms = time_ms
        less = 0.5 ** (after / self._half_life_ms)
        self._items.usual *= less
        self._items.lately *= 0.5 ** (after / _LATELY_MS)
        for sums in self._segments.values():
            for item in sums:
                sums[item] *= less

    def _best(self, rows: Rows) -> Scored:
        """The best of some rows that can be listed; of equals those whose ids have the lower checksum, so that the
        letters of an id are worth nothing."""
        items = self._items
        rows = rows[items.state[rows] != _UNSELLABLE]
        highest = float(items.told[: len(items.ids)].max(initial=0.0)) or 1.0
        scores = items.usual[rows] / self._unit(self._half_life_ms) + _TOLD * items.told[rows] / highest
        if len(rows) > MAX_LISTED:
            least = kth_largest(scores, MAX_LISTED)
            above, equal = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
            if (free := MAX_LISTED - len(above)) < len(equal):
                equal = equal[np.argpartition(items.lot[rows[equal]], free - 1)[:free]]
            chosen = np.concatenate([above, equal])
            rows, scores = rows[chosen], scores[chosen]
        order = np.lexsort((items.lot[rows], -scores))
        return [
            (items.ids[row], score) for row, score in zip(rows[order].tolist(), scores[order].tolist(), strict=True)
        ]


class Charts:
    """Lists of (item, score), best first, at most 500 each. Each is made when it is first asked for: of thousands of
    categories a few are asked for between two refreshes."""

    def __init__(self, popularity: Popularity) -> None:
        self._popularity = popularity
        self._made: dict[tuple[str, str], Scored] = {}

    @property
    def overall(self) -> Scored:
        """Of all items."""
        return self._kept(("overall", ""), self._popularity.overall)

    @property
    def rising(self) -> Scored:
        """Items whose demand rises, with their trend."""
        return self._kept(("rising", ""), self._popularity.rising)

    @property
    def breadth(self) -> Scored:
        """The best of every top category, then the second of each, and so on; scored by 1 / place."""
        return self._kept(("breadth", ""), self._by_turns)

    def category(self, path: str) -> Scored:
        """Of the items in a category or below it; empty where there are none."""
        return self._kept(("category", path), partial(self._popularity.category, path))

    def segment(self, name: str) -> Scored:
        """Of the shoppers in a segment; empty where none did anything."""
        return self._kept(("segment", name), partial(self._popularity.segment, name))

    def _by_turns(self) -> Scored:
        tops = [self.category(path) for path in self._popularity.departments()]
        items: list[str] = []
        for turn in zip_longest(*tops):
            if len(items) >= MAX_LISTED:
                break
            items += [item for item, _ in sorted(filter(None, turn), key=lambda each: (-each[1], each[0]))]
        return [(item, 1.0 / (1 + place)) for place, item in enumerate(items[:MAX_LISTED])]

    def _kept(self, name: tuple[str, str], make: Callable[[], Scored]) -> Scored:
        """Made once; by two threads at once for all the harm that does."""
        made = self._made.get(name)
        if made is None:
            made = make()
            if made:  # Names that a caller made up are not kept.
                self._made[name] = made
        return made


class _Items:
    """A row for each item that was told of or met in an event. Not for several threads at once."""

    def __init__(self) -> None:
        self._row: dict[str, int] = {}
        self.ids: list[str] = []
        self._allocate(1024)
        self.untold = 0
        """How many of the items nobody told of."""
        self.below: dict[str, list[int]] = {}
        """The numbers of the whole paths in and below each category."""
        self._paths: dict[str, int] = {}
        self._members: list[array[int]] = []
        """Rows by the number of their path."""

    def _allocate(self, n: int) -> None:
        self.usual = np.zeros(n)
        self.lately = np.zeros(n)
        self.told = np.zeros(n)
        """log(1 + the shop's own popularity)."""
        self.lot = np.zeros(n, np.uint32)
        """Decides between equals."""
        self.state = np.zeros(n, np.int8)
        self._path = np.full(n, -1, np.int32)

    def row(self, item: str) -> int:
        """The item's row; a new one where it has none."""
        row = self._row.get(item)
        if row is None:
            row = self._row[item] = len(self.ids)
            if row == len(self.lot):
                self._keep(np.arange(row), 2 * row)
            self.ids.append(item)
            self.lot[row] = crc32(item.encode())
            self.untold += 1
        return row

    def put(self, item: str, facts: Facts) -> None:
        """What was told of an item, in place of what was told before."""
        row = self.row(item)
        self.untold -= self.state[row] == _UNTOLD
        self.state[row] = _SELLABLE if facts.sellable else _UNSELLABLE
        self.told[row] = math.log1p(facts.popularity)
        path = self._number(facts.category) if facts.category else -1
        if path != (before := int(self._path[row])):
            if before >= 0:
                self._members[before].remove(row)
            if path >= 0:
                self._members[path].append(row)
            self._path[row] = path

    def within(self, path: str) -> Rows:
        """Rows of the items in a category or below it."""
        found = [np.array(self._members[number], np.int64) for number in self.below.get(path, ())]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def can_be_listed(self, item: str) -> bool:
        """Whether nobody told that it cannot be sold."""
        row = self._row.get(item)
        return row is not None and self.state[row] != _UNSELLABLE

    def drop_untold(self, most: int) -> None:
        """Of the items nobody told of keeps those with the largest sums."""
        untold = np.flatnonzero(self.state[: len(self.ids)] == _UNTOLD)
        out = untold[np.argsort(-self.usual[untold], kind="stable")[most:]]
        kept = np.delete(np.arange(len(self.ids)), out)
        self.ids = [self.ids[row] for row in kept.tolist()]
        self._row = {item: row for row, item in enumerate(self.ids)}
        self._keep(kept, len(self.lot))
        self.untold = most
        for members in self._members:
            del members[:]
        for row in np.flatnonzero(self._path[: len(self.ids)] >= 0).tolist():
            self._members[self._path[row]].append(row)

    def _keep(self, rows: Rows, n: int) -> None:
        """Arrays of length n that begin with some rows of those before."""
        before = {name: getattr(self, name) for name in ("usual", "lately", "told", "lot", "state", "_path")}
        self._allocate(n)
        for name, values in before.items():
            getattr(self, name)[: len(rows)] = values[rows]

    def _number(self, path: str) -> int:
        number = self._paths.get(path)
        if number is None:
            number = self._paths[path] = len(self._members)
            self._members.append(array("I"))
            for root in roots(path):
                self.below.setdefault(root, []).append(number)
        return number


def best_first(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    """Highest score first, of equals in order of their ids."""
    ranked = sorted(scores.items(), key=itemgetter(0))
    ranked.sort(key=itemgetter(1), reverse=True)  # Two sorts by one thing each are faster than one by two.
    return ranked


def _count(sums: NDArray[np.float64], row: int, weight: float) -> None:
    sums[row] = max(0.0, sums[row] + weight)


def _count_some(sums: dict[str, float], item: str, weight: float, limit: int) -> None:
    sums[item] = max(0.0, sums.get(item, 0.0) + weight)
    if len(sums) > 2 * limit:
        kept = heapq.nlargest(limit, sums.items(), key=lambda each: each[1])
        sums.clear()
        sums.update(kept)
