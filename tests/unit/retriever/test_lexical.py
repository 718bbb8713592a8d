import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.domain.search import BRAND, FIELDS, Bm25f
from services.domain.words import analyse, asked
from services.domain.words import words as words_in
from services.retriever import lexical
from services.retriever.columns import Columns
from services.retriever.lexical import DEFAULT, Lexical, merge, words_of
from souk.types.v1 import types_pb2
from tests.unit.retriever.items import make_item


class Shelf:
    """A table and its words written together."""

    def __init__(self) -> None:
        self.columns = Columns()
        self.words = Lexical()
        self.held: dict[str, types_pb2.Item] = {}

    def write(self, item: types_pb2.Item) -> None:
        self.remove(item.id)
        self.words.add(self.columns.add(item), words_of(item))
        self.held[item.id] = item

    def remove(self, item_id: str) -> None:
        slot = self.columns.held(item_id)
        if slot:
            self.columns.end(slot)
            self.words.end(slot)
            del self.held[item_id]

    def merge(self) -> None:
        view = self.words.view()
        self.words.swap(merge(view, self.columns.view()), view)

    def find(self, query: str, k: int = 10, by: Bm25f = DEFAULT) -> dict[str, float]:
        columns = self.columns.view()
        slots, scores, *_ = self.words.view().search(query, columns.shown, columns, k, by)
        return {self.columns.ids[slot]: score for slot, score in zip(slots.tolist(), scores.tolist(), strict=True)}

    def whole(self, query: str, by: Bm25f) -> set[str]:
        columns = self.columns.view()
        matches = self.words.view().search(query, columns.shown, columns, 10, by)
        shown = np.flatnonzero(columns.shown)
        return {self.columns.ids[slot] for slot in shown[matches.whole(shown)]}


def bm25f(items: list[types_pb2.Item], query: str, by: Bm25f = DEFAULT) -> dict[str, float]:
    """The formula, item by item."""
    fields, lengths = {}, {}
    for item in items:
        attributes = " ".join(f"{a.name} {' '.join(a.values)}" for a in item.attributes)
        texts = [item.title, item.description, item.brand, attributes, " ".join(item.category_path)]
        fields[item.id] = [analyse(text) for text in texts]
        lengths[item.id] = [len(words_in(text)) for text in texts]
    means = [sum(length[f] for length in lengths.values()) / max(len(items), 1) for f in range(5)]
    brands = named_in(query, {item.brand for item in items})
    scores: dict[str, float] = {}
    for term, repeats in Counter(analyse(query)).items():
        holders = [item_id for item_id, texts in fields.items() if any(term in text for text in texts)]
        rarity = math.log(1 + (len(items) - len(holders) + 0.5) / (len(holders) + 0.5))
        for item_id in holders:
            weight = sum(
                by.weights[f] * text.count(term) / (1 - by.b + by.b * lengths[item_id][f] / means[f])
                for f, text in enumerate(fields[item_id])
                if term in text
            )
            if weight:
                theirs = [brand for brand in brands if analyse(brand) == fields[item_id][2]]
                counted = repeats + BRAND * sum(whole == term for brand in theirs for whole in wholes(brand))
                scores[item_id] = scores.get(item_id, 0.0) + counted * rarity * weight / (by.k1 + weight)
    return scores


def wholes(name: str) -> list[str]:
    return [word.whole for word in asked(name)]


def named_in(query: str, brands: set[str]) -> list[str]:
    """Brand names in a query, from the left, the longest first."""
    written, place, named = query.split(), 0, []
    while place < len(written):
        for length in range(4, 0, -1):
            name = " ".join(written[place : place + length])
            if name in brands and place + length <= len(written):
                named.append(name)
                place += length
                break
        else:
            place += 1
    return named


words = st.lists(st.sampled_from(["red", "blue", "shoe", "WH-1000", "鞋", "lamp"]), min_size=1, max_size=6).map(
    " ".join
)


@st.composite
def items(draw: st.DrawFn) -> types_pb2.Item:
    return make_item(
        f"i{draw(st.integers(0, 7))}",
        title=draw(words),
        description=draw(words | st.just("")),
        brand=draw(words | st.just("")),
        category_path=draw(st.lists(words, max_size=2)),
        attributes={"colour": [draw(words)]} if draw(st.booleans()) else {},
    )


steps = st.lists(st.one_of(items(), st.integers(0, 7), st.just("merge")), max_size=25)


weights = st.tuples(*[st.sampled_from([0.0, 0.5, 3.0])] * 5).filter(any)
parameters = st.just(DEFAULT) | st.builds(
    lambda weights, k1, b: Bm25f(**dict(zip(FIELDS, weights, strict=True)), k1=k1, b=b),
    weights,
    st.floats(0.1, 2),
    st.floats(0, 1),
)


