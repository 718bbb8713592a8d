"""BM25F as the retriever has it, over the items of a dataset: what its leg "words" will say in serving."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from services.domain.words import analyse
from souk.types.v1 import types_pb2
from souk.vectors import Float32

_WEIGHTS = (3.0, 1.0, 2.0, 0.3, 2.0)
_K1, _B = 0.4, 0.75


class Words:
    """The words of n items; a test holds that it scores as the retriever does."""

    def __init__(self, items: Sequence[types_pb2.Item]) -> None:
        counts: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        lengths = np.zeros((len(_WEIGHTS), len(items)), np.float64)
        for number, item in enumerate(items):
            attributes = " ".join(f"{a.name} {' '.join(a.values)}" for a in item.attributes)
            fields = (item.title, item.description, item.brand, attributes, " ".join(item.category_path))
            for field, text in enumerate(fields):
                terms = analyse(text)
                lengths[field, number] = len(terms)
                for term, count in Counter(terms).items():
                    counts[term].append((number, field, count))
        self._n = len(items)
        self._postings = {term: np.array(rows).T for term, rows in counts.items()}
        self._norm = 1 - _B + _B * lengths / np.maximum(lengths.mean(axis=1, keepdims=True), 1e-9)

    def scores(self, query: str) -> Float32:
        """BM25F of each item, NaN where it holds no word of the query: (n,)."""
        out = np.zeros(self._n)
        for term, count in Counter(analyse(query)).items():
            if (postings := self._postings.get(term)) is None:
                continue
            numbers, fields, counts = postings
            weight = np.bincount(
                numbers, np.array(_WEIGHTS)[fields] * counts / self._norm[fields, numbers], minlength=self._n
            )
            frequency = len(np.unique(numbers))
            out += count * np.log1p((self._n - frequency + 0.5) / (frequency + 0.5)) * weight / (_K1 + weight)
        return np.where(out > 0, out, np.nan).astype(np.float32)
