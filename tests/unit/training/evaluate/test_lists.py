"""Coverage, tail, diversity, novelty, popularity and exposure of small lists, by hand."""

import numpy as np
import pytest

from souk.types.v1 import types_pb2
from tests.unit.training.ranker.logs import PURCHASE, SKIP, log
from training.evaluate.lists import Before, in_tail, judge_lists, wanted_shares
from training.evaluate.ranking import next_baskets
from training.ranker.measures import NOTHING

# Before the split all three like item 0, two item 1, one item 2; then they want 1, 2 and 3 (two of them), and 0.
ROWS = [
    *[(0, 0, PURCHASE, 0.0), (0, 1, PURCHASE, 1.0), (0, 1, PURCHASE, 30.0), (0, 2, PURCHASE, 30.1)],
    *[(1, 0, PURCHASE, 0.0), (1, 1, PURCHASE, 1.0), (1, 2, PURCHASE, 2.0), (1, 3, PURCHASE, 30.0)],
    *[(2, 0, PURCHASE, 0.0), (2, 3, SKIP, 1.0), (2, 0, PURCHASE, 30.0)],
]
LOG = log(ROWS, items=5)
MOMENT = next_baskets(LOG, 20 * 3600.0, np.inf, 0, 10)
CONTENT = np.array([[1, 0], [0, 1], [1, 0], [0, 0], [0.6, 0.8]], np.float32)


def items(brands: list[str], categories: list[list[str]]) -> list[types_pb2.Item]:
    return [types_pb2.Item(brand=brand, category_path=path) for brand, path in zip(brands, categories, strict=True)]


BEFORE = Before.of(items(["A", "A", "B", "", ""], [[]] * 5), CONTENT, LOG, MOMENT.seen)


def lists(*rows: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array([row + [NOTHING] * (12 - len(row)) for row in rows])


def test_what_was_known_before() -> None:
    assert BEFORE.likers.tolist() == [3, 2, 1, 0, 0]
    assert BEFORE.shoppers == 3
    # Six events: items 0 and 1 hold five of them, the first more than 80%.
    assert BEFORE.tail.tolist() == [False, False, True, True, True]


def test_the_head_holds_four_fifths() -> None:
    assert in_tail(np.array([1, 8, 1])).tolist() == [True, False, True]
    assert in_tail(np.array([2, 2, 2, 2, 2])).tolist() == [False, False, False, False, True]


def test_values_of_each_list() -> None:
    found = judge_lists(lists([0, 1, 4], [2, 3], [0]), MOMENT.examples, LOG, BEFORE).values
    # Of the tail they want item 2, item 3, and nothing.
    assert found["tail_recall@10"].tolist()[:2] == [0, 1]
    assert np.isnan(found["tail_recall@10"][2])
    # Cosines 0, .6 and .8; item 3 cannot be read; one item is no pair.
    assert found["diversity@10"][0] == pytest.approx((1 + 0.4 + 0.2) / 3)
    assert np.isnan(found["diversity@10"][1:]).all()
    bits = [-np.log2(4 / 4), -np.log2(3 / 4), -np.log2(2 / 4), -np.log2(1 / 4), -np.log2(1 / 4)]
    assert found["novelty@10"] == pytest.approx([(bits[0] + bits[1] + bits[4]) / 3, (bits[2] + bits[3]) / 2, 0])
    assert found["popularity@10"] == pytest.approx([(1 + 2 / 3 + 0) / 3, (1 / 3 + 0) / 2, 1])


def test_totals_of_all_lists() -> None:
    found = judge_lists(lists([0, 1, 4], [2, 3], [0]), MOMENT.examples, LOG, BEFORE)
    assert found.totals["coverage@10"] == 1
    # Histories: 1 and 2/3; 1, 2/3 and 1/3; 1 (what was skipped does not count).
    met = (5 / 6 + 2 / 3 + 1) / 3
    assert found.totals["popularity_lift@10"] == pytest.approx((5 / 9 + 1 / 6 + 1) / 3 / met - 1)
    same = judge_lists(lists([1, 0], [1, 0], [1, 0]), MOMENT.examples, LOG, BEFORE)
    assert same.totals["coverage@10"] == 2 / 5
    assert same.totals["popularity_lift@10"] == pytest.approx((5 / 6) / met - 1)


def test_exposure_by_brand() -> None:
    """A at 1 and 2, none at 3; B at 1, none at 2; A at 1. Wanted: A and B alike, none, A."""
    found = judge_lists(lists([0, 1, 4], [2, 3], [0]), MOMENT.examples, LOG, BEFORE)
    second, third = 1 / np.log2(3), 0.5
    total = 3 + 2 * second + third
    shown = {"(none)": (second + third) / total, "A": (2 + second) / total, "B": 1 / total}
    assert found.exposure == pytest.approx(shown)
    asked = {"(none)": 1 / 3, "A": 1 / 2, "B": 1 / 6}
    assert dict(zip(BEFORE.groups, wanted_shares(MOMENT.examples, BEFORE), strict=True)) == pytest.approx(asked)
    gap = sum(abs(shown[name] - asked[name]) for name in asked) / 2
    assert found.totals["exposure_gap@10"] == pytest.approx(gap)


def test_groups_are_brands_else_categories_else_none() -> None:
    few = ["A", "", "", "", ""]
    by = Before.of(items(few, [["x", "y"], ["x"], ["z"], [], []]), CONTENT, LOG, MOMENT.seen)
    assert (by.grouped_by, by.groups, by.group.tolist()) == ("category", ["(none)", "x", "z"], [1, 1, 2, 0, 0])
    none = Before.of(items(few, [[]] * 5), CONTENT, LOG, MOMENT.seen)
    found = judge_lists(lists([0], [1], [2]), MOMENT.examples, LOG, none)
    assert none.grouped_by == ""
    assert found.exposure == {}
    assert "exposure_gap@10" not in found.totals


def test_an_empty_list() -> None:
    found = judge_lists(lists([], [1], [0]), MOMENT.examples, LOG, BEFORE)
    assert np.isnan(found.values["novelty@10"][0])
    assert np.isnan(found.values["popularity@10"][0])
    assert found.values["tail_recall@10"][0] == 0
    assert found.totals["coverage@10"] == 2 / 5
