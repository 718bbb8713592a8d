"""Measures of a ranked list against judgements."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from souk.dataset import Judgement


def by_query(judgements: Iterable[Judgement]) -> dict[str, dict[str, int]]:
    """Grades by item for every query that has a relevant item."""
    grades: dict[str, dict[str, int]] = defaultdict(dict)
    for one in judgements:
        grades[one.query][one.item_id] = one.grade
    return {query: found for query, found in grades.items() if any(found.values())}


def ndcg(ranked: Sequence[str], grades: Mapping[str, int], k: int = 10) -> float:
    """nDCG@k with linear gain; what was not judged counts as not relevant (Järvelin and Kekäläinen 2002)."""
    gains = [grades.get(item, 0) for item in ranked[:k]]
    return _dcg(gains) / _dcg(sorted(grades.values(), reverse=True)[:k])


def condensed_ndcg(ranked: Sequence[str], grades: Mapping[str, int], k: int = 10) -> float:
    """nDCG@k of the judged items alone, as if nothing else had been returned (Sakai 2007)."""
    return ndcg([item for item in ranked if item in grades], grades, k)


def _dcg(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))
