"""Measures against values worked out by hand."""

import math

import pytest

from training.evaluate.metrics import condensed, condensed_ndcg, judged, measure, ndcg, recall, reciprocal_rank

GRADES = {"a": 3, "b": 2, "c": 0, "d": 1}
# x and y were not judged.
RANKED = ["x", "b", "c", "y", "a"]


def discount(rank: int) -> float:
    return 1 / math.log2(rank + 1)


IDEAL = 3 * discount(1) + 2 * discount(2) + 1 * discount(3)


def test_unjudged_as_zero_takes_places_and_condensed_does_not() -> None:
    assert ndcg(RANKED, GRADES) == pytest.approx((2 * discount(2) + 3 * discount(5)) / IDEAL)
    assert condensed(RANKED, GRADES) == ["b", "c", "a"]
    assert condensed_ndcg(RANKED, GRADES) == pytest.approx((2 * discount(1) + 3 * discount(3)) / IDEAL)


def test_ndcg_counts_the_first_ten_alone() -> None:
    many = {f"i{n}": 1 for n in range(20)}
    assert ndcg([f"i{n}" for n in range(10)], many) == pytest.approx(1.0)
    assert ndcg([*(f"x{n}" for n in range(10)), "i0"], many) == 0
    assert condensed_ndcg([*(f"x{n}" for n in range(10)), "i0"], many) > 0


def test_reciprocal_rank_recall_and_judged() -> None:
    assert reciprocal_rank(RANKED, GRADES) == 1 / 2
    assert reciprocal_rank(["c", "x"], GRADES) == 0
    assert reciprocal_rank(["x"] * 10 + ["a"], GRADES) == 0
    assert recall(RANKED, GRADES, 10) == pytest.approx(2 / 3)
    assert recall(RANKED, GRADES, 2) == pytest.approx(1 / 3)
    assert judged(RANKED, GRADES) == pytest.approx(3 / 5)
    assert judged([], GRADES) == 0


def test_every_measure_by_its_name() -> None:
    measured = measure(RANKED, GRADES)
    assert measured["ndcg@10_as_zero"] == pytest.approx(ndcg(RANKED, GRADES))
    assert measured["ndcg@10_condensed"] == pytest.approx(condensed_ndcg(RANKED, GRADES))
    assert measured["mrr@10_as_zero"] == 1 / 2
    assert measured["mrr@10_condensed"] == 1
    assert measured["recall@100_as_zero"] == measured["recall@10_condensed"] == pytest.approx(2 / 3)
    assert measured["judged@10"] == pytest.approx(3 / 5)
    perfect = measure(["a", "b", "d", "c"], GRADES)
    assert all(value == pytest.approx(1) for value in perfect.values())
    assert all(value == 0 for value in measure([], GRADES).values())
