"""Which items a search is about, as far as their titles say.

So words move a shopper's profile as a look at these items would. Coldstart may call no other process in a request, and
a bundle knows no word of items that came after it; what is told of every item holds for all of them, in every language
that services.domain.words reads. Grows with the catalogue, by four bytes for each word of a title.
"""

import math
import threading
from array import array
from itertools import islice

import numpy as np

from services.domain.words import analyse

FOUND = 3
"""Items that stand for a search, at most."""
# A word in so many titles tells nothing apart and would take long to count.
_COMMON = 50_000
# Titles that were replaced and are worth numbering the others anew; at least, beside as many as there are items.
_MIN_REPLACED = 10_000
# Of what the words of a query weigh, what those in a title must.
_LEAST = 0.5


class Titles:
    """Items by the words of their titles. Written by the log's writer, read from any thread."""

    def __init__(self) -> None:
        self._items: list[str] = []
        """By number; empty for a title that was replaced."""
        self._lengths = array("I")
        self._number: dict[str, int] = {}
        self._title: dict[str, str] = {}
        self._postings: dict[str, array[int]] = {}
        self._changing = threading.Lock()

    def put(self, item: str, title: str) -> None:
        """Remembers an item's title instead of the one before."""
        if self._title.get(item) == title:
            return
        terms = set(analyse(title))
        with self._changing:
            if item in self._number:
                self._items[self._number[item]] = ""
            if len(self._items) > _MIN_REPLACED + 2 * len(self._number):
                self._drop_replaced()
            number = len(self._items)
            self._title[item], self._number[item] = title, number
            self._items.append(item)
            self._lengths.append(len(terms))
            for term in terms:
                self._postings.setdefault(term, array("I")).append(number)

    def _drop_replaced(self) -> None:
        """Numbers the titles of now anew: those that were replaced would take room and count as holding their words."""
        old = np.flatnonzero([bool(item) for item in self._items])
        new = np.full(len(self._items), -1, np.int64)
        new[old] = np.arange(len(old))
        self._items = [self._items[number] for number in old.tolist()]
        self._number = {item: number for number, item in enumerate(self._items)}
        self._lengths = array("I", np.frombuffer(self._lengths, np.uint32)[old].tobytes())
        postings = {}
        for term, numbers in self._postings.items():
            kept = new[np.frombuffer(numbers, np.uint32)]
            if len(kept := kept[kept >= 0]):
                postings[term] = array("I", kept.astype(np.uint32).tobytes())
        self._postings = postings

    def find(self, query: str) -> list[str]:
        """The items whose titles hold most of the query's words, rare words counting more, at most 3, best first; of
        equals those with the fewest other words. None where no title holds half of it."""
        terms = set(analyse(query))
        with self._changing:
            n = len(self._items)
            # A word of no title says nothing of the items.
            lists = [one for term in terms if (one := self._postings.get(term)) is not None and len(one) <= _COMMON]
            # An inverse document frequency, as in Robertson and Sparck Jones 1976, never below 0.
            weights = [math.log((n + 1) / (len(one) + 0.5)) for one in lists]
            if not lists:
                return []
            numbers, place = np.unique(np.concatenate([np.array(one, np.int64) for one in lists]), return_inverse=True)
            scores = np.bincount(place, np.repeat(weights, [len(one) for one in lists]))
            numbers, scores = (part[scores >= _LEAST * sum(weights)] for part in (numbers, scores))
            lengths = np.frombuffer(self._lengths, np.uint32)[numbers]
            best = numbers[np.lexsort((numbers, lengths, -scores))].tolist()
            return list(islice((item for number in best if (item := self._items[number])), FOUND))
