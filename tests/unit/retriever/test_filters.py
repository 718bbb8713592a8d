import unicodedata
from typing import Any, Literal

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from services.domain.checks import Invalid
from services.retriever.columns import Columns, ColumnsView
from services.retriever.filters import check_filter, passing
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2

Filter = retriever_pb2.Filter

BRANDS = ["Acme", "ACME", "Zënith", ""]
PATHS = [[], ["Audio"], ["Audio", "Headphones"], ["Audio", "Headphones", "In-ear"], ["Audiobooks"], ["Shoes"]]
VALUES = ["red", "RED", "blue", "7", "12.5", "nan", "1_000"]
NAMES = ["Colour", "colour", "size"]
TIMES = [0, 1_700_000_000, 1_800_000_000]


def time(seconds: int) -> Timestamp:
    return Timestamp(seconds=seconds)


@st.composite
def items(draw: st.DrawFn) -> types_pb2.Item:
    item = types_pb2.Item(
        id="i", title="t", brand=draw(st.sampled_from(BRANDS)), category_path=draw(st.sampled_from(PATHS))
    )
    price = draw(st.sampled_from([None, 0.0, 9.99, 10.0, 99.5]))
    if price is not None:
        item.price, item.currency = price, draw(st.sampled_from(["EUR", "USD"]))
    stock = draw(st.sampled_from([None, 0, 3]))
    if stock is not None:
        item.stock = stock
    visible = draw(st.sampled_from([None, True, False]))
    if visible is not None:
        item.visible = visible
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        item.attributes.add(name=name, values=draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=3)))
    item.created_at.CopyFrom(time(draw(st.sampled_from(TIMES))))
    return item


def ends(draw: st.DrawFn, values: list[float]) -> dict[str, float]:
    chosen = {end: draw(st.sampled_from([None, *values])) for end in ("min", "max")}
    given = {end: value for end, value in chosen.items() if value is not None}
    return dict(zip(given, sorted(given.values()), strict=True))


def time_range(first: int, last: int) -> retriever_pb2.TimeRange:
    wanted = retriever_pb2.TimeRange(to=time(last))
    getattr(wanted, "from").CopyFrom(time(first))
    return wanted


@st.composite
def leaves(draw: st.DrawFn) -> Filter:
    kinds = ["brand", "category", "price", "in_stock", "visible", "any_of", "range", "present", "created_at"]
    kind = draw(st.sampled_from(kinds))
    match kind:
        case "brand":
            values = draw(st.lists(st.sampled_from([*BRANDS, "zËNITH", "nobody"]), min_size=1, max_size=3))
            return Filter(brand=retriever_pb2.StringList(values=values))
        case "category":
            paths = draw(st.lists(st.sampled_from([*PATHS[1:], ["Nowhere"]]), min_size=1, max_size=2))
            return Filter(
                category=retriever_pb2.CategoryFilter(paths=[retriever_pb2.CategoryPath(names=p) for p in paths])
            )
        case "price":
            currency = draw(st.sampled_from(["", "EUR", "GBP"]))
            return Filter(price=retriever_pb2.PriceRange(currency=currency, **ends(draw, [0.0, 9.99, 50.0])))
        case "in_stock":
            return Filter(in_stock=draw(st.booleans()))
        case "visible":
            return Filter(visible=draw(st.booleans()))
        case "any_of":
            values = draw(st.lists(st.sampled_from([*VALUES, "Blue", "none"]), min_size=1, max_size=3))
            attribute = retriever_pb2.AttributeFilter(
                name=draw(st.sampled_from([*NAMES, "weight"])), any_of=retriever_pb2.StringList(values=values)
            )
            return Filter(attribute=attribute)
        case "present":
            name = draw(st.sampled_from([*NAMES, "weight"]))
            return Filter(attribute=retriever_pb2.AttributeFilter(name=name, present=draw(st.booleans())))
        case "range":
            limits = retriever_pb2.NumberRange(**ends(draw, [0.0, 7.0, 12.5]))
            return Filter(
                attribute=retriever_pb2.AttributeFilter(name=draw(st.sampled_from([*NAMES, "weight"])), range=limits)
            )
    times = retriever_pb2.TimeRange()
    chosen = {end: draw(st.sampled_from([None, *TIMES, 1_750_000_000])) for end in ("from", "to")}
    given = {end: seconds for end, seconds in chosen.items() if seconds is not None}
    for end, seconds in zip(given, sorted(given.values()), strict=True):
        getattr(times, end).CopyFrom(time(seconds))
    return Filter(created_at=times)


