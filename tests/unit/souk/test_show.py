"""What people read in a terminal of 80 columns."""

import io

from rich.console import Console

from souk.shop.v1 import shop_pb2
from souk.show import hits_table

HIT = shop_pb2.Hit(
    item_id="I0002456",
    position=0,
    title="Pinju beige leather running trainers EU 42 [wide]",
    brand="Pinju",
    category="Fashion > Shoes > Trainers",
    price=89.72,
    currency="EUR",
    score=0.198,
    reasons=["near what you bought I0000007", "often met together with what you met"],
    leg_scores={"behaviour": 0.46, "together": 0.03},
)


def printed(explain: bool) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=80, color_system=None).print(hits_table([HIT], explain))
    return out.getvalue().splitlines()


def test_reasons_stand_in_lines_of_their_own() -> None:
    lines = printed(explain=True)
    assert len(lines) <= 7
    text = "\n".join(lines)
    for part in ("[wide]", "near what you bought I0000007", "often met together with what you met"):
        assert part in text
    assert "found by behaviour 0.46, together 0.03" in text


def test_a_plain_list_holds_what_is_asked_first() -> None:
    text = " ".join(printed(explain=False))
    assert all(part in text for part in ("I0002456", "Pinju", "Trainers", "89.72 EUR", "0.198"))


def test_a_paid_place_says_so() -> None:
    for explain in (False, True):
        assert not any("(sponsored)" in line for line in printed(explain))
    paid = shop_pb2.Hit(item_id="I1", title="Mug", sponsored=True)
    for explain in (False, True):
        out = io.StringIO()
        Console(file=out, width=80, color_system=None).print(hits_table([paid], explain))
        assert "Mug (sponsored)" in out.getvalue()


def test_a_long_brand_and_category_take_no_room_from_the_title() -> None:
    long = shop_pb2.Hit(
        item_id="S1",
        title="Nubee Temperature Gun Non-contact Digital Laser Infrared",
        brand="Nubee & Sons",
        category="Test > Infrared Thermometers",
        price=38.9,
        currency="USD",
        stock=7,
    )
    out = io.StringIO()
    Console(file=out, width=80, color_system=None).print(hits_table([long]))
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert all(
        part in out.getvalue()
        for part in (
            "Temperature Gun Non-contact Digital Laser",
            "Nubee & Sons",
            "38.90 USD",
            "7 left",
            "0.000",
        )
    )
