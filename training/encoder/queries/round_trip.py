"""The round trip of a query: what an exact search by words finds for it among the items of the shop."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.domain.words import analyse
from souk.types.v1 import types_pb2

# BM25 (Robertson and Zaragoza 2009); a word of the title counts as so many of the rest.
_K1, _B = 0.9, 0.6
_TITLE = 3
_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """What one query finds."""

    first: tuple[int, ...]
    """Rows of the best items, best first; of equals the earlier row."""
    holders: int
    """Items that hold all its words."""


class RoundTrip:
    """BM25 over the words of n items."""

    def __init__(self, items: Sequence[types_pb2.Item]) -> None:
        counts: dict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths = np.zeros(len(items))
        for row, item in enumerate(items):
            described = " ".join(f"{one.name} {' '.join(one.values)}" for one in item.attributes)
            rest = f"{item.brand} . {' . '.join(item.category_path)} . {described} . {item.description}"
            terms = Counter(analyse(item.title) * _TITLE + analyse(rest))
            lengths[row] = terms.total()
            for term, count in terms.items():
                counts[term].append((row, count))
        self._items = len(items)
        self._norm = _K1 * (1 - _B + _B * lengths / max(lengths.mean(), 1e-9)) if len(items) else lengths
        self._counts = {term: np.array(rows, np.int64) for term, rows in counts.items()}
        self._scores: dict[str, tuple[_Ints, NDArray[np.float64]]] = {}
        self._sums, self._held = np.zeros(len(items)), np.zeros(len(items), np.int64)

    def find(self, query: str, k: int) -> Found:
        """The k best items of a query."""
        terms = [term for term in dict.fromkeys(analyse(query)) if term in self._counts]
        if not terms:
            return Found((), 0)
        for term in terms:
            rows, scores = self._term(term)
            self._sums[rows] += scores
            self._held[rows] += 1
        touched = np.flatnonzero(self._held)
        scores, held = self._sums[touched], self._held[touched]
        self._sums[touched] = 0
        self._held[touched] = 0
        # Equals of the last are kept until rows decide.
        least = np.partition(scores, -k)[-k] if len(scores) > k else 0
        best = np.flatnonzero(scores >= least)
        order = best[np.lexsort((touched[best], -scores[best]))][:k]
        holders = int((held == len(set(analyse(query)))).sum())
        return Found(tuple(touched[order].tolist()), holders)

    def _term(self, term: str) -> tuple[_Ints, NDArray[np.float64]]:
        """Rows that hold a term, and its part of the score of each."""
        if term not in self._scores:
            rows, counts = self._counts[term].T
            rarity = np.log1p((self._items - len(rows) + 0.5) / (len(rows) + 0.5))
            self._scores[term] = rows, rarity * counts / (counts + self._norm[rows])
        return self._scores[term]
