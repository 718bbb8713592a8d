"""Checks of what callers tell: the limits of the contract's comments, each refusal naming field and limit."""

import math
import re
from collections.abc import Sequence

from services.domain.checks import (
    Invalid,
    check_attributes,
    check_count,
    check_id,
    check_money,
    check_range,
    check_text,
)
from souk.types.v1 import types_pb2

MAX_EVENTS = 1_000
MAX_IMPRESSIONS = 100
MAX_SHOWN = 1_000
MAX_SHOPPER_ATTRIBUTES = 32
_MAX_REQUEST_ID_BYTES = 64
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# The years a Timestamp can hold: 0001 to 9999.
_SECONDS = (-62135596800, 253402300799)
_TYPES = frozenset(types_pb2.EventType.values()) - {types_pb2.EVENT_TYPE_UNSPECIFIED}
_SCENES = frozenset(types_pb2.Scene.values())
_COUNTED = frozenset(
    (
        types_pb2.EVENT_TYPE_CART,
        types_pb2.EVENT_TYPE_UNCART,
        types_pb2.EVENT_TYPE_PURCHASE,
        types_pb2.EVENT_TYPE_RETURN,
    )
)


def check_events(events: Sequence[types_pb2.Event]) -> None:
    """A batch of events. Raises Invalid."""
    check_count(events, "events", 1, MAX_EVENTS)
    for i, event in enumerate(events):
        check_event(event, f"events[{i}]")


def check_event(event: types_pb2.Event, field: str) -> None:
    """Every limit that the contract sets for an event."""
    check_id(event.event_id, f"{field}.event_id")
    check_id(event.shopper_id, f"{field}.shopper_id")
    if event.type not in _TYPES:
        raise Invalid(f"{field}.type", f"{event.type} is not a type of event")
    if event.HasField("time"):
        _check_time(event.time.seconds, event.time.nanos, f"{field}.time")
    if event.type == types_pb2.EVENT_TYPE_SEARCH:
        if event.item_id:
            raise Invalid(f"{field}.item_id", "must be empty for SEARCH")
    else:
        check_id(event.item_id, f"{field}.item_id")
    check_text(event.query, f"{field}.query", 512, allow_empty=True)
    if event.scene not in _SCENES:
        raise Invalid(f"{field}.scene", f"{event.scene} is not a scene")
    _check_request_id(event.request_id, f"{field}.request_id")
    if event.HasField("quantity"):
        if event.type not in _COUNTED:
            raise Invalid(f"{field}.quantity", "is for CART, UNCART, PURCHASE and RETURN")
        if event.quantity < 1:
            raise Invalid(f"{field}.quantity", "0; it must be 1 or more")
    if event.HasField("price"):
        check_money(event.price, event.currency, f"{field}.price", f"{field}.currency")


def check_impressions(impressions: Sequence[types_pb2.Impression]) -> None:
    """A batch of impressions. Raises Invalid."""
    check_count(impressions, "impressions", 1, MAX_IMPRESSIONS)
    for i, impression in enumerate(impressions):
        check_impression(impression, f"impressions[{i}]")


def check_impression(impression: types_pb2.Impression, field: str) -> None:
    """Every limit that holds for an answer as it was shown. Nobody in particular may have seen it (empty shopper)."""
    if not impression.request_id:
        raise Invalid(f"{field}.request_id", "is empty")
    _check_request_id(impression.request_id, f"{field}.request_id")
    if impression.shopper_id:
        check_id(impression.shopper_id, f"{field}.shopper_id")
    if impression.scene not in _SCENES:
        raise Invalid(f"{field}.scene", f"{impression.scene} is not a scene")
    check_text(impression.policy, f"{field}.policy", 128, allow_empty=True)
    check_text(impression.generation, f"{field}.generation", 64, allow_empty=True)
    if impression.HasField("time"):
        _check_time(impression.time.seconds, impression.time.nanos, f"{field}.time")
    check_text(impression.query, f"{field}.query", 512, allow_empty=True)
    check_count(impression.items, f"{field}.items", 0, MAX_SHOWN)
    positions: set[int] = set()
    for i, item in enumerate(impression.items):
        at = f"{field}.items[{i}]"
        check_id(item.item_id, f"{at}.item_id")
        if item.position in positions:
            raise Invalid(f"{at}.position", f"{item.position} stands here twice")
        positions.add(item.position)
        if item.HasField("stock") and item.stock < 0:
            raise Invalid(f"{at}.stock", f"{item.stock}; it must be 0 or more")
        if not math.isfinite(item.score):
            raise Invalid(f"{at}.score", "is not finite")
        if not 0 < item.propensity <= 1:
            raise Invalid(f"{at}.propensity", f"{item.propensity}; it must be above 0 and at most 1")


def check_shopper_attributes(attributes: Sequence[types_pb2.Attribute], field: str) -> None:
    """At most 32 named properties. Raises Invalid."""
    check_attributes(attributes, field, MAX_SHOPPER_ATTRIBUTES)


def _check_time(seconds: int, nanos: int, field: str) -> None:
    check_range(seconds, f"{field}.seconds", *_SECONDS)
    check_range(nanos, f"{field}.nanos", 0, 999_999_999)


def _check_request_id(value: str, field: str) -> None:
    size = len(value.encode())
    if size > _MAX_REQUEST_ID_BYTES:
        raise Invalid(field, f"{size} bytes; the limit is {_MAX_REQUEST_ID_BYTES}")
    if _CONTROL.search(value):
        raise Invalid(field, "holds a control character")
