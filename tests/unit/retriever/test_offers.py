"""Promotions, bids, suppliers and boosts of candidates, as their attributes say."""

import numpy as np
import pytest

from services.retriever.columns import Columns
from services.retriever.offers import offers
from tests.unit.retriever.items import make_item

NOW = 1_790_000_000.0


def table(**items: dict[str, list[str]]) -> Columns:
    made = Columns()
    for item_id, attributes in items.items():
        made.add(make_item(item_id, attributes=attributes))
    return made


def test_each_candidate_has_its_own() -> None:
    columns = table(
        a={"Promotion": ["Spring"], "supplier": ["North Ltd"]},
        b={"bid": ["0.25"], "boost": ["1.2"]},
        c={"promotion": ["Autumn"], "bid": ["-1"], "boost": ["0"]},
        d={"bid": ["a lot"]},
    )
    told = offers(np.array([4, 3, 2, 1]), columns.view(), NOW)
    assert [told["promotions"][code] for code in told["promotion"]] == ["", "autumn", "", "spring"]
    assert [told["suppliers"][code] for code in told["supplier"]] == ["", "", "", "north ltd"]
    assert told["bid"] == [0, 0, 0.25, 0]
    assert told["boost"] == [1, 1, 1.2, 1]


@pytest.mark.parametrize(
    ("first", "last", "runs"), [(-1, 1, True), (0, 0, True), (None, None, True), (1, None, False), (None, -1, False)]
)
def test_a_promotion_is_told_while_it_runs(first: int | None, last: int | None, runs: bool) -> None:
    attributes = {"promotion": ["Spring"]}
    for name, moment in (("offer_from", first), ("offer_until", last)):
        if moment is not None:
            attributes[name] = [str(int(NOW) + moment)]
    told = offers(np.array([1]), table(a=attributes).view(), NOW)
    assert told == ({"promotion": [0], "promotions": ["spring"]} if runs else {})


def test_what_no_candidate_has_is_left_out() -> None:
    columns = table(a={"colour": ["red"]}, b={"bid": ["1"], "promotion": ["Spring"]})
    assert offers(np.array([1]), columns.view(), NOW) == {}
    assert offers(np.zeros(0, np.int64), columns.view(), NOW) == {}


def test_a_changed_item_is_told_as_it_is_now_and_an_older_view_as_it_was() -> None:
    columns = table(a={"bid": ["1"]})
    before = columns.view()
    columns.end(1)
    columns.add(make_item("a", revision=2, attributes={"bid": ["2"]}))
    assert offers(np.array([1]), before, NOW)["bid"] == [1]
    fresh, moved = columns.compacted(columns.view())
    assert offers(moved[[2]].astype(np.int64), fresh.view(), NOW)["bid"] == [2]
