"""Hard negatives, items that look like an answer and are none; and what must be no negative, since it may be one."""

import copy
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.domain.words import analyse
from souk.vectors import Float32
from training.encoder.model import Model, encode
from training.encoder.quick_eval import best
from training.encoder.shops import Bools, Ints, Query

_K1, _B = 1.2, 0.75


class Words:
    """BM25 (Robertson and Zaragoza 2009) over whole texts, with the words of the lexical index."""

    def __init__(self, texts: Sequence[str]) -> None:
        found = [analyse(text) for text in texts]
        lengths = np.array([len(terms) for terms in found], np.float32)
        norm = _K1 * (1 - _B + _B * lengths / max(float(lengths.mean()), 1.0))
        lists: dict[str, list[tuple[int, int]]] = {}
        for row, terms in enumerate(found):
            for term, count in Counter(terms).items():
                lists.setdefault(term, []).append((row, count))
        self._rows: dict[str, Ints] = {}
        self._scores: dict[str, Float32] = {}
        for term, entries in lists.items():
            rows, counts = np.array(entries, np.int64).T
            idf = math.log(1 + (len(texts) - len(rows) + 0.5) / (len(rows) + 0.5))
            self._rows[term] = rows
            self._scores[term] = (idf * counts * (_K1 + 1) / (counts + norm[rows])).astype(np.float32)
        self._count = len(texts)

    def best(self, query: str, k: int) -> Ints:
        """Rows of the k texts that match best; fewer where fewer share a word with it."""
        scores = np.zeros(self._count, np.float32)
        for term in set(analyse(query)):
            if term in self._rows:
                scores[self._rows[term]] += self._scores[term]
        rows = best(scores, k)
        return rows[scores[rows] > 0]


def hard_negatives(query: Query, vector: Float32, items: Float32, candidates: Ints, margin: float, most: int) -> Ints:
    """Rows of at most `most` of the candidates, those nearest to the query, that may be taken for no answer.

    `vector` (dim,) and `items` (n, dim) have length 1. Left out are items that have a grade above 0, and those that
    the encoder finds nearer to the query than the least near of its best answers less `margin` (in cosine): many of
    them are answers that nobody judged (Moreira et al. 2024).
    """
    top = max(query.grades.values())
    positives = [row for row, grade in query.grades.items() if grade == top]
    limit = float((items[positives] @ vector).min()) - margin
    rows = np.setdiff1d(candidates, query.relevant)
    scores = items[rows] @ vector
    rows, scores = rows[scores <= limit], scores[scores <= limit]
    return rows[np.argsort(-scores, kind="stable")[:most]]


def likely_answers(query: Float32, items: Float32, own: int, margin: float) -> Bools:
    """Which items, bool (n,), a guide finds nearer to the query than its answer, row `own`, less `margin` (in cosine).

    In-batch negatives are answers of other queries; for "toner cartridge" another toner among them is an answer, too
    (GISTEmbed, Solatorio 2024). `query` (dim,) and `items` (n, dim) have length 1.
    """
    scores = items @ query
    found: Bools = scores > scores[own] - margin
    return found


class Guide:
    """An encoder as it was when this was made, whatever is learned later; reads each text once."""

    def __init__(self, model: Model, query_tokens: int, item_tokens: int, precision: str) -> None:
        self._model = replace(model, module=copy.deepcopy(model.module))
        self._tokens, self._precision = (query_tokens, item_tokens), precision
        self._known: tuple[dict[str, Float32], dict[str, Float32]] = ({}, {})

    def queries(self, texts: Sequence[str]) -> Float32:
        """Vectors of length 1, float32 (n, dim)."""
        return self._read(0, texts)

    def items(self, texts: Sequence[str]) -> Float32:
        """Vectors of length 1, float32 (n, dim)."""
        return self._read(1, texts)

    def _read(self, kind: int, texts: Sequence[str]) -> Float32:
        known = self._known[kind]
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, encode(self._model, new, self._tokens[kind], self._precision), strict=True))
        return np.stack([known[text] for text in texts])
