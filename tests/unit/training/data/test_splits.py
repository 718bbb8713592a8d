"""Splits: no event on two sides, no future in the past, no time where there is none."""

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from training.data.canonical import Dataset, DatasetWriter, Info, NoTime, open_dataset
from training.data.splits import by_shopper, by_time, leave_one_out


@pytest.fixture
def ordered(tmp_path: Path) -> Dataset:
    """Shoppers of 1, 2 and 5 events that have an order alone."""
    with DatasetWriter(tmp_path / "d", Info("toy", "1", "here", "none")) as writer:
        writer.write("items", [{"item_id": "a"}])
        events = [
            {"event_id": f"{size}-{order}", "shopper_id": str(size), "type": "VIEW", "order": order, "item_id": "a"}
            for size in (1, 2, 5)
            for order in reversed(range(size))
        ]
        writer.write("events", events)
    return open_dataset(tmp_path / "d")


def ids(frame: pl.DataFrame) -> list[str]:
    return sorted(frame["event_id"].to_list())


def test_leave_one_out_takes_the_last_by_order(ordered: Dataset) -> None:
    split = leave_one_out(ordered)
    assert ids(split.test) == ["5-4"]
    assert ids(split.validation) == ["5-3"]
    assert ids(split.train) == ["1-0", "2-0", "2-1", "5-0", "5-1", "5-2"]


def test_a_split_by_time_is_refused_by_name_without_time(ordered: Dataset) -> None:
    with pytest.raises(NoTime, match="dataset has no time: a split by time needs the column 'time' of events"):
        by_time(ordered)


def test_by_time_no_event_of_the_future_is_learned_from(shop: Dataset) -> None:
    split = by_time(shop, 0.1, 0.2)
    parts = [split.train, split.validation, split.test]
    assert sum(len(part) for part in parts) == len(shop.events())
    assert [len(part) / len(shop.events()) for part in parts] == pytest.approx([0.7, 0.1, 0.2], abs=0.01)
    for one, two in pairwise(parts):
        assert one["time"].max() < two["time"].min()  # type: ignore[operator]


def test_by_shopper_nobody_is_on_two_sides(shop: Dataset) -> None:
    split = by_shopper(shop, 0.1, 0.2, seed=3)
    shoppers = [set(part["shopper_id"]) for part in (split.train, split.validation, split.test)]
    assert not shoppers[0] & shoppers[1] | shoppers[0] & shoppers[2] | shoppers[1] & shoppers[2]
    total = len(set(shop.events()["shopper_id"]))
    assert [len(part) / total for part in shoppers] == pytest.approx([0.7, 0.1, 0.2], abs=0.01)
    assert ids(by_shopper(shop, seed=4).test) != ids(by_shopper(shop, seed=5).test)
