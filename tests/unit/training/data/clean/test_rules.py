"""Every rule has a dirty row that it catches and a clean row that it leaves; faults of a file of rules are told."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("polars")

import numpy as np
import polars as pl

from souk.dataset import DatasetError
from training.data.clean.account import Account
from training.data.clean.item_rules import AlikeItems
from training.data.clean.pipeline import clean
from training.data.clean.rules import KINDS, read_rules

Row = dict[str, Any]

ITEMS: list[Row] = [
    {"item_id": "i", "title": "Mug", "price": 10.0, "currency": "EUR", "created_at": "2026-01-02T00:00:00Z"},
    {"item_id": "j", "title": "Jug", "price": 20.0, "currency": "EUR"},
]
SHOPPERS: list[Row] = [{"shopper_id": name} for name in "sbwv"]


def event(event_id: str, **values: Any) -> Row:
    return {"event_id": event_id, "shopper_id": "s", "type": "PURCHASE", "time": "2026-02-01T10:00:00Z"} | values


def cleaned(directory: Path, rules: str, **tables: list[Row]) -> tuple[dict[str, Account], Path]:
    source = directory / "source"
    source.mkdir()
    for name, rows in tables.items():
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        (source / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    file = directory / "rules.toml"
    file.write_text(rules, encoding="utf-8")
    accounts = clean(source, read_rules(str(file)), directory / "out", lambda *_: None)
    return accounts, directory / "out"


MENDS: list[tuple[str, str, Row, Row]] = [
    ("encoding", 'columns = ["title"]', {"title": "CafÃ© crÃ¨me\x07"}, {"title": "Café crème"}),
    ("encoding", 'columns = ["title"]', {"title": "Cafe\u0301"}, {"title": "Café"}),
    ("html", 'columns = ["title"]', {"title": "Salt &amp;amp; <b>Pepper</b>"}, {"title": "Salt &  Pepper "}),
    ("html", 'columns = ["title"]', {"title": "A<script>alert(1)</script>B"}, {"title": "A B"}),
    ("space", 'columns = ["title"]', {"title": " red\u00a0 mug\u200b "}, {"title": "red mug"}),
    ("placeholder", 'columns = ["brand"]\nvalues = ["n/a"]', {"brand": "N/A"}, {"brand": None}),
    ("case", 'columns = ["currency"]\nto = "upper"', {"price": 1.0, "currency": "eur"}, {"currency": "EUR"}),
    ("spelling", 'columns = ["brand"]\nvalues = { "Acme Inc" = "Acme" }', {"brand": "Acme Inc"}, {"brand": "Acme"}),
    ("category", 'separator = "/"', {"category": "Home/ Kitchen//Mugs"}, {"category": "Home > Kitchen > Mugs"}),
    (
        "currency",
        'to = "EUR"\nrates = { USD = 0.5, EURCENT = 0.01 }',
        {"price": 3.0, "currency": "USD"},
        {"price": 1.5, "currency": "EUR"},
    ),
    (
        "units",
        'attributes = ["weight"]\nto = { kg = ["g", 1000] }',
        {"attributes": '{"weight": ["1,5 kg"], "model": ["5 kg"]}'},
        {"attributes": '{"weight": ["1500 g"], "model": ["5 kg"]}'},
    ),
]


@pytest.mark.parametrize(("kind", "keys", "dirty", "mended"), MENDS)
def test_a_mend_changes_what_is_dirty_alone(kind: str, keys: str, dirty: Row, mended: Row, tmp_path: Path) -> None:
    clean_row = {"item_id": "good", "title": "Café & 5 < 6", "brand": "Acme", "category": "Home > Kitchen",
                 "price": 2.0, "currency": "EUR", "attributes": '{"weight": ["20 g"]}'}  # fmt: skip
    rows: list[Row] = [{"item_id": "bad", "title": "x", **dirty}, clean_row]
    accounts, out = cleaned(tmp_path, f'[[items.rules]]\nrule = "{kind}"\nname = "it"\n{keys}\n', items=rows)
    frame = pl.read_parquet(out / "items.parquet")
    after = {row["item_id"]: row for row in frame.to_dicts()}
    assert accounts["items"].mended == {"it": 1}
    assert {name: after["bad"][name] for name in mended} == mended
    assert {name: after["good"][name] for name in clean_row} == clean_row
    (example,) = accounts["items"].examples["it"]
    assert example["row"] == 1
    assert set(example["after"]) <= set(dirty)


def test_the_most_frequent_spelling_is_everybodys(tmp_path: Path) -> None:
    brands = ["Acme", "ACME", "acme.", "Acme", "Bolt", None]
    rows = [{"item_id": str(i), "title": "x", "brand": brand} for i, brand in enumerate(brands)]
    rules = '[[items.rules]]\nrule = "spelling"\ncolumns = ["brand"]\nfold = true\n'
    _, out = cleaned(tmp_path, rules, items=rows)
    assert pl.read_parquet(out / "items.parquet")["brand"].to_list() == ["Acme"] * 4 + ["Bolt", None]


DROPS: list[tuple[str, str, Row, Row]] = [
    ("missing", 'columns = ["item_id"]', {}, {"item_id": "i"}),
    ("pattern", "column = 'item_id'\nmatches = '^[a-z]$'", {"item_id": "POST"}, {"item_id": "i"}),
    ("one of", 'column = "currency"\nvalues = ["EUR"]', {"currency": "USD"}, {"currency": "EUR"}),
    ("range", 'column = "quantity"\nabove = 0', {"quantity": 0}, {"quantity": 1}),
    ("range", 'column = "price"\nmax = 100', {"price": 100.5}, {"price": 100}),
    ("range", 'column = "quantity"\nmax = 3\ntypes = ["PURCHASE"]', {"quantity": 4}, {"quantity": 4, "type": "CART"}),
    ("time", "earliest = 2026-01-01T00:00:00", {"time": "2025-12-31T23:59:59Z"}, {"time": "2026-01-01"}),
    ("time", "", {"time": "2999-01-01T00:00:00Z"}, {"time": "2026-01-01T00:00:00+02:00"}),
    ("before its item", "days = 1", {"item_id": "i", "time": "2025-12-31T23:00:00Z"},
     {"item_id": "i", "time": "2026-01-01T01:00:00Z"}),
    ("unknown item", "", {"item_id": "zz"}, {"item_id": "j"}),
    ("unknown shopper", "", {"shopper_id": "zz"}, {}),
    ("price ratio", "times = 3", {"item_id": "i", "price": 31.0, "currency": "EUR"},
     {"item_id": "i", "price": 31.0, "currency": "USD"}),
    ("price ratio", "times = 3", {"item_id": "i", "price": 3.0, "currency": "EUR"},
     {"item_id": "i", "price": 4.0, "currency": "EUR"}),
    ("identifier", 'columns = ["request_id"]', {"request_id": "r" * 129}, {"request_id": "r" * 128}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "keys", "dirty", "fine"), DROPS)
def test_a_drop_takes_what_is_dirty_alone(kind: str, keys: str, dirty: Row, fine: Row, tmp_path: Path) -> None:
    rows = [event("bad", **dirty), event("fine", **fine)]
    rules = f'[[events.rules]]\nrule = "{kind}"\nname = "it"\n{keys}\n'
    accounts, out = cleaned(tmp_path, rules, items=ITEMS, shoppers=SHOPPERS, events=rows)
    assert accounts["events"].dropped == {"it": 1}
    assert accounts["events"].examples["it"][0]["event_id"] == "bad"
    assert pl.read_parquet(out / "events.parquet")["event_id"].to_list() == ["fine"]


def at(second: float) -> str:
    return f"2026-02-01T10:00:{second:06.3f}Z"


BY_SHOPPER: list[tuple[str, str, list[Row], list[str]]] = [
    ("duplicates", 'columns = ["type", "item_id", "time"]',
     [event("a", item_id="i"), event("b", item_id="i"), event("c", item_id="j"),
      event("d", item_id="i", shopper_id="v")], ["b"]),
    ("duplicates", "", [event("a", quantity=1), event("b", quantity=1), event("c", quantity=2)], ["b"]),
    ("near duplicates", 'seconds = 1\ntypes = ["CLICK"]',
     [event("a", type="CLICK", item_id="i", time=at(0)), event("b", type="CLICK", item_id="i", time=at(1)),
      event("c", type="CLICK", item_id="i", time=at(1.9)), event("d", type="CLICK", item_id="i", time=at(3)),
      event("e", type="CART", item_id="i", time=at(3)), event("f", type="CART", item_id="i", time=at(3.5)),
      event("g", type="CLICK", item_id="j", time=at(3.5))], ["b", "c"]),
    ("bots", 'types = ["CLICK"]\nper_minute = 2',
     [event(f"{name}{i}", type="CLICK", shopper_id=name, time=at(i)) for name, n in (("b", 3), ("s", 2))
      for i in range(n)] + [event("b9", shopper_id="b", time="2026-03-01")], ["b0", "b1", "b2", "b9"]),
    ("bots", 'types = ["CLICK"]\nper_day = 2',
     [event(f"{name}{i}", type="CLICK", shopper_id=name, time=f"2026-02-01T0{i}:00") for name, n in (("b", 3), ("s", 2))
      for i in range(n)], ["b0", "b1", "b2"]),
    ("wholesalers", "units_per_day = 10",
     [event("w1", shopper_id="w", quantity=6), event("w2", shopper_id="w", quantity=5),
      event("s1", quantity=6), event("s2", quantity=5, time="2026-02-02")], ["w1", "w2"]),
    ("returns", 'matched = "cancel"\nunmatched = "drop"',
     [event("old", item_id="i", quantity=2, time=at(0)), event("late", item_id="i", quantity=3, time=at(2)),
      event("back", item_id="i", quantity=3, time=at(3), type="RETURN"),
      event("early", item_id="j", quantity=1, time=at(0), type="RETURN"), event("then", item_id="j", time=at(1)),
      event("other", item_id="i", quantity=3, shopper_id="v", time=at(2))], ["back", "early", "late"]),
    ("returns", 'matched = "keep"\nunmatched = "drop"',
     [event("a", item_id="i", time=at(0)), event("b", item_id="i", time=at(1), type="RETURN"),
      event("c", item_id="i", time=at(2), type="RETURN")], ["c"]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "keys", "rows", "gone"), BY_SHOPPER)
def test_a_rule_on_a_shoppers_events_takes_these_alone(
    kind: str, keys: str, rows: list[Row], gone: list[str], tmp_path: Path
) -> None:
    accounts, out = cleaned(tmp_path, f'[[events.rules]]\nrule = "{kind}"\n{keys}\n', events=rows)
    left = pl.read_parquet(out / "events.parquet")["event_id"].to_list()
    assert sorted({row["event_id"] for row in rows} - set(left)) == gone
    assert sum(accounts["events"].dropped.values()) == len(gone)


def test_a_return_takes_units_from_the_latest_purchases_first(tmp_path: Path) -> None:
    rows = [
        event("a", item_id="i", quantity=5, time=at(0)),
        event("b", item_id="i", quantity=2, time=at(1)),
        event("c", item_id="i", quantity=4, time=at(2), type="RETURN"),
    ]
    rules = '[[events.rules]]\nrule = "returns"\nmatched = "cancel"\nunmatched = "keep"\n'
    accounts, out = cleaned(tmp_path, rules, events=rows)
    assert pl.read_parquet(out / "events.parquet").select("event_id", "quantity").rows() == [("a", 3)]
    assert accounts["events"].dropped == {"returns: that undid a purchase": 1, "returns: purchase wholly undone": 1}
    assert accounts["events"].mended == {"returns": 1}


@pytest.mark.parametrize(
    ("keys", "row"),
    [("", {"quantity": -2}), ('column = "request_id"\npattern = "^C"', {"quantity": -2, "request_id": "C1"})],
)
def test_a_cancellation_becomes_a_return(keys: str, row: Row, tmp_path: Path) -> None:
    rows = [event("bad", **row), event("good", quantity=2, request_id="1")]
    accounts, out = cleaned(tmp_path, f'[[events.rules]]\nrule = "cancellations"\nname = "it"\n{keys}\n', events=rows)
    found = pl.read_parquet(out / "events.parquet").select("event_id", "type", "quantity").rows()
    assert sorted(found) == [("bad", "RETURN", 2), ("good", "PURCHASE", 2)]
    assert accounts["events"].mended == {"it": 1}


def test_what_the_format_asks_for_is_always_checked(tmp_path: Path) -> None:
    rows = [
        event("good", quantity="2", price="1.5", time="2026-02-01 10:00"),
        event("type", type="BOUGHT"),
        event("none", shopper_id=None),
        event("id", item_id="x\ty"),
        event("units", quantity=-1),
        event("odd", price="cheap", time="yesterday"),
        event("good", quantity=7),
    ]
    items: list[Row] = [*ITEMS, {"item_id": "bare"}, {"item_id": "i", "title": "Cup", "revision": 2}]
    accounts, out = cleaned(tmp_path, "", events=rows, items=items)
    assert accounts["events"].dropped == {
        "unreadable type": 1,
        "missing shopper_id": 1,
        "limits item_id": 1,
        "limits quantity": 1,
        "duplicates event_id": 1,
    }
    assert accounts["events"].mended == {"unreadable price": 1, "unreadable time": 1}
    events = pl.read_parquet(out / "events.parquet").sort("event_id")
    assert events.select("event_id", "quantity", "price").rows() == [("good", 2, 1.5), ("odd", None, None)]
    assert accounts["items"].dropped == {"limits title": 1, "duplicates item_id": 1}
    assert dict(pl.read_parquet(out / "items.parquet").select("item_id", "revision").rows()) == {"i": 2, "j": None}


ALIKE = '[[items.rules]]\nrule = "alike items"\ncolumns = ["title", "description"]\nsame = ["brand"]\nlikeness = 0.8\n'
LONG = "A mug of white stoneware that keeps tea warm for long and stands firm on every table"


def mug(item_id: str, **values: Any) -> Row:
    return {"item_id": item_id, "title": "White mug, 300 ml", "description": LONG, "brand": "Acme"} | values


@pytest.mark.parametrize(
    ("values", "alike"),
    [
        ({"title": "WHITE MUG 300 ml.", "description": LONG.replace("table", "desk")}, True),
        ({"title": "White mug, 400 ml"}, False),
        ({"title": "Mug white, 300 ml"}, False),
        ({"description": None}, False),
        ({"description": LONG[:40]}, False),
        ({"brand": "Bolt"}, False),
        ({"title": "White mug, 300 ml, model B2"}, False),
    ],
)
def test_an_item_is_listed_once_and_what_is_told_of_its_twin_is_told_of_it(
    values: Row, alike: bool, tmp_path: Path
) -> None:
    items = [mug("first"), mug("again", **values), mug("other", title="Jug", description=None)]
    told = [event("e1", item_id="again"), event("e2", item_id="other"), event("e3", item_id="first")]
    judged = [{"query": "mug", "item_id": item, "grade": 3} for item in ("first", "again")]
    accounts, out = cleaned(tmp_path, ALIKE, items=items, events=told, judgements=judged)
    left = pl.read_parquet(out / "items.parquet")["item_id"].to_list()
    of = dict(pl.read_parquet(out / "events.parquet").select("event_id", "item_id").rows())
    if not alike:
        assert (left, of["e1"]) == (["first", "again", "other"], "again")
        return
    assert (left, of) == (["first", "other"], {"e1": "first", "e2": "other", "e3": "first"})
    assert accounts["items"].dropped == {"alike items title description": 1}
    (example,) = accounts["items"].examples["alike items title description"]
    assert (example["row"], example["item_id"], example["alike_to"]) == (2, "again", "first")
    assert accounts["events"].mended == {"item listed twice": 1}
    (example,) = accounts["events"].examples["item listed twice"]
    assert (example["before"], example["after"]) == ({"item_id": "again"}, {"item_id": "first"})
    assert accounts["judgements"].dropped == {"duplicates query item_id": 1}
    again = clean(out, read_rules(str(tmp_path / "rules.toml")), tmp_path / "twice", lambda *_: None)
    assert all(account.dropped == account.mended == {} for account in again.values())
    assert (tmp_path / "twice" / "items.parquet").read_bytes() == (out / "items.parquet").read_bytes()


def test_alike_items_are_those_that_comparing_all_pairs_finds() -> None:
    random = np.random.default_rng(3)
    words = ["red", "blue", "white", "mug", "jug", "pot", "白", "色", "杯", "子", "large", "small"]
    titles = [" ".join(random.choice(words, random.integers(1, 12))) for _ in range(150)]
    titles += [f"{title} {random.choice(words)}" for title in titles[:80]]
    for likeness in (0.5, 0.8, 1.0):
        rule = AlikeItems(columns=("title",), same=("brand",), likeness=likeness)
        items = pl.DataFrame({"item_id": [str(n) for n in range(230)], "title": titles, "brand": ["b"] * 230})
        stay: list[tuple[int, frozenset[str]]] = []
        gone = set()
        for number, title in enumerate(titles):
            parts = title.split()
            runs = frozenset(map(" ".join, pairwise(parts))) if len(parts) > 1 else frozenset(parts)
            if any(len(runs & other) >= likeness * len(runs | other) for _, other in stay):
                gone.add(str(number))
            else:
                stay.append((number, runs))
        assert set(rule.twins(items)) == gone
        assert gone


def test_every_kind_of_rule_has_its_dirty_row() -> None:
    tested = {case[0] for case in (*MENDS, *DROPS, *BY_SHOPPER)} | {"cancellations", "alike items"}
    assert tested == set(KINDS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[orders]\n", r"\[orders\] is unknown"),
        ('[[events.rules]]\nrule = "magic"\n', "rule must be one of encoding"),
        (
            '[[events.rules]]\nrule = "range"\ncolumn = "price"\nmost = 3\n',
            r"1 \(range\): most is unknown; known: name",
        ),
        ('[[events.rules]]\nrule = "range"\ncolumn = "price"\n', "above, min or max: one must be given"),
        ('[[events.rules]]\nrule = "range"\nmax = 3\n', "column is missing"),
        ('[[events.rules]]\nrule = "range"\ncolumn = "price"\nmax = "3"\n', "max must be a number, not '3'"),
        ('[[events.rules]]\nrule = "pattern"\ncolumn = "price"\nmatches = "("\n', "is no regular expression"),
        ('[[items.rules]]\nrule = "returns"\nmatched = "keep"\nunmatched = "keep"\n', "is a rule of events"),
        ('[[events.rules]]\nrule = "returns"\nmatched = "no"\nunmatched = "keep"\n', "must be one of cancel, keep"),
        ('[[items.rules]]\nrule = "spelling"\ncolumns = ["brand"]\nvalues = { a = "b", b = "c" }\n', "'b' is replaced"),
        ('[[events.rules]]\nrule = "spelling"\ncolumns = ["query"]\nfold = true\n', "fold needs the whole table"),
        ('[[events.rules]]\nrule = "alike items"\ncolumns = ["query"]\nsame = ["price"]\n', "is a rule of items"),
        (ALIKE.replace("0.8", "0.0"), "likeness: must be above 0 and at most 1, not 0.0"),
        ('[events]\nevent_id = "{nothing}"\n', "names no column"),
        ('[[items.rules]]\nrule = "space"\ncolumns = ["titel"]\n', r"1 \(space\): no column titel; known: item_id"),
        ('[events]\ncolour = "red"\n', r"\[events\]: colour is unknown"),
    ],
)
def test_a_fault_in_the_rules_is_told(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(DatasetError, match=told):
        read_rules(str(tmp_path / "rules.toml"))


def test_rules_that_are_not_there_are_told_with_those_that_are() -> None:
    with pytest.raises(DatasetError, match="shipped: canonical, online_retail_ii"):
        read_rules("nowhere.toml")
