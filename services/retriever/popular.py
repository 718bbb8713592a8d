"""The most popular items that a mask allows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.retriever.columns import NOBODY, ColumnsView
from services.retriever.order import Mask, Slots, best, ranked

# Slots newer than the order that are worth sorting anew.
MIN_STALE = 10_000


@dataclass(frozen=True)
class Popular:
    """Slots by popularity, best first, as far as `size`. A slot's popularity never changes, so the order stays true
    when slots are added: those behind `size` are looked at one by one."""

    size: int
    order: Slots

    @classmethod
    def of(cls, columns: ColumnsView) -> "Popular":
        """The order of all live slots."""
        slots = np.flatnonzero(columns.alive)
        popularity = columns.popularity[slots]
        return cls(columns.size, slots[ranked(popularity, popularity, columns.key[slots])])

    def moved(self, moved: NDArray[np.int32]) -> "Popular":
        """The order over a compacted table. moved: new slot of each old one."""
        order = moved[self.order].astype(np.int64)
        return Popular(int(moved[: self.size].max(initial=NOBODY)) + 1, order[order != NOBODY])

    def due(self, columns: ColumnsView) -> bool:
        """Whether sorting anew is worth it."""
        return columns.size - self.size > MIN_STALE

    def best(self, mask: Mask, columns: ColumnsView, k: int) -> Slots:
        """The k most popular allowed slots, best first."""
        new = self.size + np.flatnonzero(mask[self.size :])
        slots = np.concatenate((self._first(mask, k), new))
        popularity = columns.popularity
        return slots[best(popularity[slots], slots, popularity, columns.key, k)]

    def _first(self, mask: Mask, k: int) -> Slots:
        """The first k allowed slots of the order, looked for in ever larger parts of it."""
        found: list[Slots] = []
        count, start, step = 0, 0, 4 * k
        while count < k and start < len(self.order):
            part = self.order[start : start + step]
            allowed = part[mask[part]]
            found.append(allowed)
            count += len(allowed)
            start, step = start + step, step * 4
        return np.concatenate(found)[:k] if found else np.empty(0, dtype=np.int64)
