"""What the reranker learns from: queries, the items that have a grade for them, and items that are no answer."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.domain.reranking import candidate_text
from souk.dataset import CATEGORY_SEPARATOR, DatasetError
from souk.types.v1 import types_pb2
from training.encoder.pairs import Pair
from training.encoder.queries.round_trip import RoundTrip
from training.encoder.queries.wording import Wording

_DEPTH = 50


@dataclass(frozen=True)
class Asked:
    """A query and its grades by row of the items: above 0 for an answer."""

    query: str
    grades: dict[int, float]

    def target(self, row: int) -> float:
        """The grade as a share of the best that the query has: 0 to 1."""
        return self.grades.get(row, 0.0) / max(self.grades.values())


class Groups:
    """Queries to learn and queries held out, over the items of one shop."""

    def __init__(
        self, items: Sequence[types_pb2.Item], pairs: Sequence[Pair], held_out: float, seed: int, most_held: int
    ) -> None:
        """Raises DatasetError where a pair's item is not among the items, or too few queries have an answer."""
        rows = {item.id: row for row, item in enumerate(items)}
        grades: dict[str, dict[int, float]] = {}
        for number, pair in enumerate(pairs, 1):
            if pair.item_id not in rows:
                raise DatasetError(f"pairs, row {number}, item_id: {pair.item_id!r} is not in the dataset")
            own = grades.setdefault(pair.query, {})
            own[rows[pair.item_id]] = max(pair.grade, own.get(rows[pair.item_id], 0.0))
        asked = [Asked(query, own) for query, own in grades.items() if any(own.values())]
        if len(asked) < 2:
            raise DatasetError(f"pairs: {len(asked)} queries have an item that answers them; 2 are needed")
        asked.sort(key=lambda one: hashlib.sha256(f"{seed}\0{one.query}".encode()).digest())
        held = min(max(1, round(len(asked) * held_out)), len(asked) - 1, most_held)
        self.held, self.learn = asked[:held], asked[held:]
        self.texts = [
            candidate_text(item.title, item.brand, CATEGORY_SEPARATOR.join(item.category_path)) for item in items
        ]
        self._search = RoundTrip(items)
        self._heads = [{kind[-1] for kind in kinds[:1]} for kinds in Wording.of(items).kinds]
        self._found: dict[str, list[int]] = {}

    def identity(self) -> str:
        """A hash of everything in it."""
        digest = hashlib.sha256("\0".join(self.texts).encode())
        for one in (*self.held, *self.learn):
            digest.update(f"{one.query}\0{sorted(one.grades.items())}\0".encode())
        return digest.hexdigest()

    def negatives(self, asked: Asked) -> list[int]:
        """Rows that a search by words finds for the query and that are taken for no answer: those without a grade that
        are of another kind than all its answers. What is of the same kind may well be an answer that nobody judged."""
        if asked.query not in self._found:
            found = self._search.find(asked.query, _DEPTH).first
            of_answers = set().union(*(self._heads[row] for row, grade in asked.grades.items() if grade > 0))
            self._found[asked.query] = [
                row for row in found if row not in asked.grades and self._heads[row].isdisjoint(of_answers)
            ]
        return self._found[asked.query]

    def group(self, asked: Asked, negatives: int, rng: np.random.Generator) -> list[tuple[str, int, float]]:
        """(query, row, target): one answer, one item of another grade where there is one, then `negatives` others: half
        of them, as far as there are, found by words, the rest any."""
        answers = [row for row, grade in asked.grades.items() if grade > 0]
        answer = answers[int(rng.integers(len(answers)))]
        rows = [answer]
        if others := [row for row, grade in asked.grades.items() if grade != asked.grades[answer]]:
            rows.append(others[int(rng.integers(len(others)))])
        if hard := self.negatives(asked):
            rows += rng.choice(hard, min(len(hard), (negatives + 1) // 2), replace=False).tolist()
        while len(rows) < negatives + 1:
            # One that has a grade keeps it.
            rows.append(int(rng.integers(len(self.texts))))
        return [(asked.query, row, asked.target(row)) for row in dict.fromkeys(rows)]
