"""What coldstart remembers of every item, in memory: the facts that contexts, popularity and exploration join by id.

Grows with the catalogue, as the retriever's columns do, and with nothing else.
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.coldstart.log import CATEGORY_SEPARATOR, Facts
from services.domain.features import LIKED, TURNED_DOWN

MAX_NEW = 2_000
# An item shown so often is no longer new, whatever its age.
_TRIED = 200
# A showing so young is not yet turned down: its click may be on the way.
_ANSWER_MINUTES = 10


@dataclass(frozen=True)
class Newcomer:
    """A new item with what exploration knows of it; `shown` without those showings whose answer may still come."""

    item: str
    category: str
    created_at: float
    shown: int
    clicked: int


@dataclass(frozen=True)
class Evidence:
    """What shoppers said of an item: events that speak for it and against it, showings in all, and of these those whose
    answer may still come."""

    events_for: int
    events_against: int
    shown: int
    unanswered: int

    @property
    def answered(self) -> int:
        """Showings that are over."""
        return self.shown - self.unanswered


class Shelf:
    """Facts by item id. Written by the log's writer, read from any thread."""

    def __init__(self) -> None:
        self._facts: dict[str, Facts] = {}
        self._trials: dict[str, tuple[int, int]] = {}
        self._said: dict[str, tuple[int, int]] = {}
        """Events for and against each item."""
        self._young: dict[int, Counter[str]] = {}
        """By minute, the latest showings of new items."""
        self._changing = threading.Lock()
        self.newcomers: Sequence[Newcomer] = ()
        """The newest items, newest first, as of the last refresh."""
        self._new: frozenset[str] = frozenset()
        self._offered: list[tuple[float, str]] = []
        """Since when items are offered, of those that may be new; once sorted, the newest last."""
        self._sorted = True

    def __len__(self) -> int:
        return len(self._facts)

    def get(self, item: str) -> Facts | None:
        """What is remembered of an item."""
        return self._facts.get(item)

    def may_be_sold(self, item: str) -> bool:
        """Whether an item can be sold, as far as is known: nobody may have told of it yet."""
        facts = self._facts.get(item)
        return facts is None or facts.sellable

    def put(self, item: str, facts: Facts, shown: int = 0, clicked: int = 0) -> None:
        """Remembers an item; trials are added to those known."""
        with self._changing:
            before = self._facts.get(item)
            self._facts[item] = facts
            if before is None or before.created_at != facts.created_at:
                self._offered.append((facts.created_at, item))
                self._sorted = False
        self._try(item, shown, clicked)

    def tried(self, shown: Iterable[str], clicked: Iterable[str], now: float) -> None:
        """Counts showings and clicks of items that are known; `now` in seconds since 1970 UTC."""
        young = self._young.get(int(now // 60), Counter())
        for item in shown:
            self._try(item, 1, 0)
            if item in self._new:
                young[item] += 1
        for item in clicked:
            self._try(item, 0, 1)
        if young:
            with self._changing:
                self._young[int(now // 60)] = young

    def heard(self, item: str, counts: Mapping[int, int]) -> None:
        """Counts events of an item that is known, by their type."""
        if item in self._facts:
            before = self._said.get(item, (0, 0))
            liked, down = (sum(counts.get(kind, 0) for kind in kinds) for kinds in (LIKED, TURNED_DOWN))
            self._said[item] = before[0] + liked, before[1] + down

    def trials(self, item: str) -> tuple[int, int]:
        """How often an item was shown and clicked."""
        return self._trials.get(item, (0, 0))

    def answered(self, item: str) -> tuple[int, int]:
        """The same without showings whose answer may still come; a click is an answer."""
        shown, clicked = self.trials(item)
        return max(shown - self._waiting(item), min(shown, clicked)), clicked

    def evidence(self, item: str) -> Evidence:
        """What shoppers said of an item; nothing of one that is not known."""
        shown, _ = self.trials(item)
        return Evidence(*self._said.get(item, (0, 0)), shown, shown - self.answered(item)[0])

    def is_new(self, item: str) -> bool:
        """Whether an item is among the newcomers."""
        return item in self._new

    def refresh(self, now: float, new_days: float) -> None:
        """Finds the new items: sellable, offered for at most `new_days`, not yet shown often."""
        newest = self._newest(now - new_days * 86_400)
        with self._changing:
            first = int(now // 60) - _ANSWER_MINUTES
            self._young = {minute: counts for minute, counts in self._young.items() if minute > first}
        self.newcomers = [
            Newcomer(item, facts.category, created, *self.answered(item)) for created, item, facts in newest
        ]
        self._new = frozenset(item for _, item, _ in newest)

    def _newest(self, since: float) -> list[tuple[float, str, Facts]]:
        """The new items, newest first. What is too old now will be so for ever and is looked at no more."""
        with self._changing:
            if not self._sorted:
                if len(self._offered) > 2 * len(self._facts):  # Items were told of with ever newer dates.
                    self._offered = [(facts.created_at, item) for item, facts in self._facts.items()]
                self._offered.sort()
                self._sorted = True
            del self._offered[: bisect_left(self._offered, (since, ""))]
            found: dict[str, tuple[float, str, Facts]] = {}
            for created, item in reversed(self._offered):
                facts = self._facts[item]
                # One that was told with other dates, too, stands here with each.
                if facts.created_at == created and facts.sellable and self.trials(item)[0] < _TRIED:
                    found[item] = created, item, facts
                    if len(found) == MAX_NEW:
                        break
        return list(found.values())

    def _waiting(self, item: str) -> int:
        return sum(counts[item] for counts in list(self._young.values()))

    def _try(self, item: str, shown: int, clicked: int) -> None:
        if (shown or clicked) and item in self._facts:
            before = self.trials(item)
            self._trials[item] = before[0] + shown, before[1] + clicked


def roots(category: str) -> list[str]:
    """A category path and every one above it, from the top."""
    names = category.split(CATEGORY_SEPARATOR) if category else []
    return [CATEGORY_SEPARATOR.join(names[:depth]) for depth in range(1, len(names) + 1)]
