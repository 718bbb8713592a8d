"""HR, NDCG and recall of a full ranking, by hand."""

import numpy as np
import pytest

from training.ranker.measures import Measured, measure


def test_by_hand() -> None:
    scores = np.tile(-np.arange(12, dtype=np.float32), (3, 1))
    measured = measure(scores, np.array([0, 0, 1, 2, 2]), np.array([0, 2, 11, 1, 10]))
    assert measured.hr.tolist() == [1, 0, 1]
    ideal = 1 + 1 / np.log2(3)
    assert measured.ndcg == pytest.approx([(1 + 0.5) / ideal, 0, (1 / np.log2(3)) / ideal])
    assert measured.recall.tolist() == [1, 0, 0.5]
    assert Measured.joined([measured, measured]).hr.tolist() == [1, 0, 1, 1, 0, 1]


def test_what_has_no_score_is_last() -> None:
    scores = np.array([[np.nan, *range(11)]], np.float32)
    assert measure(scores, np.array([0]), np.array([0])).hr.tolist() == [0]
