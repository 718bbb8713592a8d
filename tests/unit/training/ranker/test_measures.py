"""HR, recall, precision, NDCG, MRR and AUC of a full ranking, by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.ranker.measures import NOTHING, Measured, auc, best, measure, ranks
from training.ranker.sequences.judging import measures

NAN = np.nan


def test_by_hand() -> None:
    """Twelve items in their order; wanted are the first and third, the last, and the second and eleventh."""
    scores = np.tile(-np.arange(12, dtype=np.float32), (3, 1))
    rows, columns = np.array([0, 0, 1, 2, 2]), np.array([0, 2, 11, 1, 10])
    measured = measure(scores, rows, columns)
    values = measured.values
    assert values["hr@5"].tolist() == values["hr@10"].tolist() == [1, 0, 1]
    assert values["hr@20"].tolist() == [1, 1, 1]
    assert values["recall@10"].tolist() == [1, 0, 0.5]
    assert values["recall@20"].tolist() == [1, 1, 1]
    assert values["precision@5"] == pytest.approx([2 / 5, 0, 1 / 5])
    assert values["precision@10"] == pytest.approx([2 / 10, 0, 1 / 10])
    # Twelve are ranked, but a place that is empty is no hit either.
    assert values["precision@20"] == pytest.approx([2 / 20, 1 / 20, 2 / 20])
    ideal = 1 + 1 / np.log2(3)
    assert measured.ndcg == pytest.approx([(1 + 0.5) / ideal, 0, (1 / np.log2(3)) / ideal])
    assert values["ndcg@20"][1:] == pytest.approx([1 / np.log2(13), (1 / np.log2(3) + 1 / np.log2(12)) / ideal])
    assert values["mrr@10"].tolist() == [1, 0, 0.5]
    assert values["mrr@20"] == pytest.approx([1, 1 / 12, 1 / 2])
    # Of ten unwanted: none before the first, one before the third; all eleven before the last; one and nine.
    assert auc(scores, rows, columns) == pytest.approx([(1 + 0.9) / 2, 0, (0.9 + 0.1) / 2])
    assert Measured.joined([measured, measured]).values["hr@10"].tolist() == [1, 0, 1, 1, 0, 1]


def test_more_is_wanted_than_the_list_holds() -> None:
    """Six wanted items fill a list of five: NDCG is 1, recall is not."""
    scores = -np.arange(8, dtype=np.float32)[None]
    values = measure(scores, np.zeros(6, np.int64), np.arange(6)).values
    assert values["ndcg@5"] == pytest.approx([1])
    assert values["recall@5"] == pytest.approx([5 / 6])
    assert values["precision@5"].tolist() == [1]
    assert auc(scores, np.zeros(6, np.int64), np.arange(6)).tolist() == [1]


def test_what_has_no_score_is_not_ranked() -> None:
    scores = np.array([[NAN, *range(3)]], np.float32)
    measured = measure(scores, np.array([0]), np.array([0]))
    assert measured.values["hr@20"].tolist() == [0]
    assert measured.first[0, :5].tolist() == [3, 2, 1, NOTHING, NOTHING]
    assert auc(scores, np.array([0]), np.array([0])).tolist() == [0]
    # What is left out is no unwanted item that the wanted one is ahead of.
    ahead = np.array([[NAN, NAN, 1, 2]], np.float32)
    assert auc(ahead, np.array([0]), np.array([2])).tolist() == [0]


def test_equal_scores() -> None:
    """The lower number stands first, also where the list is cut within equals; for the AUC they count half."""
    scores = np.array([[1, 2, 1, 2, 1, 0]], np.float32)
    assert best(scores, 3).tolist() == [[1, 3, 0]]
    assert best(np.zeros((2, 3), np.float32), 2).tolist() == [[0, 1], [0, 1]]
    assert auc(scores, np.array([0]), np.array([0])) == pytest.approx([(1 + 2 / 2) / 5])


def test_of_equals_half_stand_before() -> None:
    """Five items level below one: one wanted of them is third in the middle; two follow each other around it."""
    scores = np.array([[2, 1, 1, 1, 1, 1, 0]], np.float32)
    zero = np.array([0])
    assert ranks(scores, zero, np.array([3])).tolist() == [3.0]
    assert ranks(scores, np.zeros(3, np.int64), np.array([4, 0, 1])).tolist() == [2.5, 0.0, 3.5]
    values = measure(scores, zero, np.array([3])).values
    assert values["ndcg@5"] == pytest.approx([1 / np.log2(5)])
    assert values["mrr@5"] == pytest.approx([1 / 4])
    # The order of the columns says nothing.
    for column in (1, 2, 5):
        assert measure(scores, zero, np.array([column])).values["ndcg@5"] == pytest.approx([1 / np.log2(5)])
    # However many are level, no more are found than there are places.
    level = measure(np.zeros((1, 30), np.float32), np.zeros(25, np.int64), np.arange(25)).values
    assert level["precision@5"] == pytest.approx([3 / 5])
    assert max(float(level[name][0]) for name in level) <= 1


@given(data=st.data(), n=st.integers(1, 12))
def test_one_wanted_item_is_ranked_as_several_are(data: Any, n: int) -> None:
    scores = np.array([data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))], np.float32)
    at = data.draw(st.integers(0, n - 1))
    others = scores[0, at] == np.delete(scores[0], at)
    expected = (scores[0] > scores[0, at]).sum() + others.sum() / 2
    assert ranks(scores, np.array([0]), np.array([at])).tolist() == [expected]
    assert measures(np.array([expected]))["ndcg@5"] == measure(scores, np.array([0]), np.array([at])).values["ndcg@5"]


def test_nothing_unwanted_and_nothing_wanted() -> None:
    scores = np.zeros((2, 2), np.float32)
    everything = np.array([0, 0, 1]), np.array([0, 1, 1])
    assert auc(scores, *everything).tolist() == [0.5, 0.5]
    for ask in (measure, auc):
        with pytest.raises(ValueError, match="rows: example 1 wants nothing; each must want an item"):
            ask(scores, np.array([0]), np.array([0]))
