"""Ranks and measures by values worked by hand; every system is judged on the same moments."""

import math

import numpy as np
import pytest

from souk.vectors import Float32
from training.ranker.log import Ints
from training.ranker.sequences.files import Sequences
from training.ranker.sequences.judging import leave_out, measures, ranks, ranks_of

SEQUENCES = Sequences(["a", "b", "c", "d"], np.array([0, 1, 2, 3, 3, 2, 0]), np.array([0, 4, 7]))


def test_ranks_count_what_stands_before() -> None:
    scores = np.array([[4, 3, 2, 1], [4, 3, 2, 1], [1, 1, 1, 0], [np.nan, 1, 2, 3]], np.float32)
    # What has no score is not ranked, and is found in no list, however long.
    assert ranks(scores, np.array([0, 2, 0, 0])).tolist() == [0, 2, 1, math.inf]
    assert measures(np.array([math.inf]))["ndcg@20"] == 0


def test_measures_by_hand() -> None:
    found = measures(np.array([0, 4, 9, 30]))
    assert found["hr@5"] == 0.5
    assert found["hr@10"] == found["hr@20"] == 0.75
    assert found["ndcg@5"] == pytest.approx((1 + 1 / math.log2(6)) / 4)
    assert found["ndcg@10"] == pytest.approx((1 + 1 / math.log2(6) + 1 / math.log2(11)) / 4)


def test_each_shopper_is_judged_by_what_came_before() -> None:
    asked: list[list[int]] = []

    def scores(histories: list[Ints]) -> Float32:
        asked.extend(history.tolist() for history in histories)
        return np.tile(np.array([4, 3, 2, 1], np.float32), (len(histories), 1))

    assert ranks_of(SEQUENCES, 1, np.arange(2), scores, masked=False).tolist() == [3, 0]
    assert asked == [[0, 1, 2], [3, 2]]
    # What was met is out of the way: three items before the fourth, or none before the first.
    assert ranks_of(SEQUENCES, 1, np.arange(2), scores, masked=True).tolist() == [0, 0]
    assert ranks_of(SEQUENCES, 2, np.arange(2), scores, masked=True).tolist() == [0, 2]


def test_leaving_out_touches_nothing_else() -> None:
    out = leave_out(np.ones((2, 3), np.float32), [np.array([0]), np.array([1, 2])])
    assert out.tolist() == [[-np.inf, 1, 1], [1, -np.inf, -np.inf]]
