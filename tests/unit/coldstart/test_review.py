"""What is proposed to people: new items, and those that come back or are waved away more than luck would have it."""

from pathlib import Path

import pytest

from services.coldstart.review import at_least, propose
from souk.coldstart.v1 import review_pb2
from tests.unit.coldstart.making import NOW, PURCHASE, RETURN, SKIP, Shop, event, item

NEW, RETURNED, SKIPPED = (
    review_pb2.PROPOSAL_KIND_NEW,
    review_pb2.PROPOSAL_KIND_RETURNED,
    review_pb2.PROPOSAL_KIND_SKIPPED,
)


def test_items_are_proposed_by_what_the_log_says_of_them(tmp_path: Path) -> None:
    with Shop(tmp_path / "data") as shop:
        for name, age in (("old", 100), ("often", 100), ("once", 100), ("hidden", 100), ("new", 2), ("newer", 1)):
            shop.put(item(name, age_days=age, visible=name != "hidden"))
        kinds = {
            "old": [PURCHASE] * 20,
            "often": [PURCHASE] * 10 + [RETURN] * 6,
            "once": [PURCHASE, RETURN, SKIP],
            "hidden": [RETURN] * 9,
        }
        events = [
            event(f"{name}-{i}", item=name, kind=kind, at=NOW - 60 + i)
            for name, those in kinds.items()
            for i, kind in enumerate(those)
        ]
        shop.record(*events)
        shop.refresh()
        found = propose(shop.log, shop.crowd.shelf, set(), 2)
        assert [(one.kind, one.item_id) for one in found] == [
            (NEW, "newer"),
            (NEW, "new"),
            (RETURNED, "often"),
            (RETURNED, "once"),
            (SKIPPED, "once"),
        ]
        assert (found[2].title, found[2].purchased, found[2].returned) == ("Thing often", 10, 6)
        left = propose(shop.log, shop.crowd.shelf, {"newer", "often"}, 2)
        assert [one.item_id for one in left] == ["new", "once", "once"]


def test_a_share_of_few_is_trusted_less() -> None:
    assert at_least(1, 1) == pytest.approx(0.2065, abs=1e-4)
    assert at_least(50, 100) == pytest.approx(0.4038, abs=1e-4)
