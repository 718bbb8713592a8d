"""Stages of items: what speaks for and against, what is still to be answered, and that a restart says the same."""

from pathlib import Path

import pytest

from services.coldstart import stages
from services.coldstart.shelf import Evidence
from souk.types.v1 import types_pb2
from tests.unit.coldstart.making import CLICK, NOW, PURCHASE, RETURN, SKIP, UNCART, VIEW, Shop, event, item

COLD, WARM, HOT = types_pb2.STAGE_COLD, types_pb2.STAGE_WARM, types_pb2.STAGE_HOT


@pytest.mark.parametrize(
    ("evidence", "stage"),
    [
        (Evidence(0, 0, 0, 0), COLD),
        (Evidence(0, 0, 19, 0), COLD),
        (Evidence(0, 0, 20, 0), WARM),
        # What was shown seconds ago says nothing yet.
        (Evidence(0, 0, 40, 21), COLD),
        (Evidence(1, 0, 0, 0), WARM),
        (Evidence(0, 1, 0, 0), WARM),
        (Evidence(5, 0, 9, 0), HOT),
        (Evidence(5, 1, 9, 0), WARM),
        (Evidence(9, 4, 9, 0), HOT),
    ],
)
def test_an_item_goes_by_what_speaks_for_it_less_what_speaks_against(
    evidence: Evidence, stage: types_pb2.Stage.ValueType
) -> None:
    assert stages.of_item(evidence, 5) == stage


def show(shop: Shop, request: str, times: int = 1) -> None:
    shown = [types_pb2.ImpressionItem(item_id="i", position=n, score=1, propensity=1) for n in range(times)]
    shop.log.impress([types_pb2.Impression(request_id=request, items=shown)]).result(10)


def test_from_unknown_to_hot_and_back_and_the_same_after_a_restart(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        evidence = shop.crowd.shelf.evidence
        # Events that wait for their item count once it is there.
        shop.record(event("0", kind=VIEW), event("1", kind=SKIP), event("x", item="other"))
        assert evidence("i") == Evidence(0, 0, 0, 0)
        shop.put(item("i", age_days=1))
        assert evidence("i") == Evidence(1, 1, 0, 0)
        shop.record(*(event(f"b{n}", f"s{n}", kind=[CLICK, PURCHASE][n % 2]) for n in range(5)))
        assert stages.of_item(evidence("i"), 5) == HOT
        # A repeated delivery changes nothing.
        shop.record(event("b0", "s0", kind=CLICK))
        shop.record(event("r", kind=RETURN), event("u", kind=UNCART))
        before = evidence("i")
        assert before == Evidence(6, 3, 0, 0)
        assert stages.of_item(before, 5) == WARM
    with Shop(tmp_path) as shop:
        assert shop.crowd.shelf.evidence("i") == before


def test_a_showing_is_no_rejection_until_its_answer_had_time(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        shop.put(item("i", age_days=1))
        shop.refresh()
        show(shop, "r", 30)
        shelf = shop.crowd.shelf
        shop.refresh()
        assert shelf.evidence("i") == Evidence(0, 0, 30, 30)
        assert [(one.shown, one.clicked) for one in shelf.newcomers] == [(0, 0)]
        # A click is an answer at once.
        shop.record(event("c", kind=CLICK))
        shop.refresh()
        assert [(one.shown, one.clicked) for one in shelf.newcomers] == [(1, 1)]
        shop.crowd.refresh(NOW + 9 * 60)
        assert shelf.evidence("i").unanswered == 29
        shop.crowd.refresh(NOW + 11 * 60)
        assert shelf.evidence("i") == Evidence(1, 0, 30, 0)
        assert [(one.shown, one.clicked) for one in shelf.newcomers] == [(30, 1)]


def test_the_budget_counts_every_showing_at_once(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        shop.put(item("i", age_days=1))
        shop.refresh()
        assert shop.crowd.shelf.is_new("i")
        show(shop, "r", 200)
        shop.refresh()
        assert not shop.crowd.shelf.is_new("i")
