"""Exact search in this process: how well an encoder alone finds what is wanted. What is served is measured by
`python -m training evaluate search`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from souk.vectors import Float32
from training.encoder.model import Model, encode
from training.encoder.shops import Bools, Ints, Query, Shop

K = 10
_QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class Found:
    """Measures of each query, float32 (queries,); `tail` is NaN where no item of the long tail is wanted."""

    ndcg: Float32
    """nDCG@10, linear gain, items without a grade count as not relevant (Järvelin and Kekäläinen 2002)."""
    condensed: Float32
    """nDCG@10 of the items with a grade alone (Sakai 2007)."""
    recall: Float32
    """Share of the relevant items in the first ten, of at most ten."""
    tail: Float32
    """Recall@10 of the relevant items of the long tail."""

    def metrics(self) -> dict[str, float]:
        """Means over the queries."""
        found = {"ndcg@10": float(self.ndcg.mean()), "recall@10": float(self.recall.mean())}
        if not np.isnan(self.tail).all():
            found["recall@10_tail"] = float(np.nanmean(self.tail))
        return found


@dataclass(frozen=True)
class Exam:
    """Queries over texts of items; grades name rows of the texts."""

    queries: list[Query]
    texts: list[str]
    tail: Bools

    @classmethod
    def of(cls, shop: Shop, queries: Sequence[Query], items: int, seed: int) -> "Exam":
        """All items that have a grade, filled up to `items` with others drawn by seed."""
        graded = sorted({row for query in queries for row in query.grades})
        others = np.setdiff1d(np.arange(len(shop.texts)), graded)
        extra = np.random.default_rng(seed).permutation(others)[: max(0, items - len(graded))]
        rows = [*graded, *extra.tolist()]
        place = {row: number for number, row in enumerate(rows)}
        moved = [Query(one.text, {place[row]: grade for row, grade in one.grades.items()}) for one in queries]
        return cls(moved, [shop.texts[row] for row in rows], shop.tail[rows])

    def take(
        self, model: Model, query_tokens: int, item_tokens: int, precision: str, dims: Sequence[int] = ()
    ) -> dict[str, float]:
        """Mean measures of the model, and nDCG@10 of its vectors cut to each of `dims`."""
        items = encode(model, self.texts, item_tokens, precision)
        queries = encode(model, [query.text for query in self.queries], query_tokens, precision)
        found = self.measure(queries, items).metrics()
        for dim in dims:
            found[f"ndcg@10_{dim}"] = float(self.measure(cut(queries, dim), cut(items, dim)).ndcg.mean())
        return found

    def measure(self, queries: Float32, items: Float32) -> Found:
        """Measures of vectors of length 1: (queries, dim) and (items, dim)."""
        rows = []
        for begin in range(0, len(self.queries), _QUERIES_AT_ONCE):
            scores = queries[begin : begin + _QUERIES_AT_ONCE] @ items.T
            for query, row in zip(self.queries[begin : begin + _QUERIES_AT_ONCE], scores, strict=True):
                rows.append(self._one(query, row))
        return Found(*np.array(rows, np.float32).T)

    def _one(self, query: Query, scores: Float32) -> tuple[float, float, float, float]:
        ranked = best(scores, K).tolist()
        # By row: the order of the grades may tell what is good.
        graded = np.array(sorted(query.grades))
        condensed = graded[np.argsort(-scores[graded], kind="stable")[:K]].tolist()
        ideal = sorted(query.grades.values(), reverse=True)[:K]
        relevant = set(query.relevant)
        tail = {row for row in relevant if self.tail[row]}
        return (
            _dcg([query.grades.get(row, 0.0) for row in ranked]) / _dcg(ideal),
            _dcg([query.grades[row] for row in condensed]) / _dcg(ideal),
            len(relevant.intersection(ranked)) / min(len(relevant), K),
            len(tail.intersection(ranked)) / min(len(tail), K) if tail else float("nan"),
        )


def best(scores: Float32, k: int) -> Ints:
    """Rows of the k highest scores, the highest first, equal ones by row."""
    k = min(k, len(scores))
    rows = np.argpartition(-scores, k - 1)[:k]
    return rows[np.lexsort((rows, -scores[rows]))]


def cut(vectors: Float32, dim: int) -> Float32:
    """The first `dim` dimensions, scaled to length 1 again (Kusupati et al. 2022)."""
    part = vectors[:, :dim]
    found: Float32 = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
    return found


def _dcg(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(rank + 2) for rank, gain in enumerate(gains)))
