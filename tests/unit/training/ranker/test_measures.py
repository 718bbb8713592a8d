"""HR, recall, precision, NDCG, MRR and AUC of a full ranking, by hand."""

import numpy as np
import pytest

from training.ranker.measures import NOTHING, Measured, auc, best, measure

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


def test_nothing_unwanted_and_nothing_wanted() -> None:
    scores = np.zeros((2, 2), np.float32)
    everything = np.array([0, 0, 1]), np.array([0, 1, 1])
    assert auc(scores, *everything).tolist() == [0.5, 0.5]
    for ask in (measure, auc):
        with pytest.raises(ValueError, match="rows: example 1 wants nothing; each must want an item"):
            ask(scores, np.array([0]), np.array([0]))
