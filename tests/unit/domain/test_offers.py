"""What attributes say of offers, and which of them are words of the item."""

import math

import pytest

from services.domain.offers import describing, is_campaign, promoted
from services.domain.text import TextTemplate, item_text
from souk.types.v1 import types_pb2


def item(**attributes: str) -> types_pb2.Item:
    made = types_pb2.Item(id="i", title="mug")
    for name, value in attributes.items():
        made.attributes.add(name=name, values=[value])
    return made


def test_offers_are_no_words_of_an_item() -> None:
    told = item(Promotion="Spring", offer_from="1", offer_until="2", bid="0.3", boost="2", about="x", supplier="North")
    assert [one.name for one in describing(told)] == ["supplier"]
    assert item_text(told, TextTemplate()) == item_text(item(supplier="North"), TextTemplate())


def test_a_campaign_says_so() -> None:
    assert is_campaign(item(Kind="Coupon"))
    assert not is_campaign(item(kind="mug"))
    assert not is_campaign(item())


@pytest.mark.parametrize(
    ("attributes", "window"),
    [
        ({"promotion": "Spring"}, (-math.inf, math.inf)),
        ({"promotion": "Spring", "offer_from": "5", "offer_until": "9"}, (5, 9)),
        ({"promotion": "Spring", "offer_until": "soon"}, (-math.inf, math.inf)),
    ],
)
def test_a_promotion_has_its_time(attributes: dict[str, str], window: tuple[float, float]) -> None:
    assert promoted(item(**attributes)) == window


def test_what_is_on_no_promotion_never_is() -> None:
    assert all(math.isnan(end) for end in promoted(item(offer_from="5")))
