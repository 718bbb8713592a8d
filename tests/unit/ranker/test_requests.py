"""Every limit of the contract, by the name of the field."""

from typing import Any

import pytest

from services.coldstart.requests import check_event
from services.domain.checks import Invalid
from services.ranker.requests import check_rank
from souk.coldstart.v1 import coldstart_pb2
from souk.types.v1 import types_pb2
from tests.unit.ranker import tiny

NAN, INF = float("nan"), float("inf")
Context = coldstart_pb2.ShopperContext
Share = coldstart_pb2.NamedShare
LEG = types_pb2.LegScores


def test_what_is_well_formed_passes() -> None:
    columns = tiny.candidates(
        "a", "b", price=[NAN, 0.0], legs=[LEG(leg="words", score=[NAN, 2.0])], stock=[-1, 0], created_at=[-5, 2**40]
    )
    check_rank(tiny.request(columns), 2)
    context = Context(
        shopper_id="42",
        history=tiny.history(*[("i1", types_pb2.EVENT_TYPE_VIEW)] * 256),
        seen_item_ids=["x"] * 2000,
        cart_item_ids=["x"] * 100,
        brands=[Share(name="b", share=1.0)] * 16,
        mean_log_price=0.0,
    )
    check_rank(tiny.request(columns, context=context, query="q" * 512, item_ids=["x"] * 100, top_k=2), 2)


def test_what_the_log_takes_as_an_event_is_a_history() -> None:
    event = types_pb2.Event(event_id="e", shopper_id="s", type=types_pb2.EVENT_TYPE_VIEW, item_id="i")
    event.time.FromJsonString("0001-01-01T00:00:00Z")
    check_event(event, "event")
    entry = coldstart_pb2.HistoryEntry(item_id="i", type=event.type, time_ms=event.time.ToMilliseconds())
    check_rank(tiny.request(tiny.candidates("a", "b"), context=Context(shopper_id="s", history=[entry])), 2)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"id": []}, "candidates.id: holds 0; it must hold 1 to 3"),
        ({"id": ["a", "b", "c", "d"]}, "candidates.id: holds 4; it must hold 1 to 3"),
        ({"id": ["a", ""]}, "candidates.id[1]: is empty"),
        ({"id": ["a", "x" * 129]}, "candidates.id[1]: 129 bytes; the limit is 128"),
        ({"id": ["a", "a"]}, "candidates.id[1]: 'a' stands here twice"),
        *(
            ({column: value}, f"candidates.{column}: holds 1; candidates.id holds 2")
            for column, value in {
                "revision": [1],
                "title": ["t"],
                "price": [1.0],
                "currency": [0],
                "brand": [0],
                "category": [0],
                "stock": [1],
                "created_at": [0],
                "popularity": [1.0],
                "score": [1.0],
            }.items()
        ),
        ({"currency": [0, 1]}, "candidates.currency[1]: 1; candidates.currencies holds 1"),
        ({"brands": []}, "candidates.brand[0]: 0; candidates.brands holds 0"),
        ({"category": [7, 0]}, "candidates.category[0]: 7; candidates.categories holds 1"),
        ({"price": [1.0, INF]}, "candidates.price[1]: inf; it must be finite and 0 or more"),
        ({"price": [-1.0, 1.0]}, "candidates.price[0]: -1.0; it must be finite and 0 or more"),
        ({"popularity": [1.0, NAN]}, "candidates.popularity[1]: nan; it must be finite and 0 or more"),
        ({"bid": [1.0]}, "candidates.bid: holds 1; candidates.id holds 2"),
        ({"bid": [-1.0, 1.0]}, "candidates.bid[0]: -1.0; it must be finite and 0 or more"),
        ({"boost": [1.0, 0.0]}, "candidates.boost[1]: 0.0; it must be finite and 0.001 or more"),
        ({"promotion": [0, 1], "promotions": [""]}, "candidates.promotion[1]: 1; candidates.promotions holds 1"),
        ({"supplier": [0]}, "candidates.supplier: holds 1; candidates.id holds 2"),
        ({"score": [NAN, 1.0]}, "candidates.score[0]: nan; it must be finite"),
        ({"legs": [LEG(leg="", score=[1, 1])]}, "candidates.legs[0].leg: is empty"),
        ({"legs": [LEG(leg="w", score=[1])]}, "candidates.legs[0].score: holds 1; candidates.id holds 2"),
        ({"legs": [LEG(leg="w", score=[1, INF])]}, "candidates.legs[0].score[1]: inf; it must be finite"),
        ({"legs": [LEG(leg="w", score=[1, 1])] * 2}, "candidates.legs[1].leg: 'w' stands here twice"),
    ],
)
def test_bad_candidates_are_named(columns: dict[str, Any], problem: str) -> None:
    given = tiny.candidates("a", "b")
    for name, value in columns.items():
        given.ClearField(name)  # type: ignore[arg-type]
        getattr(given, name).extend(value)
    with pytest.raises(Invalid) as caught:
        check_rank(tiny.request(given), 3)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"scene": 0}, "scene: 0 is not a scene"),
        ({"scene": 99}, "scene: 99 is not a scene"),
        ({"query": "q" * 513}, "query: 513 bytes; the limit is 512"),
        ({"query": "a\0b"}, "query: holds a null character"),
        ({"item_ids": ["x"] * 101}, "item_ids: holds 101; it must hold 0 to 100"),
        ({"item_ids": ["x", "\n"]}, "item_ids[1]: holds a control character"),
        ({"top_k": 3}, "top_k: 3; it must be 0 to 2"),
        ({"context": Context(shopper_id="x" * 129)}, "context.shopper_id: 129 bytes; the limit is 128"),
        (
            {"context": Context(history=tiny.history(*[("i", types_pb2.EVENT_TYPE_VIEW)] * 257))},
            "context.history: holds 257; it must hold 0 to 256",
        ),
        (
            {"context": Context(history=tiny.history(("", types_pb2.EVENT_TYPE_VIEW)))},
            "context.history[0].item_id: is empty",
        ),
        (
            {"context": Context(history=tiny.history(("i", types_pb2.EVENT_TYPE_UNSPECIFIED)))},
            "context.history[0].type: 0 is not an event type",
        ),
        (
            {"context": Context(topics=[coldstart_pb2.TopicShare(share=0.1)] * 17)},
            "context.topics: holds 17; it must hold 0 to 16",
        ),
        (
            {"context": Context(topics=[coldstart_pb2.TopicShare(share=1.5)])},
            "context.topics[0].share: 1.5; it must be 0 to 1",
        ),
        (
            {"context": Context(profile=types_pb2.Vector(data=b"123", dim=4))},
            "context.profile.data: 3 bytes; 1 x 4 numbers of this format take 16",
        ),
        ({"context": Context(seen_item_ids=["x"] * 2001)}, "context.seen_item_ids: holds 2001; it must hold 0 to 2000"),
        ({"context": Context(cart_item_ids=["x"] * 101)}, "context.cart_item_ids: holds 101; it must hold 0 to 100"),
        ({"context": Context(brands=[Share(share=NAN)])}, "context.brands[0].share: nan; it must be 0 to 1"),
        ({"context": Context(categories=[Share()] * 17)}, "context.categories: holds 17; it must hold 0 to 16"),
        (
            {"context": Context(mean_log_price=NAN)},
            "context.mean_log_price: nan; it must be finite and 0 or more",
        ),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_rank(tiny.request(tiny.candidates("a", "b"), **fields), 3)
    assert str(caught.value) == problem
