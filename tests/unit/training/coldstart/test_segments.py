"""Segments: which values count, and how what they like differs, held back where little is known."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.unit.training.ranker.logs import PURCHASE, log
from training.coldstart.segments import Segments, rates, shrunk
from training.data.canonical import DatasetWriter, Info, open_dataset


def test_values_that_enough_shoppers_have(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "data", Info("toy", "1", "here", "none")) as writer:
        told = [{"age": ["old"], "rare": ["x"]} if n == 0 else {"age": ["old"]} if n < 10 else None for n in range(12)]
        rows = [
            {"shopper_id": f"s{n}", "attributes": None if one is None else json.dumps(one)}
            for n, one in enumerate(told)
        ]
        writer.write("shoppers", rows)
        writer.write("items", [{"item_id": "i0"}])
    shoppers = log([(n, 0, PURCHASE, 1.0) for n in range(12)], 1)
    segments = Segments.read(open_dataset(tmp_path / "data"), shoppers)
    assert segments.names == ("age=old",)
    assert [one.tolist() for one in segments.of] == [[0]] * 10 + [[]] * 2


def test_lifts_are_of_items_and_their_categories() -> None:
    # The segment's shoppers like items 0 and 1 of category 1, others item 2 and 3 of category 2.
    rows = [(s, (0 if s % 2 else 1) if s < 40 else 2, PURCHASE, 1.0) for s in range(80)]
    segments = Segments(("a=b",), [np.array([0])] * 40 + [np.empty(0, np.int64)] * 40)
    lifts, by_category = segments.lifts(log(rows, 5), np.array([1, 1, 2, 2, 1]))
    assert lifts.shape == (1, 5)
    assert lifts[0, 0] == pytest.approx(lifts[0, 1])
    assert lifts[0, 0] > 0 > lifts[0, 2]
    # Nobody met items 3 and 4: they stand as their categories do.
    assert lifts[0, 4] > 0 > lifts[0, 3]
    # And, but for the half event that is expected of them, as any other of their category that comes later.
    assert by_category.shape == (1, 3)
    assert by_category[0, 1:] == pytest.approx(lifts[0, [4, 3]], abs=0.01)


def test_what_is_seldom_met_anywhere_says_nothing() -> None:
    """3,000 items of the long tail, met by whom chance sends, and one that the segment takes twice as often."""
    rng = np.random.default_rng(0)
    tail = [(shopper, item, PURCHASE, 1.0) for item, shopper in enumerate(rng.integers(80, size=3000).tolist(), 1)]
    liked = [(s, 0, PURCHASE, 1.0) for s in range(80) for _ in range(20 if s < 40 else 10)]
    segments = Segments(("a=b",), [np.array([0])] * 40 + [np.empty(0, np.int64)] * 40)
    lifts, _ = segments.lifts(log(liked + tail, 3001), np.zeros(3001, np.int64))
    assert lifts[0, 0] > 0.15
    assert np.abs(lifts[0, 1:]).max() < 0.1


def test_rates() -> None:
    assert rates(np.array([3, 0])).tolist() == pytest.approx([3.5 / 4, 0.5 / 4])
    expected = np.array([0.5, 0.5])
    assert shrunk(np.array([4, 0]), 4, expected, 4).tolist() == [0.75, 0.25]
    assert shrunk(np.array([0, 0]), 0, expected, 4).tolist() == [0.5, 0.5]
