"""Measures of a ranked list against judgements."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from souk.dataset import Judgement

MEASURES = ("ndcg@10", "mrr@10", "recall@10", "recall@100")
"""What `measure` says under each of the two rules."""
RULES = ("as_zero", "condensed")
"""What was not judged counts as not relevant, or is left out of the list (Sakai 2007)."""


def by_query(judgements: Iterable[Judgement]) -> dict[str, dict[str, int]]:
    """Grades by item for every query that has a relevant item."""
    grades: dict[str, dict[str, int]] = defaultdict(dict)
    for one in judgements:
        grades[one.query][one.item_id] = one.grade
    return {query: found for query, found in grades.items() if any(found.values())}


def measure(ranked: Sequence[str], grades: Mapping[str, int]) -> dict[str, float]:
    """Every measure of one query by its name: `MEASURES` under both `RULES`, and judged@10. All lie in 0 to 1.

    `ranked` holds different item ids, best first; at least one of `grades` is above 0.
    """
    measured: dict[str, float] = {}
    for rule, items in (("as_zero", ranked), ("condensed", condensed(ranked, grades))):
        values = (
            ndcg(items, grades),
            reciprocal_rank(items, grades),
            recall(items, grades, 10),
            recall(items, grades, 100),
        )
        measured |= {f"{name}_{rule}": value for name, value in zip(MEASURES, values, strict=True)}
    return measured | {"judged@10": judged(ranked, grades)}


def ndcg(ranked: Sequence[str], grades: Mapping[str, int], k: int = 10) -> float:
    """nDCG@k with linear gain; what was not judged counts as not relevant (Järvelin and Kekäläinen 2002)."""
    gains = [grades.get(item, 0) for item in ranked[:k]]
    return _dcg(gains) / _dcg(sorted(grades.values(), reverse=True)[:k])


def condensed_ndcg(ranked: Sequence[str], grades: Mapping[str, int], k: int = 10) -> float:
    """nDCG@k of the judged items alone, as if nothing else had been returned (Sakai 2007)."""
    return ndcg(condensed(ranked, grades), grades, k)


def condensed(ranked: Sequence[str], grades: Mapping[str, int]) -> list[str]:
    """The judged items of a list, in its order (Sakai 2007)."""
    return [item for item in ranked if item in grades]


def reciprocal_rank(ranked: Sequence[str], grades: Mapping[str, int], k: int = 10) -> float:
    """1 over the rank of the first item graded above 0; 0 where none is among the first k."""
    return next((1 / rank for rank, item in enumerate(ranked[:k], 1) if grades.get(item, 0) > 0), 0.0)


def recall(ranked: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """Share of the items graded above 0 that stand among the first k."""
    relevant = {item for item, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranked[:k])) / len(relevant)


def judged(ranked: Sequence[str], grades: Mapping[str, int], k: int = 10) -> float:
    """Share of the first k that was judged at all; 0 of an empty list."""
    first = ranked[:k]
    return sum(item in grades for item in first) / len(first) if first else 0.0


def _dcg(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))
