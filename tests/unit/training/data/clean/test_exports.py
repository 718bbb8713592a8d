"""Files as shops export them: another encoding, decimal commas, their own words, nested JSON, broken lines."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytest.importorskip("polars")
import polars as pl
from typer.testing import CliRunner

from souk.dataset import DatasetError, read_events, read_items
from training.cli import app
from training.data.clean.account import Account
from training.data.clean.pipeline import clean
from training.data.clean.rules import read_rules

GERMAN = """
[items]
files = ["Artikel.csv"]
delimiter = ";"
encoding = "cp1252"
decimal_comma = true
time_format = "%d.%m.%Y"
columns = { item_id = "Nr.", title = "Name", price = "Preis €", visible = "Online", created_at = "Angelegt" }
constants = { currency = "EUR" }
attributes = { "Größe" = "Größe" }
value_separator = "/"
values = { visible = { J = "true", N = "false" } }
"""
ARTICLES = """Nr.;Name;Größe;Preis €;Online;Angelegt
1;Müllerin;groß/klein;1.234,50;J;31.12.2025
2;Tasse, blau;;3,20 €;N;01.01.2026
"""
NESTED = """
[items]
files = ["items.jsonl"]
columns = { item_id = "sku", title = "text.name", category = "path", price = "price.amount", currency = "price.unit" }
attributes = { tags = "tags" }
[events]
files = ["events.jsonl.gz"]
columns = { shopper_id = "user.id", type = "action", item_id = "sku", time = "at" }
values = { type = { buy = "PURCHASE", "1" = "VIEW" } }
time_format = "ms"
event_id = "{row}"
"""


def cleaned(source: Path, rules: str) -> dict[str, Account]:
    (source / "rules.toml").write_text(rules)
    return clean(source, read_rules(str(source / "rules.toml")), source / "out", lambda *_: None)


def test_a_german_export_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "Artikel.csv").write_bytes(ARTICLES.encode("cp1252"))
    account = cleaned(tmp_path, GERMAN)["items"]
    assert (account.kept, account.mended, account.dropped) == (2, {}, {})
    first, second = read_items(tmp_path / "out")
    assert (first.title, first.price, first.visible) == ("Müllerin", 1234.5, True)
    assert [(one.name, list(one.values)) for one in first.attributes] == [("Größe", ["groß", "klein"])]
    assert first.created_at.ToDatetime(UTC) == datetime(2025, 12, 31, tzinfo=UTC)
    assert (second.title, second.price, second.visible, len(second.attributes)) == ("Tasse, blau", 3.2, False, 0)


@pytest.mark.parametrize("encoding", ["", "utf-9"])
def test_an_encoding_that_does_not_read_the_file_is_told_before_a_letter_is_lost(tmp_path: Path, encoding: str) -> None:
    # In the values alone: the header is plain.
    text = "Nr.;Name;Größe;Preis €;Online;Angelegt\n1;Müllerin;;1;J;31.12.2025\n".replace("ö", "o").replace("€", "E")
    (tmp_path / "Artikel.csv").write_bytes(text.replace("ß", "s").encode("cp1252"))
    rules = GERMAN.replace("Größe", "Grose").replace("€", "E").replace("cp1252", encoding or "utf-8")
    with pytest.raises(DatasetError, match=r"must name its encoding: encoding = \"cp1252\"|unknown encoding: utf-9"):
        cleaned(tmp_path, rules)
    assert not (tmp_path / "out").exists()


def test_keys_below_keys_lists_and_times_in_milliseconds_are_read(tmp_path: Path) -> None:
    item = {
        "sku": "a",
        "text": {"name": "Mug 🎁"},
        "path": ["Home", "Cups > Mugs"],
        "price": {"amount": "$1,200.50", "unit": "USD"},
        "tags": ["new", "杯子"],
    }
    bare = {"sku": "b", "text": {"name": "Cup"}, "path": [], "price": {"amount": 2, "unit": "USD"}, "tags": []}
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(row) for row in (item, bare)))
    events = [
        {"user": {"id": 7}, "action": "buy", "sku": "a", "at": 1767225600500},
        {"user": {"id": "x"}, "action": 1, "sku": "a", "at": "2026-01-01T01:00:00+01:00"},
        {"user": None, "action": "buy", "sku": "a", "at": 1767225600500},
    ]
    with gzip.open(tmp_path / "events.jsonl.gz", "wt") as file:
        file.write("\n".join(json.dumps(row) for row in events))
    accounts = cleaned(tmp_path, NESTED)
    assert accounts["items"].mended == {}
    assert accounts["events"].dropped == {"missing shopper_id": 1}
    mug, cup = read_items(tmp_path / "out")
    assert (mug.title, list(mug.category_path), mug.price) == ("Mug 🎁", ["Home", "Cups / Mugs"], 1200.5)
    assert [list(one.values) for one in mug.attributes] == [["new", "杯子"]]
    assert (cup.price, list(cup.category_path), len(cup.attributes)) == (2, [], 0)
    found = {event.shopper_id: event for event in read_events(tmp_path / "out")}
    assert found["7"].time.ToMilliseconds() == 1767225600500
    assert found["x"].time.ToMilliseconds() == 1767225600000


PARQUET = """
[items]
files = ["items.parquet"]
columns = { item_id = "id", title = "name", brand = "size.maker", category = "path" }
attributes = { size = "size.unit", tags = "tags", weight = "weight" }
"""


def test_structs_and_lists_of_parquet_are_read(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "id": [7],
            "name": ["Soap"],
            "size": [{"unit": "22 LB", "maker": "Acme"}],
            "path": [["Home", None, "Bath"]],
            "tags": [["a", None, "b"]],
            "weight": [2.5],
        },
        schema_overrides={"name": pl.Categorical},
    )
    frame.write_parquet(tmp_path / "items.parquet")
    cleaned(tmp_path, PARQUET)
    (item,) = read_items(tmp_path / "out")
    assert (item.id, item.title, item.brand, list(item.category_path)) == ("7", "Soap", "Acme", ["Home", "Bath"])
    told = {one.name: list(one.values) for one in item.attributes}
    assert told == {"size": ["22 LB"], "tags": ["a", "b"], "weight": ["2.5"]}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"size.unit"', '"size"', "size holds several values; name one of size.unit, size.maker"),
        ('"size.unit"', '"size.colour"', "colour"),
        ('title = "name"', 'title = "tags"', "tags holds lists, and title is one value"),
    ],
)
def test_columns_that_hold_no_single_value_are_told(tmp_path: Path, old: str, new: str, problem: str) -> None:
    frame = pl.DataFrame(
        {"id": [7], "name": ["Soap"], "size": [{"unit": "g", "maker": "A"}], "path": [["B"]], "tags": [["a"]]}
    )
    frame.with_columns(weight=1).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DatasetError, match=problem):
        cleaned(tmp_path, PARQUET.replace(old, new))


def test_a_category_may_be_a_list_in_canonical_files_too(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"item_id": "a", "title": "Mug", "category": ["Home", "Cups"]}\n')
    (tmp_path / "parquet").mkdir()
    frame = pl.DataFrame({"item_id": ["a"], "title": ["Mug"], "category": [["Home", "Cups"]]})
    frame.write_parquet(tmp_path / "parquet" / "items.parquet")
    for source in (tmp_path, tmp_path / "parquet"):
        clean(source, read_rules("canonical"), source / "out", lambda *_: None)
        (item,) = read_items(source / "out")
        assert list(item.category_path) == ["Home", "Cups"]


def test_broken_lines_are_counted_and_the_others_kept(tmp_path: Path) -> None:
    lines = "event_id,shopper_id,type\n1,s,VIEW\n2,s,VIEW, more\n3,s\n4,t,VIEW\n"
    (tmp_path / "events.csv").write_text(lines)
    account = clean(tmp_path / "events.csv", read_rules("canonical"), tmp_path / "out", lambda *_: None)["events"]
    assert (account.rows_in, account.kept) == (4, 2)
    assert account.dropped == {"not as many values as columns": 2}
    assert [one["line"] for one in account.examples["not as many values as columns"]] == ["2,s,VIEW, more", "3,s"]
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "events.csv").write_text("event_id,shopper_id,type\n2,s,VIEW, more\n")
    account = clean(
        tmp_path / "none" / "events.csv", read_rules("canonical"), tmp_path / "none" / "out", lambda *_: None
    )["events"]
    assert (account.rows_in, account.kept) == (1, 0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "events.csv").write_text("")
    with pytest.raises(DatasetError, match=r"events\.csv: is empty"):
        clean(tmp_path / "empty" / "events.csv", read_rules("canonical"), tmp_path / "empty" / "out", lambda *_: None)


def test_the_command_fails_where_nothing_of_a_table_stays_and_calls_lost_values_lost(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title,price,currency\n1,Mug,cheap,EUR\n")
    (tmp_path / "events.csv").write_text("event_id,shopper_id,type\n1,s,LOOKED\n")
    given = ["clean", "--source", str(tmp_path), "--rules", "canonical", "--out", str(tmp_path / "out")]
    ran = CliRunner().invoke(app, given, env={"COLUMNS": "200"})
    assert ran.exit_code == 1
    assert "no row of events was kept" in ran.stderr
    assert "emptied │ unreadable price" in " ".join(ran.stdout.split())
    assert "next:" not in ran.stdout
    assert (tmp_path / "out" / "cleaning.json").is_file()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("values = { visible", "values = { shown", r"\[items\] shown is unknown"),
        ('attributes = { "Größe"', 'attributes = { x = "Farbe", "Größe"', "no column Farbe for x"),
        ('title = "Name"', 'title = "Name", attributes = "Online"', "named twice"),
        ('delimiter = ";"', 'delimiter = ";;"', "delimiter must be one character, not ';;'"),
        ("decimal_comma = true", 'decimal_comma = "yes"', "decimal_comma must be true or false"),
    ],
)
def test_a_mistake_in_the_columns_is_told(tmp_path: Path, old: str, new: str, problem: str) -> None:
    (tmp_path / "Artikel.csv").write_bytes(ARTICLES.encode("cp1252"))
    with pytest.raises(DatasetError, match=problem):
        cleaned(tmp_path, GERMAN.replace(old, new))
