"""What coldstart remembers of every item, in memory: the facts that contexts, popularity and exploration join by id.

Grows with the catalogue, as the retriever's columns do, and with nothing else.
"""

import heapq
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.coldstart.log import CATEGORY_SEPARATOR, Facts

MAX_NEW = 2_000
# An item shown so often is no longer new, whatever its age.
_TRIED = 200


@dataclass(frozen=True)
class Newcomer:
    """A new item with what exploration knows of it."""

    item: str
    category: str
    created_at: float
    shown: int
    clicked: int


class Shelf:
    """Facts by item id. Written by the log's writer, read from any thread."""

    def __init__(self) -> None:
        self._facts: dict[str, Facts] = {}
        self._trials: dict[str, tuple[int, int]] = {}
        self._changing = threading.Lock()
        self.newcomers: Sequence[Newcomer] = ()
        """The newest items, newest first, as of the last refresh."""

    def __len__(self) -> int:
        return len(self._facts)

    def get(self, item: str) -> Facts | None:
        """What is remembered of an item."""
        return self._facts.get(item)

    def put(self, item: str, facts: Facts, shown: int = 0, clicked: int = 0) -> None:
        """Remembers an item; trials are added to those known."""
        with self._changing:
            self._facts[item] = facts
        self._try(item, shown, clicked)

    def tried(self, shown: Iterable[str], clicked: Iterable[str]) -> None:
        """Counts showings and clicks of items that are known."""
        for item in shown:
            self._try(item, 1, 0)
        for item in clicked:
            self._try(item, 0, 1)

    def trials(self, item: str) -> tuple[int, int]:
        """How often an item was shown and clicked."""
        return self._trials.get(item, (0, 0))

    def facts(self) -> list[tuple[str, Facts]]:
        """All that is remembered, as it is now."""
        with self._changing:
            return list(self._facts.items())

    def refresh(self, now: float, new_days: float) -> None:
        """Finds the new items: sellable, offered for at most `new_days`, not yet shown often."""
        since = now - new_days * 86_400
        new = (
            (facts.created_at, item, facts)
            for item, facts in self.facts()
            if facts.created_at >= since and facts.sellable and self.trials(item)[0] < _TRIED
        )
        newest = heapq.nlargest(MAX_NEW, new, key=lambda each: each[:2])
        self.newcomers = [
            Newcomer(item, facts.category, created, *self.trials(item)) for created, item, facts in newest
        ]

    def _try(self, item: str, shown: int, clicked: int) -> None:
        if (shown or clicked) and item in self._facts:
            before = self.trials(item)
            self._trials[item] = before[0] + shown, before[1] + clicked


def roots(category: str) -> list[str]:
    """A category path and every one above it, from the top."""
    names = category.split(CATEGORY_SEPARATOR) if category else []
    return [CATEGORY_SEPARATOR.join(names[:depth]) for depth in range(1, len(names) + 1)]
