"""Which items a scene lets pass, told by the retriever's own reading of the filters."""

from collections.abc import Sequence

import pytest

from services.gateway.scenes import allowed, standing_in
from services.retriever.columns import Columns
from services.retriever.filters import check_filter, passing
from souk import filters
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2
from tests.unit.retriever.items import make_item

NOW = 1_790_000_000.0
DAY = 86_400
ANY = retriever_pb2.Filter()
HOME, NEW, SEARCH = types_pb2.SCENE_HOME, types_pb2.SCENE_NEW_ARRIVALS, types_pb2.SCENE_SEARCH
PROMOTION, CAMPAIGN, SPONSORED = types_pb2.SCENE_PROMOTION, types_pb2.SCENE_CAMPAIGN, types_pb2.SCENE_SPONSORED


def at(days: float) -> list[str]:
    """A time of an attribute, so many days from now."""
    return [str(int(NOW + days * DAY))]


ITEMS: dict[str, dict[str, list[str]]] = {
    "plain": {},
    "reduced": {"promotion": ["Spring"]},
    "reduced this week": {"Promotion": ["Spring"], "offer_from": at(-3), "offer_until": at(3)},
    "reduced last week": {"promotion": ["Spring"], "offer_from": at(-9), "offer_until": at(-2)},
    "reduced next week": {"promotion": ["Spring"], "offer_from": at(4)},
    "paid for": {"bid": ["0.2"]},
    "bid of nothing": {"bid": ["0"]},
    "bid of words": {"bid": ["much"]},
    "mug week": {"kind": ["Campaign"], "promotion": ["Spring"], "bid": ["1"]},
    "coupon": {"kind": ["coupon"], "offer_until": at(1)},
    "old coupon": {"kind": ["coupon"], "offer_until": at(-1)},
}


@pytest.fixture(scope="module")
def columns() -> Columns:
    table = Columns()
    for item_id, attributes in ITEMS.items():
        item = make_item(item_id, attributes=attributes)
        item.created_at.seconds = int(NOW) - (5 if item_id == "plain" else 50) * DAY
        table.add(item)
    return table


def shown(columns: Columns, root: retriever_pb2.Filter | None) -> set[str]:
    assert root is not None
    check_filter(root)
    view = columns.view()
    mask = passing(root, view)
    return {columns.ids[slot] for slot in range(view.size) if mask[slot]}


@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        (PROMOTION, ["reduced", "reduced this week"]),
        (CAMPAIGN, ["mug week", "coupon"]),
        (SPONSORED, ["paid for"]),
        (NEW, ["plain"]),
    ],
)
def test_a_scene_shows_its_own(columns: Columns, scene: int, expected: Sequence[str]) -> None:
    assert shown(columns, allowed(scene, ANY, False, 30.0, NOW)) == set(expected)


@pytest.mark.parametrize("scene", [HOME, SEARCH, types_pb2.SCENE_CART, types_pb2.SCENE_SIMILAR])
def test_campaigns_are_in_no_other_scene_unless_asked_for(columns: Columns, scene: int) -> None:
    campaigns = {"mug week", "coupon", "old coupon"}
    assert shown(columns, allowed(scene, ANY, False, 30.0, NOW)) == set(ITEMS) - campaigns
    asked = filters.any_of(filters.none_of(filters.attribute("Kind", ["coupon"])), filters.brand("nobody"))
    assert shown(columns, allowed(scene, asked, False, 30.0, NOW)) == set(ITEMS) - {"coupon", "old coupon"}


def test_what_stands_in_is_everything_but_campaigns_and_stands_in_for_few(columns: Columns) -> None:
    plain = set(ITEMS) - {"mug week", "coupon", "old coupon"}
    assert shown(columns, standing_in(PROMOTION, ANY, False)) == plain
    assert shown(columns, standing_in(NEW, ANY, False)) == plain
    for scene in (HOME, SEARCH, CAMPAIGN, SPONSORED):
        assert standing_in(scene, ANY, False) is None


def test_the_shop_never_shows_hidden_items_whatever_the_filter() -> None:
    user = filters.brand("Acme")
    for scene in (HOME, PROMOTION):
        nodes = allowed(scene, user, False, 30.0, NOW).all.filters
        assert nodes[0] == user
        assert retriever_pb2.Filter(visible=True) in nodes
        assert filters.in_stock() in nodes
        assert filters.in_stock() not in allowed(scene, user, True, 30.0, NOW).all.filters
