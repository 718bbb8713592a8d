"""A shop as the encoder's training sees it: texts of its items, queries with what answers them, a part held out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.domain.text import TextTemplate, item_text
from souk.dataset import DatasetError, read_items
from souk.vectors import Float32
from training.encoder.pairs import Pair

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

HEAD_SHARE = 0.2
"""The share of items, the most popular first, that is the head; the others are the long tail."""


@dataclass(frozen=True)
class Query:
    """A query as the encoder reads it and the grades of items by their row; `relevant` are those above 0."""

    text: str
    grades: dict[int, float]

    @property
    def relevant(self) -> list[int]:
        """Rows of the items that answer it."""
        return [row for row, grade in self.grades.items() if grade > 0]


@dataclass(frozen=True)
class Shop:
    """Items by row, and queries to learn from and to measure by. `tail`, (items,), marks the long tail."""

    name: str
    item_ids: list[str]
    texts: list[str]
    categories: list[str]
    popularity: Float32
    tail: Bools
    learn: list[Query]
    held: list[Query]

    @classmethod
    def open(cls, dataset: Path, pairs: Sequence[Pair], held_out: float, seed: int) -> "Shop":
        """The items of a canonical dataset and the pairs by query, `held_out` of the queries drawn by seed put aside.

        Texts are those that serving makes (services.domain.text). Raises DatasetError where a pair's item is not in
        the dataset, or too few queries have an item that answers them.
        """
        items = list(read_items(dataset))
        template = TextTemplate()
        rows = {item.id: row for row, item in enumerate(items)}
        grades: dict[str, dict[int, float]] = {}
        for number, pair in enumerate(pairs, 1):
            if pair.item_id not in rows:
                raise DatasetError(f"pairs, row {number}, item_id: {pair.item_id!r} is not in {dataset}")
            found = grades.setdefault(pair.query, {})
            # Of several sources the highest counts.
            found[rows[pair.item_id]] = max(pair.grade, found.get(rows[pair.item_id], 0.0))
        queries = [Query(template.query_prefix + text, found) for text, found in grades.items() if any(found.values())]
        if len(queries) < 2:
            raise DatasetError(f"{dataset}: {len(queries)} queries have an item that answers them; 2 are needed")
        # By what the query says, so that more pairs move none from one side to the other.
        queries.sort(key=lambda query: _draw(query.text, seed))
        held = min(max(1, round(len(queries) * held_out)), len(queries) - 1)
        popularity = _popularity([item.popularity for item in items], queries)
        return cls(
            dataset.name,
            [item.id for item in items],
            [template.item_prefix + item_text(item, template) for item in items],
            [item.category_path[-1] if item.category_path else "" for item in items],
            popularity,
            _tail(popularity),
            queries[held:],
            queries[:held],
        )

    def identity(self) -> str:
        """A hash of everything in it."""
        digest = hashlib.sha256()
        for text in (*self.item_ids, *self.texts):
            digest.update(text.encode() + b"\0")
        for query in (*self.learn, *self.held):
            digest.update(f"{query.text}\0{sorted(query.grades.items())}\0".encode())
        return digest.hexdigest()


def _popularity(told: Sequence[float], queries: Sequence[Query]) -> Float32:
    """Demand as the catalogue knows it; where it knows of none, how many queries ask for the item."""
    known = np.array(told, np.float32)
    if not known.any():
        for query in queries:
            known[query.relevant] += 1
    return known


def _tail(popularity: Float32) -> Bools:
    order = np.argsort(-popularity, kind="stable")
    tail = np.ones(len(popularity), bool)
    tail[order[: int(len(order) * HEAD_SHARE)]] = False
    return tail


def _draw(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{text}".encode()).digest()
