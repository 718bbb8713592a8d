"""What is derived from the log while it grows is what is derived from it at the next start."""

from pathlib import Path

from souk.types.v1 import types_pb2
from tests.unit.coldstart.making import CLICK, DAY, NOW, PURCHASE, Shop, event, item


def fill(shop: Shop) -> None:
    shop.put(item("new", "Tea", age_days=1))
    shop.put(item("old", "Tea > Green"))
    shop.put(item("hidden", "Tea", age_days=1, visible=False))
    shop.log.put_attributes("a", [types_pb2.Attribute(name="country", values=["GB"])]).result(10)
    for n in range(40):
        shop.record(
            event(f"{n}", "abc"[n % 3], ["new", "old"][n % 2], [CLICK, PURCHASE][n % 2], at=NOW - n * DAY),
            event(f"u{n}", "abc"[n % 3], f"unknown-{n % 5}", at=NOW - n * DAY),
        )
    shown = [types_pb2.ImpressionItem(item_id="new", position=0, score=1, propensity=1)]
    shop.log.impress([types_pb2.Impression(request_id="r", shopper_id="a", items=shown)]).result(10)


def derived(shop: Shop) -> list[object]:
    shop.refresh()
    crowd = shop.crowd
    charts = crowd.popularity.charts
    return [
        charts.overall,
        charts.rising,
        charts.breadth,
        *(charts.category(path) for path in ("Tea", "Tea > Green")),
        charts.segment("country=GB"),
        crowd.shelf.newcomers,
        crowd.met.near({"new": 1.0}, 20),
        crowd.bought.near({"old": 1.0}, 20),
        crowd.repeats,
    ]


def test_a_restart_derives_the_same(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        fill(shop)
        before = derived(shop)
        assert shop.crowd.repeats
    with Shop(tmp_path) as shop:
        assert derived(shop) == before
        assert len(shop.crowd.shelf) == 3


def test_what_the_forgotten_did_is_gone_after_the_next_start(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        fill(shop)
        for shopper in "abc":
            shop.log.forget(shopper).result(10)
        assert not shop.crowd.repeats
    with Shop(tmp_path) as shop:
        shop.refresh()
        charts = shop.crowd.popularity.charts
        assert {score for _, score in charts.overall} == {0.0}
        assert charts.segment("country=GB") == []
        assert shop.crowd.met.near({"new": 1.0}, 20) == []


def test_newcomers_are_new_sellable_and_newest_first(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        for n in range(40):
            shop.put(item(f"i{n}", "Tea", age_days=n))
        shop.put(item("sold out", age_days=0.5, stock=0))
        shop.put(item("in stock", age_days=0.5, stock=3))
        shop.refresh()
        names = [newcomer.item for newcomer in shop.crowd.shelf.newcomers]
        assert names == ["i0", "in stock", *(f"i{n}" for n in range(1, 31))]
        shown = [types_pb2.ImpressionItem(item_id="i0", position=n, score=1, propensity=1) for n in range(200)]
        shop.log.impress([types_pb2.Impression(request_id="r", items=shown)]).result(10)
        shop.refresh()
        assert shop.crowd.shelf.newcomers[0].item == "in stock"


def test_items_cease_to_be_new_without_anything_told(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        shop.put(item("i", age_days=29))
        shop.refresh()
        assert len(shop.crowd.shelf.newcomers) == 1
        shop.crowd.refresh(NOW + 2 * DAY)
        assert len(shop.crowd.shelf.newcomers) == 0
