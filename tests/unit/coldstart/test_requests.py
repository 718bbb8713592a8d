"""What is malformed is refused with the field and the limit."""

from typing import Any

import pytest

from services.coldstart.requests import check_event, check_events, check_impression, check_impressions
from services.domain.checks import Invalid
from souk.types.v1 import types_pb2
from tests.unit.coldstart.making import CART, NOW, SEARCH, VIEW, event


def test_a_whole_event_passes() -> None:
    whole = event("e", kind=CART, at=NOW, quantity=2, price=1.5, currency="EUR", query="q", request_id="r", dwell_ms=0)
    check_event(whole, "event")
    check_event(event("e", item="", kind=SEARCH, query="shoes"), "event")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"event_id": ""}, "events[0].event_id: is empty"),
        ({"event_id": "x" * 129}, "events[0].event_id: 129 bytes; the limit is 128"),
        ({"shopper": "a\nb"}, "events[0].shopper_id: holds a control character"),
        ({"kind": 0}, "events[0].type: 0 is not a type of event"),
        ({"kind": 99}, "events[0].type: 99 is not a type of event"),
        ({"item": ""}, "events[0].item_id: is empty"),
        ({"kind": SEARCH}, "events[0].item_id: must be empty for SEARCH"),
        ({"query": "x" * 513}, "events[0].query: 513 bytes; the limit is 512"),
        ({"scene": 99}, "events[0].scene: 99 is not a scene"),
        ({"request_id": "x" * 65}, "events[0].request_id: 65 bytes; the limit is 64"),
        ({"kind": CART, "quantity": 0}, "events[0].quantity: 0; it must be 1 or more"),
        ({"kind": VIEW, "quantity": 1}, "events[0].quantity: is for CART, UNCART, PURCHASE and RETURN"),
        ({"price": float("nan"), "currency": "EUR"}, "events[0].price: nan; it must be finite and 0 or more"),
        ({"price": 1.0, "currency": "euro"}, "events[0].currency: 'euro' is not an ISO 4217 code"),
    ],
)
def test_a_malformed_event_is_named(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(Invalid) as raised:
        check_events([event(**{"event_id": "e", **fields})])
    assert str(raised.value).startswith(problem)


def test_a_time_outside_the_calendar_is_refused() -> None:
    wrong = event("e")
    wrong.time.seconds = 2**60
    with pytest.raises(Invalid, match=r"events\[0\]\.time\.seconds"):
        check_events([wrong])


def test_batches_are_bounded() -> None:
    with pytest.raises(Invalid, match="events: holds 0; it must hold 1 to 1000"):
        check_events([])
    with pytest.raises(Invalid, match="events: holds 1001"):
        check_events([event(str(n)) for n in range(1_001)])
    with pytest.raises(Invalid, match="impressions: holds 101"):
        check_impressions([types_pb2.Impression(request_id="r")] * 101)


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ({"item_id": ""}, "at.items[1].item_id: is empty"),
        ({"position": 0}, "at.items[1].position: 0 stands here twice"),
        ({"score": float("inf")}, "at.items[1].score: is not finite"),
        ({"stock": -1}, "at.items[1].stock: -1; it must be 0 or more"),
        ({"propensity": 0.0}, "at.items[1].propensity: 0.0; it must be above 0 and at most 1"),
        ({"propensity": 1.5}, "at.items[1].propensity: 1.5; it must be above 0 and at most 1"),
        ({"propensity": float("nan")}, "at.items[1].propensity: nan"),
    ],
)
def test_a_malformed_impression_is_named(item: dict[str, Any], problem: str) -> None:
    good: dict[str, Any] = {"item_id": "a", "position": 0, "score": 1.0, "propensity": 1.0}
    items = [types_pb2.ImpressionItem(**good), types_pb2.ImpressionItem(**{**good, "position": 1, **item})]
    with pytest.raises(Invalid) as raised:
        check_impression(types_pb2.Impression(request_id="r", items=items), "at")
    assert str(raised.value).startswith(problem)


def test_an_impression_needs_an_answer_and_nobody() -> None:
    check_impression(types_pb2.Impression(request_id="r"), "at")
    with pytest.raises(Invalid, match=r"at\.request_id: is empty"):
        check_impression(types_pb2.Impression(), "at")
