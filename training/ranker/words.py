"""BM25F as the retriever has it, over the items of a dataset: what its leg "words" will say in serving.

Only of words as they are written: what serving corrects, joins or takes for a synonym is not learned from.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.domain.offers import describing
from services.domain.search import BRAND, FUNCTION_WORD, MAX_BRAND_WORDS, Bm25f
from services.domain.words import FUNCTION_WORDS, asked, words
from souk.types.v1 import types_pb2
from souk.vectors import Float32

_BM25F = Bm25f()


class Words:
    """The words of n items; a test holds that it scores as the retriever does."""

    def __init__(self, items: Sequence[types_pb2.Item]) -> None:
        counts: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        lengths = np.zeros((len(_BM25F.weights), len(items)), np.float64)
        brands: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, item in enumerate(items):
            attributes = " ".join(f"{a.name} {' '.join(a.values)}" for a in describing(item))
            fields = (item.title, item.description, item.brand, attributes, " ".join(item.category_path))
            for field, text in enumerate(fields):
                found = words(text)
                lengths[field, number] = len(found)
                for term, count in Counter(term for word in found for term in word.terms).items():
                    counts[term].append((number, field, count))
            brands[tuple(word.whole for word in asked(item.brand))].append(number)
        self._n = len(items)
        self._brands = {
            name: np.array(numbers) for name, numbers in brands.items() if not all(term.isdigit() for term in name)
        }
        self._postings = {term: np.array(rows).T for term, rows in counts.items()}
        means = np.maximum(lengths.mean(axis=1, keepdims=True), 1e-9)
        self._norm = 1 - _BM25F.b + _BM25F.b * lengths / means

    def scores(self, query: str) -> Float32:
        """BM25F of each item, NaN where it holds no word of the query: (n,)."""
        out = np.zeros(self._n)
        counts: dict[str, float] = defaultdict(float)
        for word in words(query):
            for term in word.terms:
                counts[term] += FUNCTION_WORD if word.text in FUNCTION_WORDS else 1
        for term, count in counts.items():
            out += count * self._of(term)
        for name in self._named(query):
            theirs = self._brands[name]
            for term in name:
                out[theirs] += BRAND * self._of(term)[theirs]
        return np.where(out > 0, out, np.nan).astype(np.float32)

    def _of(self, term: str) -> NDArray[np.float64]:
        """What a term gives each item: (n,)."""
        if (postings := self._postings.get(term)) is None:
            return np.zeros(self._n)
        numbers, fields, counts = postings
        weights = np.array(_BM25F.weights)[fields] * counts / self._norm[fields, numbers]
        weight = np.bincount(numbers, weights, minlength=self._n)
        frequency = len(np.unique(numbers))
        given: NDArray[np.float64] = weight / (_BM25F.k1 + weight)
        given *= np.log1p((self._n - frequency + 0.5) / (frequency + 0.5))
        return given

    def _named(self, query: str) -> list[tuple[str, ...]]:
        """The brands that a query names, from the left, the longest first."""
        terms, named, place = [word.whole for word in asked(query)], [], 0
        while place < len(terms):
            spans = (tuple(terms[place : place + length]) for length in range(MAX_BRAND_WORDS, 0, -1))
            name = next((span for span in spans if span in self._brands), None)
            named += [name] if name else []
            place += len(name) if name else 1
        return named
