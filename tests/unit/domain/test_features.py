"""Features are of one candidate and the shopper alone, finite whatever is missing, and say what they are named for."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.domain.features import FEATURES, category_share, features, split_category
from souk.coldstart.v1 import coldstart_pb2
from souk.types.v1 import types_pb2

NOW = 1_700_000_000.0
DAY = 86_400
NAN = float("nan")


def context(**changes: Any) -> coldstart_pb2.ShopperContext:
    entry = coldstart_pb2.HistoryEntry
    values: dict[str, Any] = {
        "shopper_id": "s",
        "history": [
            entry(item_id="a", type=types_pb2.EVENT_TYPE_VIEW, time_ms=int(NOW - 60 * DAY) * 1000),
            entry(item_id="a", type=types_pb2.EVENT_TYPE_PURCHASE, time_ms=int(NOW - 30 * DAY) * 1000),
            entry(item_id="b", type=types_pb2.EVENT_TYPE_SKIP, time_ms=int(NOW - DAY) * 1000),
        ],
        "brands": [coldstart_pb2.NamedShare(name="Acme", share=0.75)],
        "categories": [coldstart_pb2.NamedShare(name="Home > Lamps", share=0.5)],
        "mean_log_price": float(np.log1p(20.0)),
        "seen_item_ids": ["b"],
        "cart_item_ids": ["c"],
    }
    return coldstart_pb2.ShopperContext(**(values | changes))


def candidates() -> types_pb2.CandidateColumns:
    return types_pb2.CandidateColumns(
        id=["a", "b", "c"],
        price=[20.0, NAN, 200.0],
        brand=[1, 0, 2],
        brands=["", "Acme", "Other"],
        category=[2, 0, 1],
        categories=["", "Home", "Home > Lamps"],
        created_at=[int(NOW) - 3650 * DAY, int(NOW), int(NOW) + DAY],
        popularity=[1000.0, 0.0, 10.0],
        stock=[10, -1, 0],
        promotion=[0, 1, 0],
        promotions=["", "spring"],
        legs=[
            types_pb2.LegScores(leg="words", score=[5.0, NAN, 2.0]),
            types_pb2.LegScores(leg="meaning", score=[0.5, 0.25, NAN]),
            types_pb2.LegScores(leg="together", score=[0.1, NAN, 1.0]),
            types_pb2.LegScores(leg="trend", score=[NAN, 1.5, 9.0]),
            types_pb2.LegScores(leg="unheard of", score=[9.0, 9.0, 9.0]),
        ],
    )


def columns(**arguments: Any) -> dict[str, list[float]]:
    values: dict[str, Any] = {
        "context": context(),
        "query": "lamp",
        "scene": types_pb2.SCENE_SEARCH,
        "candidates": candidates(),
        "affinity": np.array([0.5, NAN, -0.5]),
        "now": NOW,
    }
    made = features(**(values | arguments))
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    return {name: made[:, column].tolist() for column, name in enumerate(FEATURES)}


def test_each_says_what_it_is_named_for() -> None:
    made = columns()
    assert made["affinity"] == [0.5, 0.0, -0.5]
    assert made["affinity_missing"] == [0, 1, 0]
    assert made["words"] == pytest.approx([0.5, 0, 2 / 7])
    assert made["meaning"] == [0.5, 0.25, 0]
    assert made["like"] == [0, 0, 0]
    assert made["together"] == pytest.approx([np.log(11) / np.log(101), 0, 1])
    assert made["popularity"] == pytest.approx([np.log(1001) / 10, 0, np.log(11) / 10])
    assert made["trend"] == [0, 0.5, 1]
    assert made["few_left"] == pytest.approx([np.exp(-2), 0, 1])
    assert made["recency"] == pytest.approx([0, 1, 1], abs=1e-6)
    assert made["price_closeness"] == pytest.approx([1, 0, 21 / 201])
    assert made["brand_share"] == [0.75, 0, 0]
    assert made["category_share"] == [0.5, 0, 0.25]
    assert made["in_history"] == [1, 0, 0]
    assert made["history_count"] == pytest.approx([np.log(3) / 3, 0, 0])
    assert made["history_lately"] == pytest.approx([np.log1p(np.exp(-1) + np.exp(-0.5)), 0, 0])
    assert made["history_recency"] == pytest.approx([np.exp(-0.5), 0, 0])
    assert made["turned_down"] == [0, 1, 0]
    assert made["seen"] == [0, 1, 0]
    assert made["in_cart"] == [0, 0, 1]
    assert made["promotion"] == [0, 1, 0]
    assert made["scene_search"] == [1, 1, 1]
    assert sum(sum(made[name]) for name in FEATURES if name.startswith("scene_")) == 3


def test_nothing_known_of_the_shopper_is_no_problem() -> None:
    made = columns(context=coldstart_pb2.ShopperContext(), query="", scene=types_pb2.SCENE_HOME)
    assert made["price_closeness"] == [0, 0, 0]
    assert made["words"] == [0, 0, 0]
    assert made["scene_home"] == [1, 1, 1]


def test_what_was_bought_after_it_was_waved_away_is_not_turned_down() -> None:
    entries = list(context().history)
    entries[2].item_id = "a"
    entries.append(coldstart_pb2.HistoryEntry(item_id="a", type=types_pb2.EVENT_TYPE_PURCHASE, time_ms=1))
    assert columns(context=context(history=entries))["turned_down"] == [0, 0, 0]


@settings(max_examples=50)
@given(order=st.permutations(range(3)), cut=st.integers(1, 3))
def test_a_candidate_has_the_same_features_in_any_company(order: list[int], cut: int) -> None:
    whole, affinity = candidates(), np.array([0.5, NAN, -0.5])
    kept = list(order)[:cut]
    part = types_pb2.CandidateColumns(brands=whole.brands, categories=whole.categories, promotions=whole.promotions)
    for name in ("id", "price", "brand", "category", "stock", "created_at", "popularity", "promotion"):
        getattr(part, name).extend(getattr(whole, name)[row] for row in kept)
    for leg in whole.legs:
        part.legs.add(leg=leg.leg, score=[leg.score[row] for row in kept])
    call = (context(), "lamp", types_pb2.SCENE_SEARCH)
    np.testing.assert_array_equal(
        features(*call, part, affinity[kept], NOW), features(*call, whole, affinity, NOW)[kept]
    )


def test_renaming_the_items_changes_nothing() -> None:
    before = columns()
    known, offered = context(), candidates()
    for entry in known.history:
        entry.item_id = f"item {entry.item_id}"
    for ids in (known.seen_item_ids, known.cart_item_ids, offered.id):
        renamed = [f"item {id_}" for id_ in ids]
        del ids[:]
        ids.extend(renamed)
    assert columns(context=known, candidates=offered) == before


def test_categories_count_by_what_they_begin_with() -> None:
    shares = [(("A", "B"), 0.5), (("A", "C"), 0.25)]
    assert category_share(("A", "B"), shares) == 0.5 + 0.125
    assert category_share(("A",), shares) == 0.375
    assert category_share(("X", "B"), shares) == 0
    assert category_share((), shares) == 0
    assert split_category("") == ()
    assert split_category("A > B") == ("A", "B")
