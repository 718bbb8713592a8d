import math

import numpy as np
import pytest

from services.domain.offers import number_of
from services.retriever.columns import NOBODY, Columns, pack_texts, unpack_texts
from services.retriever.filters import passing
from souk.retriever.v1 import retriever_pb2
from tests.unit.retriever.items import make_item


def written(ids: str) -> Columns:
    """A table after writing items in this order, each under one letter."""
    columns = Columns()
    for item_id in ids:
        slot = columns.held(item_id)
        if slot != NOBODY:
            columns.end(slot)
        columns.add(make_item(item_id, brand=f"brand {item_id}", attributes={"size": ["7", item_id]}))
    return columns


def test_a_view_finds_the_version_it_was_taken_at() -> None:
    columns = written("ab")
    early = columns.view()
    columns.end(columns.held("a"))
    columns.add(make_item("a"))
    columns.end(columns.held("b"))
    late = columns.view()
    assert (early.find("a"), early.find("b"), early.find("c")) == (1, 2, NOBODY)
    assert (late.find("a"), late.find("b")) == (3, NOBODY)
    assert (early.items, late.items) == (2, 1)


def test_a_view_keeps_to_its_version_through_many_later_ones_and_a_return() -> None:
    columns = written("a")
    early = columns.view()
    for _ in range(5):
        columns.end(columns.held("a"))
        columns.add(make_item("a"))
    columns.end(columns.held("a"))
    gone = columns.view()
    columns.add(make_item("a"))
    assert (early.find("a"), gone.find("a"), columns.view().find("a")) == (1, NOBODY, 7)


def test_compaction_keeps_the_live_items_and_their_order() -> None:
    columns = written("abcab")
    view = columns.view()
    fresh, moved = columns.compacted(view)
    assert moved.tolist() == [0, 0, 0, 1, 2, 3]
    compact = fresh.view()
    assert [fresh.ids[compact.find(item_id)] for item_id in "abc"] == ["a", "b", "c"]
    assert compact.items == 3
    size = retriever_pb2.Filter(
        attribute=retriever_pb2.AttributeFilter(name="size", any_of=retriever_pb2.StringList(values=["c"]))
    )
    assert np.flatnonzero(passing(size, compact)).tolist() == [1]


def test_compaction_leaves_values_behind_that_no_item_has_any_more() -> None:
    columns = Columns()
    for bid in range(50):
        if (slot := columns.held("a")) != NOBODY:
            columns.end(slot)
        columns.add(make_item("a", attributes={"bid": [str(bid)]}))
    view = columns.view()
    columns.add(make_item("b", attributes={"bid": ["49", "0.5"]}))
    fresh, _ = columns.compacted(view)
    fresh.take(columns, columns.view(), np.arange(view.size, columns.view().size))
    assert fresh.attributes["bid"].values.values == ["49", "0.5"]
    wanted = retriever_pb2.AttributeFilter(name="bid")
    for least, found in ((0.1, ["a", "b"]), (49.5, [])):
        wanted.range.min = least
        passed = np.flatnonzero(passing(retriever_pb2.Filter(attribute=wanted), fresh.view()))
        assert [fresh.ids[slot] for slot in passed.tolist()] == found


def test_arrays_hold_all_of_a_table() -> None:
    columns = written("abca")
    restored = Columns.from_arrays(columns.arrays(columns.view()))
    old, new = columns.view(), restored.view()
    for name in ("alive", "revision", "price", "brand", "category", "stock", "created_us", "popularity", "key"):
        np.testing.assert_array_equal(getattr(new, name), getattr(old, name))
    assert (restored.ids, restored.titles, restored.items) == (columns.ids, columns.titles, columns.items)
    assert [new.find(item_id) for item_id in "abc"] == [old.find(item_id) for item_id in "abc"]
    assert restored.attributes["size"].values.values == columns.attributes["size"].values.values


@pytest.mark.parametrize("texts", [[], [""], ["", "鞋", "a\x00b", ""]])
def test_texts_come_back(texts: list[str]) -> None:
    assert unpack_texts("x", pack_texts("x", texts)) == texts


@pytest.mark.parametrize(("text", "number"), [("7", 7), (" 12.5 ", 12.5), ("-3e2", -300)])
def test_a_value_that_reads_as_a_number(text: str, number: float) -> None:
    assert number_of(text) == number


@pytest.mark.parametrize("text", ["", "seven", "1_000", "nan", "inf", "12 cm"])
def test_a_value_that_does_not(text: str) -> None:
    assert math.isnan(number_of(text))
