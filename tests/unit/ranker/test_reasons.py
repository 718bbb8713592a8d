"""Reasons are told only of what is there."""

import numpy as np
from numpy.typing import NDArray

from services.domain.features import FEATURES
from services.ranker.reasons import Ranked, explain
from souk.coldstart.v1 import coldstart_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from tests.unit.ranker import tiny

AFFINITY, MISSING, POPULARITY = map(FEATURES.index, ("affinity", "affinity_missing", "popularity"))


def score(rows: Float32) -> NDArray[np.float64]:
    """Wants what has no vector, and a little what is popular."""
    return 1.0 + rows[:, MISSING].astype(np.float64) + 0.1 * rows[:, POPULARITY]


def ranked(*events: tuple[str, types_pb2.EventType.ValueType], vectors: Float32) -> Ranked:
    context = coldstart_pb2.ShopperContext(history=tiny.history(*events))
    request = tiny.request(tiny.candidates("a", "b"), context=context)
    return Ranked(request, np.eye(tiny.DIM, dtype=np.float32)[:2], vectors)


def test_an_item_without_a_vector_is_not_said_to_be_near_anything() -> None:
    rows = np.zeros((2, len(FEATURES)), np.float32)
    rows[0, AFFINITY], rows[1, MISSING], rows[1, POPULARITY] = 0.5, 1, 5
    (one, other) = explain([0, 1], rows, score, np.ones(2), ranked(vectors=np.zeros((0, tiny.DIM), np.float32)))
    assert not one.reasons
    assert [reason.text for reason in other.reasons] == ["popular"]


def test_the_nearest_event_is_named_and_the_latest_among_equals() -> None:
    view, bought = types_pb2.EVENT_TYPE_VIEW, types_pb2.EVENT_TYPE_PURCHASE
    skip = types_pb2.EVENT_TYPE_SKIP
    events = (("x", view), ("y", bought), ("x2", bought), ("waved away", skip))
    met = ranked(*events, vectors=np.eye(tiny.DIM, dtype=np.float32)[[0, 1, 0, 0]])
    assert met.nearest(0) == ("near what you bought", "x2")
    assert met.nearest(1) == ("near what you bought", "y")
    assert ranked(vectors=np.zeros((0, tiny.DIM), np.float32)).nearest(0) == ("fits what you did", "")


def test_rising_demand_and_the_last_ones_are_told() -> None:
    rows = np.zeros((2, len(FEATURES)), np.float32)
    rows[0, FEATURES.index("trend")], rows[0, FEATURES.index("few_left")] = 0.5, 0.2
    (one, other) = explain(
        [0, 1], rows, lambda x: 1.0 + x.sum(axis=1), np.ones(2), ranked(vectors=np.zeros((0, tiny.DIM), np.float32))
    )
    assert [reason.text for reason in one.reasons] == ["more in demand lately", "few left"]
    assert not other.reasons


def test_an_item_is_not_said_to_be_near_itself() -> None:
    view = types_pb2.EVENT_TYPE_VIEW
    vectors = np.eye(tiny.DIM, dtype=np.float32)[[0, 1]]
    assert ranked(("a", view), ("y", view), vectors=vectors).nearest(0) == ("near what you viewed", "y")
    assert ranked(("a", view), vectors=vectors[:1]).nearest(0) == ("fits what you did", "")
    assert ranked(("a", view), vectors=vectors[:1]).again("a") == ("you viewed it", "")


def test_an_interest_is_named_where_the_item_is_of_it() -> None:
    columns = tiny.candidates(
        "a", "b", "c", title=["pot", "red kettles", "x"], category=[1, 0, 0], categories=["", "Home > Teapots"]
    )
    labels = ("teapots, clay", "Kettles", "Rugs")
    context = coldstart_pb2.ShopperContext(topics=[coldstart_pb2.TopicShare(label=label) for label in labels])
    none = np.zeros((3, tiny.DIM), np.float32)
    met = Ranked(tiny.request(columns, context=context), none, none[:0])
    assert [met.interest(row) for row in range(3)] == ["teapots, clay", "Kettles", ""]


def test_no_more_than_four_reasons_are_told_strongest_first() -> None:
    rows = np.zeros((2, len(FEATURES)), np.float32)
    names = ("words", "meaning", "like", "profile", "popularity", "recency", "price_closeness")
    for weight, name in enumerate(names, start=1):
        rows[0, FEATURES.index(name)] = weight

    def total(features: Float32) -> NDArray[np.float64]:
        totals: NDArray[np.float64] = features.sum(axis=1, dtype=np.float64)
        return totals

    (reasons, _) = explain([0, 1], rows, total, np.ones(2), ranked(vectors=np.zeros((0, tiny.DIM), np.float32)))
    assert [reason.text for reason in reasons.reasons] == [
        "priced as you choose",
        "new",
        "popular",
        "fits your interests",
    ]
    assert [reason.contribution for reason in reasons.reasons] == [3.5, 3.0, 2.5, 2.0]
