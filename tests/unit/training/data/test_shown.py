"""The generated shop says with which probability everything stood where it stood."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.unit.training.policy.logs import STRENGTH, odds_of_orders, place_odds
from training.data.behaviour import EXAMINED
from training.data.canonical import open_dataset
from training.data.generate import generate
from training.data.shown import place_odds as computed
from training.data.validate import validate


def test_the_odds_of_a_place_are_those_of_all_orders() -> None:
    orders = np.array(list(odds_of_orders()))
    found = computed(STRENGTH[orders], np.ones(orders.shape, bool))
    assert found == pytest.approx(place_odds()[orders, np.arange(3)], abs=1e-4)
    # What is not there takes no place from anything.
    with_nothing = np.concatenate([STRENGTH[orders], np.full((len(orders), 1), 9.0)], axis=1)
    there = np.arange(4) < np.full((len(orders), 1), 3)
    assert computed(with_nothing, there) == pytest.approx(np.c_[found, np.ones(len(orders))])


def test_impressions_are_added_and_change_nothing_else(tmp_path: Path) -> None:
    for name, impressions in (("with", True), ("without", False)):
        generate(tmp_path / name, items=150, shoppers=30, seed=5, impressions=impressions)
    for table in ("items", "shoppers", "events", "judgements"):
        file = f"{table}.parquet"
        assert (tmp_path / "with" / file).read_bytes() == (tmp_path / "without" / file).read_bytes()
    assert validate(tmp_path / "with").bad == {}
    dataset = open_dataset(tmp_path / "with")
    shown, events = dataset.impressions(), dataset.events()
    clicks = events.filter(pl.col("type") == "CLICK").select("request_id", "item_id")
    marked = shown.filter(pl.col("clicked")).select("request_id", "item_id")
    assert marked.sort(marked.columns).equals(clicks.sort(clicks.columns))
    searches = events.filter(pl.col("type") == "SEARCH").select("request_id", "query")
    assert shown.join(searches, on="request_id").select(pl.col("query") == pl.col("query_right")).to_series().all()
    # At the first place every item of a page has had its chance.
    first = shown.filter(pl.col("position") == 0)
    assert float((1 / first["propensity"]).mean()) == pytest.approx(len(shown) / len(first), rel=0.15)  # type: ignore[arg-type]
    truth = pl.read_parquet(tmp_path / "with" / "truth" / "impressions.parquet")
    chance = shown.join(truth, on=("request_id", "item_id"), maintain_order="left")["chance"].to_numpy()
    expected = (EXAMINED[shown["position"].to_numpy()] * chance).sum()
    assert marked.height == pytest.approx(expected, abs=4 * np.sqrt(expected))