@settings(max_examples=150, deadline=None)
@given(steps, words, parameters)
def test_scores_are_those_of_the_formula_over_what_is_held(
    script: list[types_pb2.Item | int | str], query: str, by: Bm25f
) -> None:
    shelf = Shelf()
    for step in script:
        if isinstance(step, types_pb2.Item):
            shelf.write(step)
        elif isinstance(step, int):
            shelf.remove(f"i{step}")
        else:
            shelf.merge()
    held = list(shelf.held.values())
    expected = bm25f(held, query, by)
    before = shelf.find(query, by=by)
    assert before == pytest.approx(expected, rel=1e-4)
    # Who holds all of a query scores for each of its words asked alone.
    whole = {item.id for item in held if all(item.id in bm25f(held, word, by) for word in wholes(query))}
    assert shelf.whole(query, by) == whole
    shelf.merge()
    assert shelf.find(query, by=by) == before
    assert shelf.whole(query, by) == whole


def test_what_is_written_during_a_merge_is_not_lost() -> None:
    shelf = Shelf()
    shelf.write(make_item("a", title="red shoe"))
    shelf.write(make_item("b", title="red lamp"))
    view = shelf.words.view()
    merged = merge(view, shelf.columns.view())
    shelf.write(make_item("c", title="red hat"))
    shelf.write(make_item("d", title="grey coat"))
    shelf.remove("a")
    shelf.words.swap(merged, view)
    for query, holders in (("red", {"b", "c"}), ("hat", {"c"}), ("grey coat", {"d"}), ("shoe", set())):
        assert set(shelf.find(query)) == holders
        assert shelf.find(query) == pytest.approx(bm25f(list(shelf.held.values()), query), rel=1e-5)


def test_a_merge_lets_go_of_what_has_ended() -> None:
    shelf = Shelf()
    for title in ("red shoe", "red lamp", "blue lamp"):
        shelf.write(make_item("a", title=title))
        if title == "red shoe":
            shelf.merge()
    shelf.merge()
    view = shelf.words.view()
    assert view.base.slots.tolist() == [shelf.columns.held("a")] * 2
    assert len(view.log_slots) == 0


def test_a_view_stays_as_it_was() -> None:
    shelf = Shelf()
    shelf.write(make_item("a", title="red shoe"))
    columns, view = shelf.columns.view(), shelf.words.view()
    shelf.write(make_item("b", title="red red"))
    shelf.remove("a")
    shelf.merge()
    slots, *_ = view.search("red", columns.shown, columns, 5)
    assert [shelf.columns.ids[slot] for slot in slots] == ["a"]


@pytest.mark.parametrize("query", ["WH-1000XM4", "wh1000xm4", "1000xm4", "sony wh 1000xm4"])
def test_finds_a_model_number_however_it_is_typed(query: str) -> None:
    shelf = Shelf()
    shelf.write(make_item("right", title="Sony WH-1000XM4 headphones"))
    for number in (2, 3, 5):
        shelf.write(make_item(f"wrong{number}", title=f"Sony WH-1000XM{number} headphones"))
    assert next(iter(shelf.find(query))) == "right"


def test_finds_chinese_words_without_spaces() -> None:
    shelf = Shelf()
    shelf.write(make_item("shoe", title="男士运动鞋 透气 轻便"))
    shelf.write(make_item("shirt", title="男士衬衫 纯棉"))
    assert list(shelf.find("运动鞋")) == ["shoe"]
    assert set(shelf.find("男士")) == {"shoe", "shirt"}


def test_a_title_counts_for_more_than_a_description() -> None:
    shelf = Shelf()
    shelf.write(make_item("described", title="lamp", description="kettle"))
    shelf.write(make_item("titled", title="kettle", description="lamp"))
    assert list(shelf.find("kettle")) == ["titled", "described"]


def test_only_allowed_items_come_back_and_the_next_search_starts_from_nothing() -> None:
    shelf = Shelf()
    for number in range(50):
        shelf.write(make_item(f"i{number}", title="red shoe", popularity=number))
    columns, view = shelf.columns.view(), shelf.words.view()
    mask = np.zeros(columns.size, dtype=np.bool_)
    mask[[3, 9]] = True
    first = view.search("red shoe", mask, columns, 10)
    again = view.search("red shoe", mask, columns, 10)
    assert first[0].tolist() == [9, 3]
    np.testing.assert_array_equal(first[1], again[1])


def test_words_nobody_uses_find_nothing() -> None:
    shelf = Shelf()
    assert shelf.find("anything") == {}
    shelf.write(make_item("a", title="shoe"))
    assert shelf.find("lamp !!") == {}


def test_a_merge_is_due_when_the_log_has_grown() -> None:
    index = Lexical()
    assert not index.due(lexical.MIN_STALE)
    assert index.due(lexical.MIN_STALE + 2)


def test_the_brand_of_an_item_that_is_gone_hides_no_shorter_one() -> None:
    shelf, fresh = Shelf(), Shelf()
    shelf.write(make_item("i1", title="lamp", brand="red lamp"))
    shelf.remove("i1")
    for one in (shelf, fresh):
        one.write(make_item("i2", title="shoe", brand="red"))
        one.write(make_item("i3", title="red lamp shoe", brand="blue"))
    assert shelf.find("red lamp") == pytest.approx(fresh.find("red lamp"), rel=1e-6)
