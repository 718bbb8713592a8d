"""What is proposed to people: new items, and those that come back or are waved away more than luck would have it."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.coldstart.decisions import Decisions
from services.coldstart.review import ReviewServicer, at_least, propose
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


class LookedAt(Decisions):
    """Decisions that remember which threads looked through them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.threads: list[threading.Thread] = []

    def in_force(self) -> list[review_pb2.Decision]:
        self.threads.append(threading.current_thread())
        return super().in_force()


class Reviewing:
    """What the RPCs need of an engine."""

    def __init__(self, shop: Shop, decisions: Decisions) -> None:
        self.log, self.crowd, self.decisions = shop.log, shop.crowd, decisions

    async def page(self, run: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(run)


async def test_decisions_are_looked_through_beside_the_loop(tmp_path: Path) -> None:
    decisions = LookedAt(tmp_path / "decisions")
    for item_id, verdict in (("a", review_pb2.VERDICT_APPROVE), ("s", review_pb2.VERDICT_SUPPRESS)):
        decisions.decide(review_pb2.Decision(verdict=verdict, item_id=item_id, who="me", why="so")).result(10)
    with Shop(tmp_path / "data") as shop:
        for name in "asn":
            shop.put(item(name, age_days=1))
        shop.refresh()
        servicer: Any = ReviewServicer(Reviewing(shop, decisions))  # type: ignore[arg-type]
        listed = await servicer.ListDecisions(review_pb2.ListDecisionsRequest(), None)
        proposed = await servicer.ListProposals(review_pb2.ListProposalsRequest(), None)
    decisions.close()
    assert [one.item_id for one in listed.decisions] == ["s"]
    assert [one.item_id for one in proposed.proposals] == ["n"]
    assert len(decisions.threads) == 2
    assert threading.main_thread() not in decisions.threads
