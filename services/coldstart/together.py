"""Which items are met by the same shoppers, or bought in one basket: bounded counts of pairs.

The score of a pair is (shoppers or baskets with both) / sqrt(those with one * those with the other), the cosine of
item-based collaborative filtering (Sarwar, Karypis, Konstan, Riedl, WWW 2001). What a forgotten shopper did stays in
the counts, in which no one can be found, until the next start makes them anew from the log.
"""

import heapq
import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from services.coldstart.log import Happening
from services.coldstart.popularity import best_first

_Window = deque[tuple[str, int]]


class Together:
    """Pairs of items that one shopper met within `span_ms` of each other, among the latest `window` items.

    span_ms None: however far apart. Kept are the most frequent partners of an item (`neighbours` to three times as
    many), `max_items` items and the windows of the `max_shoppers` shoppers seen last.
    """

    def __init__(
        self,
        types: frozenset[int],
        span_ms: int | None,
        window: int = 12,
        neighbours: int = 40,
        max_items: int = 100_000,
        max_shoppers: int = 50_000,
    ) -> None:
        self._types = types
        self._span_ms = span_ms
        self._window = window
        self._neighbours = neighbours
        self._most = 3 * neighbours
        self._max_items = max_items
        self._max_shoppers = max_shoppers
        self._single: dict[str, int] = {}
        self._pairs: dict[str, dict[str, int]] = {}
        self._windows: OrderedDict[int, _Window] = OrderedDict()
        self._changing = threading.Lock()

    def add(self, happenings: Iterable[Happening]) -> None:
        """Counts events, in order of arrival."""
        with self._changing:
            for event in happenings:
                if event.type in self._types:
                    self._add(event)

    def forget(self, shoppers: Iterable[int]) -> None:
        """Drops the windows of shoppers."""
        with self._changing:
            for shopper in shoppers:
                self._windows.pop(shopper, None)

    def near(
        self, weights: Mapping[str, float], n: int, wanted: Callable[[str], bool] = lambda _item: True
    ) -> list[tuple[str, float]]:
        """The n wanted items met most with those given: weighted mean of the pairs' scores, 0 to 1, best first.

        The given items are not among them.
        """
        total = sum(weights.values())
        scores: dict[str, float] = {}
        with self._changing:
            single = self._single
            # Some thousand pairs a call: no calls of functions that a comparison can stand for.
            for item, weight in weights.items():
                own, share = single.get(item, 0), weight / total
                for other, both in self._pairs.get(item, {}).items():
                    met = single.get(other, both)
                    # What was pruned and is met again is in more pairs than it was counted.
                    score = both / math.sqrt((own if own > both else both) * (met if met > both else both))
                    scores[other] = scores.get(other, 0.0) + (share * score if score < 1 else share)
        for item in weights:
            scores.pop(item, None)
        return list(islice((each for each in best_first(scores) if wanted(each[0])), n))

    def _add(self, event: Happening) -> None:
        item, span = event.item, self._span_ms
        window = self._windows.get(event.shopper)
        if window is None:
            window = self._windows[event.shopper] = deque(maxlen=self._window)
            if len(self._windows) > self._max_shoppers:
                self._windows.popitem(last=False)
        self._windows.move_to_end(event.shopper)
        if span is None:
            others = {other for other, _ in window}
        else:
            others = {other for other, at in window if abs(event.time_ms - at) <= span}
        if item in others:
            return
        self._single[item] = self._single.get(item, 0) + 1
        if others:
            mine = self._pairs.setdefault(item, {})
            for other in others:
                mine[other] = mine.get(other, 0) + 1
                theirs = self._pairs.setdefault(other, {})
                theirs[item] = theirs.get(item, 0) + 1
                if len(theirs) > self._most:
                    self._pairs[other] = self._frequent(theirs)
            if len(mine) > self._most:
                self._pairs[item] = self._frequent(mine)
        window.append((item, event.time_ms))
        if len(self._single) > 2 * self._max_items:
            self._prune()

    def _frequent(self, partners: dict[str, int]) -> dict[str, int]:
        """The most frequent partners; of equals the later ones, or a new one could never come to count."""
        later = reversed(partners.items())
        return dict(reversed(heapq.nlargest(self._neighbours, later, key=lambda each: each[1])))

    def _prune(self) -> None:
        self._single = dict(heapq.nlargest(self._max_items, self._single.items(), key=lambda each: each[1]))
        self._pairs = {item: partners for item, partners in self._pairs.items() if item in self._single}