def _grown(children: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    lists = st.lists(children, min_size=1, max_size=3).map(lambda filters: retriever_pb2.FilterList(filters=filters))
    return st.one_of(
        lists.map(lambda nodes: Filter(all=nodes)),
        lists.map(lambda nodes: Filter(any=nodes)),
        children.map(lambda node: Filter(**{"not": node})),  # type: ignore[arg-type]
    )


filters = st.recursive(leaves(), _grown, max_leaves=6)


def passes(node: Filter, item: types_pb2.Item) -> bool:
    """The contract's words, item by item."""
    kind = node.WhichOneof("node")
    value: Any = getattr(node, kind or "")
    match kind:
        case "all":
            return all(passes(child, item) for child in value.filters)
        case "any":
            return any(passes(child, item) for child in value.filters)
        case "not":
            return not passes(value, item)
        case "brand":
            return item.brand.casefold() in {brand.casefold() for brand in value.values}
        case "category":
            path = list(item.category_path)
            return any(path[: len(wanted.names)] == list(wanted.names) for wanted in value.paths)
        case "price":
            return (
                item.HasField("price")
                and (not value.HasField("min") or item.price >= value.min)
                and (not value.HasField("max") or item.price <= value.max)
                and value.currency in ("", item.currency)
            )
        case "in_stock":
            return value is not (item.HasField("stock") and item.stock == 0)
        case "visible":
            return value is (item.visible if item.HasField("visible") else True)
        case "attribute":
            held = [v for a in item.attributes if a.name.casefold() == value.name.casefold() for v in a.values]
            if value.WhichOneof("condition") == "any_of":
                return bool({v.casefold() for v in held} & {v.casefold() for v in value.any_of.values})
            if value.WhichOneof("condition") == "present":
                return value.present is bool(held)
            numbers = [float(v) for v in held if v in ("7", "12.5")]
            limits = value.range
            return any(
                (not limits.HasField("min") or n >= limits.min) and (not limits.HasField("max") or n <= limits.max)
                for n in numbers
            )
    first, last = getattr(value, "from"), value.to
    seconds = item.created_at.seconds
    after = not value.HasField("from") or seconds >= first.seconds
    return after and (not value.HasField("to") or seconds <= last.seconds)


def says_visible(node: Filter) -> bool:
    return b"visible" in str(node).encode()


def table(held: list[types_pb2.Item]) -> ColumnsView:
    columns = Columns()
    for number, item in enumerate(held):
        item.id = str(number)
        columns.add(item)
    return columns.view()


@settings(max_examples=200, deadline=None)
@given(st.lists(items(), max_size=8), filters)
def test_agrees_with_the_contract_item_by_item(held: list[types_pb2.Item], node: Filter) -> None:
    check_filter(node)
    view = table(held)
    expected = [
        passes(node, item) and (says_visible(node) or not item.HasField("visible") or item.visible) for item in held
    ]
    assert passing(node, view)[1:].tolist() == expected


def test_without_a_filter_only_visible_items_pass() -> None:
    view = table([types_pb2.Item(), types_pb2.Item(visible=False), types_pb2.Item(visible=True)])
    assert passing(None, view).tolist() == [False, True, False, True]


def test_an_ended_slot_passes_no_filter() -> None:
    columns = Columns()
    columns.end(columns.add(types_pb2.Item(id="a")))
    negated = Filter(**{"not": Filter(brand=retriever_pb2.StringList(values=["x"]))})  # type: ignore[arg-type]
    for node in (None, negated, Filter(visible=True)):
        assert not passing(node, columns.view()).any()


def test_a_view_does_not_see_what_is_written_after_it() -> None:
    columns = Columns()
    columns.add(types_pb2.Item(id="a", attributes=[types_pb2.Attribute(name="colour", values=["red"])]))
    view = columns.view()
    columns.add(types_pb2.Item(id="b", attributes=[types_pb2.Attribute(name="colour", values=["red"])]))
    red = Filter(
        attribute=retriever_pb2.AttributeFilter(name="colour", any_of=retriever_pb2.StringList(values=["Red"]))
    )
    assert np.flatnonzero(passing(red, view)).tolist() == [1]
    assert np.flatnonzero(passing(red, columns.view())).tolist() == [1, 2]


def nested(depth: int) -> Filter:
    node = Filter(visible=True)
    for _ in range(depth - 1):
        node = Filter(**{"not": node})  # type: ignore[arg-type]
    return node


def all_of(*nodes: Filter) -> Filter:
    return Filter(all=retriever_pb2.FilterList(filters=nodes))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Filter(), "filter: is empty; set one of its nodes"),
        (Filter(all=retriever_pb2.FilterList()), "filter.all.filters: holds 0; it must hold 1 to 32"),
        (
            all_of(*[Filter(visible=True)] * 2, Filter(price=retriever_pb2.PriceRange(min=float("nan")))),
            "filter.all.filters[2].price.min: nan; it must be finite",
        ),
        (
            Filter(price=retriever_pb2.PriceRange(min=5, max=1)),
            "filter.price.min: 5.0 is above max, 1.0: nothing could pass",
        ),
        (
            Filter(created_at=time_range(9, 8)),
            "filter.created_at.from: is after to: nothing could pass",
        ),
        (
            Filter(price=retriever_pb2.PriceRange(currency="eur")),
            "filter.price.currency: 'eur' is not an ISO 4217 code of three capital letters",
        ),
        (Filter(brand=retriever_pb2.StringList()), "filter.brand.values: holds 0; it must hold 1 to 256"),
        (
            Filter(brand=retriever_pb2.StringList(values=["x"] * 257)),
            "filter.brand.values: holds 257; it must hold 1 to 256",
        ),
        (
            Filter(category=retriever_pb2.CategoryFilter(paths=[retriever_pb2.CategoryPath()])),
            "filter.category.paths[0].names: holds 0; it must hold 1 to 8",
        ),
        (
            Filter(category=retriever_pb2.CategoryFilter(paths=[retriever_pb2.CategoryPath(names=["a > b"])])),
            "filter.category.paths[0].names[0]: holds '>', which separates categories",
        ),
        (
            Filter(attribute=retriever_pb2.AttributeFilter(name="x")),
            "filter.attribute: says no condition; set any_of, range or present",
        ),
        (
            Filter(
                attribute=retriever_pb2.AttributeFilter(name="x", range=retriever_pb2.NumberRange(max=float("inf")))
            ),
            "filter.attribute.range.max: inf; it must be finite",
        ),
        (
            Filter(created_at=retriever_pb2.TimeRange(to=Timestamp(nanos=-1))),
            "filter.created_at.to: lies outside the years 1 to 9999",
        ),
        (nested(11), f"filter{'.not' * 10}: lies 11 deep; the limit is 10"),
        (
            all_of(*[all_of(*[Filter(visible=True)] * 31)] * 3),
            "filter: holds more than 96 nodes",
        ),
    ],
)
def test_names_the_field_and_the_limit(node: Filter, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_filter(node)
    assert str(caught.value) == message


def test_the_limits_themselves_are_allowed() -> None:
    check_filter(nested(10))
    check_filter(all_of(*[all_of(*[Filter(visible=True)] * 30)] * 3, *[Filter(visible=True)] * 2))


@pytest.mark.parametrize(("told", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_letters_with_marks_are_found_however_they_are_written(
    told: Literal["NFC", "NFD"], asked: Literal["NFC", "NFD"]
) -> None:
    """macOS writes "ö" as two characters, most others as one."""

    def written(form: Literal["NFC", "NFD"], *texts: str) -> list[str]:
        return [unicodedata.normalize(form, text) for text in texts]

    category, name, value, brand = written(told, "Möbel", "Größe", "für Söhne", "Zënith")
    columns = Columns()
    item = types_pb2.Item(id="i", title="t", brand=brand, category_path=["Haus", category, "Tisch"])
    item.attributes.add(name=name, values=[value])
    columns.add(item)
    category, name, value, brand = written(asked, "Möbel", "Größe", "für söhne", "ZËNITH")
    paths = [retriever_pb2.CategoryPath(names=["Haus", category])]
    any_of = retriever_pb2.StringList(values=[value])
    for node in (
        Filter(brand=retriever_pb2.StringList(values=[brand])),
        Filter(category=retriever_pb2.CategoryFilter(paths=paths)),
        Filter(attribute=retriever_pb2.AttributeFilter(name=name, any_of=any_of)),
        Filter(attribute=retriever_pb2.AttributeFilter(name=name, present=True)),
    ):
        assert passing(node, columns.view()).sum() == 1, node
