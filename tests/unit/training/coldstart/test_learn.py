"""The blend that is served is learned from the end of a log, holds all of it, and says what it lacks."""

from pathlib import Path

import numpy as np
import pytest

from souk.types.v1 import types_pb2
from tests.unit.training.ranker.logs import dataset, tastes
from training.coldstart import learn as learning
from training.coldstart.learn import TooLittle, learn
from training.data.canonical import Dataset


def shop(path: Path, shoppers: int = 120) -> tuple[Dataset, dict[str, types_pb2.Item], dict[str, np.ndarray]]:
    """Shoppers who walk one of three groups of 20 items; the last item of each group is new."""
    log, content = tastes(shoppers=shoppers, items=60, groups=3)
    events = [
        {
            "event_id": str(row),
            "shopper_id": log.shopper_ids[log.shopper[row]],
            "type": "PURCHASE",
            "item_id": log.item_ids[log.item[row]],
            "order": row,
        }
        for row in range(len(log.item))
        if log.item[row] % 20 != 19
    ]
    items = {one: types_pb2.Item(id=one) for one in log.item_ids}
    return dataset(path, log.item_ids, events), items, dict(zip(log.item_ids, content, strict=True))


def test_what_was_liked_decides_and_new_items_are_found(tmp_path: Path) -> None:
    data, items, content = shop(tmp_path / "data")
    learned = learn(data, items, content, 7)
    assert learned.metrics["coldstart.blend_recall@10_warm"] > 0.3
    assert learned.metrics["coldstart.blend_cold_share"] <= 0.5
    made = learned.blended
    assert made.strategies.unknown.sum() == 3
    after = [item for item, _ in made.best(["i2", "i3", "i4"], 3, (), 20)]
    assert sum(int(item[1:]) < 20 for item in after) > 15
    new = [item for item, _ in made.best(["i2", "i3", "i4"], 3, (), 3, among=("i19", "i39", "i59"))]
    assert new[0] == "i19"
    before = [item for item, _ in made.best([], 0, (), 10)]
    assert len({int(item[1:]) // 20 for item in before}) > 1


def test_the_most_liked_items_alone_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MOST_ITEMS", 50)
    data, items, content = shop(tmp_path / "data")
    del content["i0"]
    made = learn(data, items, content, 7).blended
    assert len(made.item_ids) == 50
    assert "i0" not in made.item_ids
    # What nobody met goes first.
    assert not made.strategies.unknown.any()


def test_a_log_that_says_too_little_is_named(tmp_path: Path) -> None:
    data, items, content = shop(tmp_path / "few", shoppers=20)
    with pytest.raises(TooLittle, match="20 moments at the end of the log; a blend needs 40 at least"):
        learn(data, items, content, 7)
    with pytest.raises(TooLittle, match="no event with an item"):
        learn(dataset(tmp_path / "none", list(items), []), items, content, 7)
