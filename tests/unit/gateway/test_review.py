"""What was decided reaches the scenes, queries and filters that it is for, and pinned items stand where they must."""

from typing import Any

import pytest

from services.gateway.listing import PINNED, Listed, Wanted
from services.gateway.peers import Peers
from services.gateway.review import Reviewed
from services.gateway.settings import GatewaySettings
from souk import filters
from souk.coldstart.v1 import review_pb2
from souk.retriever.v1.retriever_pb2 import Filter
from souk.types.v1 import types_pb2
from tests.unit.gateway.test_listing import FIRST, columns, slot

SUPPRESS, PIN = review_pb2.VERDICT_SUPPRESS, review_pb2.VERDICT_PIN
SEARCH, HOME, PROMOTION = types_pb2.SCENE_SEARCH, types_pb2.SCENE_HOME, types_pb2.SCENE_PROMOTION
NOW = 1_790_000_000.0


def reviewed(*decisions: review_pb2.Decision) -> Reviewed:
    one = Reviewed(Peers(GatewaySettings()))
    one._decisions = decisions
    return one


def decision(verdict: Any, item: str, until: float = 0, **fields: Any) -> review_pb2.Decision:
    made = review_pb2.Decision(verdict=verdict, item_id=item, **fields)
    if until:
        made.until.FromSeconds(int(until))
    return made


async def test_a_suppression_is_for_its_scene_and_its_time() -> None:
    held = reviewed(
        decision(SUPPRESS, "everywhere"),
        decision(SUPPRESS, "home", scene=HOME),
        decision(SUPPRESS, "over", until=NOW - 1),
        decision(SUPPRESS, "still", until=NOW + 1),
        decision(PIN, "pinned", scene=HOME),
    )
    assert held.suppressed(HOME, NOW) == {"everywhere", "home", "still"}
    assert held.suppressed(SEARCH, NOW) == {"everywhere", "still"}


MUGS = filters.category("Home", "Mugs")
SPRING = filters.attribute("Promotion", ["Spring", "summer"])


@pytest.mark.parametrize(
    ("scene", "query", "root", "places"),
    [
        (SEARCH, "  RED mug ", Filter(), {"any": 0, "red": 2}),
        (SEARCH, "red mugs", Filter(), {"any": 0}),
        (HOME, "", Filter(), {}),
        (HOME, "", filters.category("home", "mugs"), {"mug": 1}),
        (HOME, "", filters.all_of(filters.in_stock(), filters.all_of(MUGS)), {"mug": 1}),
        (HOME, "", filters.any_of(MUGS, filters.brand("Acme")), {}),
        (HOME, "", filters.none_of(MUGS), {}),
        (HOME, "", filters.category("home", "mugs", "small"), {}),
        (PROMOTION, "", SPRING, {"offer": 4}),
        (PROMOTION, "", filters.attribute("promotion", ["autumn"]), {}),
    ],
)
async def test_a_pin_is_for_its_query_category_or_promotion(
    scene: int, query: str, root: Filter, places: dict[str, int]
) -> None:
    held = reviewed(
        decision(PIN, "red", scene=SEARCH, query="red mug", place=2),
        decision(PIN, "any", scene=SEARCH, place=5),
        decision(PIN, "any", scene=SEARCH, place=0),
        decision(PIN, "mug", scene=HOME, place=1, category_path=["Home", "Mugs"]),
        decision(PIN, "offer", scene=PROMOTION, place=4, promotion="spring"),
        decision(PIN, "over", scene=SEARCH, until=NOW - 1),
    )
    assert held.pins(scene, query, root, NOW) == places


def test_pinned_items_stand_in_their_places_and_the_others_keep_their_order() -> None:
    listed = Listed.as_retrieved(columns(list("abcdef")))
    # Of one place the latest is given last and stands there.
    pinned = listed.with_pins({"x": 0, "e": 2, "y": 2, "gone": 3}, columns(["x", "y"]))
    assert pinned.ids() == list("xayebcdf")
    # What it pushes down decides the score of what nobody proposed; others keep their own.
    assert dict(zip(pinned.ids(), pinned.scores, strict=True)) == {
        **{"x": 6.0, "a": 6.0, "y": 2.0, "e": 2.0},
        **{"b": 5.0, "c": 4.0, "d": 3.0, "f": 1.0},
    }
    assert pinned.with_pins({"x": 0, "e": 2, "y": 2}).ids() == pinned.ids()


def test_a_place_beyond_the_list_is_its_end() -> None:
    assert Listed.as_retrieved(columns(list("ab"))).with_pins({"x": 50}, columns(["x"])).ids() == ["a", "b", "x"]
    assert Listed.as_retrieved(columns([])).with_pins({"x": 50}, columns(["x"])).ids() == ["x"]


def test_a_pinned_item_counts_no_exploration_says_why_and_yields_to_what_must_not_be_shown() -> None:
    listed = Listed.as_retrieved(columns(list("abcd"))).exploring([slot("c", 0)])
    pins = {"c": 1, "x": 2, "bad": 0}
    pinned = listed.with_pins(pins, columns(["bad", "x"], sold_out=frozenset({"x"})))
    assert not pinned.propensities
    wanted = Wanted(HOME, "s", 9, None, b"fingerpr", Filter(), frozenset({"bad"}), explain=True, pins=pins)
    hits = pinned.page(wanted, FIRST, out_of_stock=False)
    assert [hit.item_id for hit in hits] == ["a", "c", "b", "d"]
    assert [list(hit.reasons) for hit in hits] == [[], [PINNED], [], []]
