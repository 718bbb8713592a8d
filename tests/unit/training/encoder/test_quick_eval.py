"""The exact search measures what its definitions say."""

import numpy as np
import pytest

from training.encoder.quick_eval import Exam, best, cut
from training.encoder.shops import Query
from training.evaluate.metrics import condensed_ndcg, ndcg


def test_measures_are_those_of_the_definitions() -> None:
    rng = np.random.default_rng(0)
    items = cut(rng.standard_normal((60, 8)).astype(np.float32), 8)
    queries = cut(rng.standard_normal((20, 8)).astype(np.float32), 8)
    asked = []
    for number in range(20):
        rows = rng.permutation(60)[:6]
        grades = dict(zip(rows.tolist(), [3.0, 1.0, 0.0, 0.0, 2.0, 1.0], strict=True))
        asked.append(Query(str(number), grades))
    tail = np.arange(60) >= 30
    found = Exam(asked, [""] * 60, tail).measure(queries, items)
    for number, query in enumerate(asked):
        ranked = [str(row) for row in np.argsort(-(items @ queries[number])).tolist()]
        grades = {str(row): int(grade) for row, grade in query.grades.items()}
        assert found.ndcg[number] == pytest.approx(ndcg(ranked, grades), abs=1e-5)
        assert found.condensed[number] == pytest.approx(condensed_ndcg(ranked, grades), abs=1e-5)
        wanted = {str(row) for row in query.relevant}
        assert found.recall[number] == pytest.approx(len(wanted.intersection(ranked[:10])) / 4)
        far = {row for row in wanted if int(row) >= 30}
        if far:
            assert found.tail[number] == pytest.approx(len(far.intersection(ranked[:10])) / len(far))
        else:
            assert np.isnan(found.tail[number])


def test_the_best_come_first_and_equal_ones_by_row() -> None:
    assert best(np.array([1, 3, 2, 3, 0], np.float32), 3).tolist() == [1, 3, 2]
    assert best(np.array([1, 3], np.float32), 5).tolist() == [1, 0]
