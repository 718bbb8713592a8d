"""Rows of every format become the same messages, and a bad row is told exactly."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from souk import dataset
from souk.types.v1 import types_pb2

FULL_ITEM = types_pb2.Item(
    id="A-1",
    revision=3,
    title='A "quoted", long\ntitle 沙发',
    description="soft",
    brand="Nord",
    category_path=["Home", "Sofas"],
    price=12.5,
    currency="EUR",
    attributes=[types_pb2.Attribute(name="colour", values=["red", "blue"])],
    image_url="https://shop.example/a.jpg",
    stock=0,
    visible=False,
    popularity=4.0,
)
FULL_ITEM.created_at.FromJsonString("2025-03-01T10:00:00Z")


def write(directory: Path, table: str, suffix: str, rows: list[dict[str, Any]]) -> Path:
    path = directory / f"{table}{suffix}"
    if suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
        return path
    opened = gzip.open if suffix.endswith(".gz") else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if ".csv" in suffix:
            writer = csv.DictWriter(file, list(dict.fromkeys(column for row in rows for column in row)))
            writer.writeheader()
            writer.writerows({c: str(v).lower() if isinstance(v, bool) else v for c, v in row.items()} for row in rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.mark.parametrize("suffix", dataset.SUFFIXES)
def test_an_item_survives_every_format(tmp_path: Path, suffix: str) -> None:
    bare = types_pb2.Item(id="B-2")
    path = write(tmp_path, "items", suffix, [dataset.item_row(FULL_ITEM), dataset.item_row(bare)])
    assert list(dataset.read_items(tmp_path)) == [FULL_ITEM, bare]
    assert list(dataset.read_items(path)) == [FULL_ITEM, bare]


@pytest.mark.parametrize("suffix", dataset.SUFFIXES)
def test_events_and_shoppers_survive_every_format(tmp_path: Path, suffix: str) -> None:
    event = types_pb2.Event(
        event_id="e1", shopper_id="s1", type=types_pb2.EVENT_TYPE_PURCHASE, item_id="A-1", dwell_ms=5, query="沙发",
        scene=types_pb2.SCENE_SEARCH, request_id="r1", position=0, quantity=2, price=9.75, currency="EUR",
    )  # fmt: skip
    event.time.FromJsonString("2025-03-01T10:00:00.250Z")
    shopper = types_pb2.Shopper(id="s1", attributes=[types_pb2.Attribute(name="country", values=["GB"])])
    write(tmp_path, "events", suffix, [dataset.event_row(event)])
    write(tmp_path, "shoppers", suffix, [dataset.shopper_row(shopper)])
    assert list(dataset.read_events(tmp_path)) == [event]
    assert list(dataset.read_shoppers(tmp_path)) == [shopper]


@given(
    st.builds(
        types_pb2.Item,
        id=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
        title=st.text(st.characters(exclude_categories=["Cs"])),
        price=st.none() | st.floats(0, 1e12),
        stock=st.none() | st.integers(0, 2**40),
        visible=st.none() | st.booleans(),
        revision=st.integers(0, 2**63),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
def test_any_item_survives_csv_and_jsonl(tmp_path: Path, item: types_pb2.Item) -> None:
    for suffix in (".csv", ".jsonl"):
        assert list(dataset.read_items(write(tmp_path, "items", suffix, [dataset.item_row(item)]))) == [item]


def test_lines_of_json_may_hold_objects_and_lists(tmp_path: Path) -> None:
    row = {"item_id": "A", "category": ["Home", "Sofas"], "attributes": {"colour": "red", "size": ["S", "M"]}}
    (tmp_path / "items.jsonl").write_text(json.dumps(row), encoding="utf-8")
    [item] = dataset.read_items(tmp_path)
    assert list(item.category_path) == ["Home", "Sofas"]
    assert {one.name: list(one.values) for one in item.attributes} == {"colour": ["red"], "size": ["S", "M"]}


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("item_id", "", "must be given"),
        ("price", "cheap", "finite number, not 'cheap'"),
        ("price", "nan", "finite number"),
        ("stock", "1.5", "whole number from -9223372036854775808 to"),
        ("revision", "-1", "whole number from 0 to 18446744073709551615, not '-1'"),
        ("visible", "yes", "true or false"),
        ("created_at", "yesterday", "ISO 8601"),
        ("attributes", "{", "an object or the JSON text of one"),
        ("attributes", '{"colour": 3}', "'colour' must be a text or a list of texts"),
        ("category", "Home >  > Sofas", "none of them empty"),
    ],
)
def test_a_bad_value_is_told_with_file_row_and_column(tmp_path: Path, column: str, value: str, problem: str) -> None:
    rows = [{column: "", "item_id": "A"}, {"item_id": "B", column: value}]
    path = write(tmp_path, "items", ".csv", rows)
    with pytest.raises(dataset.BadRow, match=problem) as caught:
        list(dataset.read_items(path))
    assert (caught.value.file, caught.value.row, caught.value.column) == ("items.csv", 2, column)
    assert str(caught.value).startswith(f"items.csv, row 2, {column}: ")
    bad: list[dataset.BadRow] = []
    assert [item.id for item in dataset.read_items(path, bad.append)] == ["A"]
    assert [one.row for one in bad] == [2]


def test_broken_rows_are_collected_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text(
        '{"item_id": "A"}\n\n{"item_id"\n[1]\n{"item_id": "B", "prise": 1}\n{"item_id": "C"}\n'
    )
    bad: list[dataset.BadRow] = []
    assert [item.id for item in dataset.read_items(tmp_path, bad.append)] == ["A", "C"]
    assert [(one.row, one.column) for one in bad] == [(2, ""), (3, ""), (4, "prise")]
    (tmp_path / "shoppers.csv").write_text("shopper_id,attributes\nS1\nS2,\n")
    assert [one.id for one in dataset.read_shoppers(tmp_path, bad.append)] == ["S2"]
    assert "has 1 fields, the header has 2" in str(bad[-1])


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("items.csv", b"id,title\n1,a\n", "unknown column 'id'"),
        ("items.csv", b"title\na\n", "column 'item_id' is missing"),
        ("items.csv", b"item_id,title,title\n1,a,b\n", "column 'title' is there twice"),
        ("items.csv", b"", "column 'item_id' is missing"),
        ("items.csv", b"item_id\n\xff\xfe\n", "is not UTF-8"),
        ("items.csv", b'item_id\n"open\n', "line"),
        ("items.jsonl.gz", gzip.compress(b'{"item_id": "A"}\n', mtime=0)[:-4], "whole gzip file"),
        ("items.jsonl.gz", b"plain", "whole gzip file"),
        ("items.parquet", b"plain", "readable Parquet"),
        ("items.txt", b"", "unknown format"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(dataset.DatasetError, match=problem):
        list(dataset.read_items(tmp_path / name, lambda bad: None))


def test_a_missing_or_doubled_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(dataset.DatasetError, match="no items table"):
        list(dataset.read_items(tmp_path))
    with pytest.raises(dataset.DatasetError, match="no such file"):
        list(dataset.read_items(tmp_path / "nowhere"))
    write(tmp_path, "items", ".csv", [{"item_id": "A"}])
    write(tmp_path, "items", ".jsonl", [{"item_id": "A"}])
    with pytest.raises(dataset.DatasetError, match="items is there twice"):
        list(dataset.read_items(tmp_path))


def test_events_of_a_dataset_without_time_have_none(tmp_path: Path) -> None:
    write(tmp_path, "events", ".csv", [{"event_id": "e1", "shopper_id": "s", "type": "VIEW", "order": 1}])
    (event,) = dataset.read_events(tmp_path)
    assert not event.HasField("time")
    write(tmp_path, "events", ".csv", [{"event_id": "e1", "shopper_id": "s", "type": "BOUGHT"}])
    with pytest.raises(dataset.BadRow, match="one of SEARCH, VIEW"):
        list(dataset.read_events(tmp_path))


@pytest.mark.parametrize("suffix", dataset.SUFFIXES)
def test_impressions_are_read(tmp_path: Path, suffix: str) -> None:
    row = {
        "request_id": "r",
        "item_id": "A",
        "position": 2,
        "propensity": 0.5,
        "scene": "HOME",
        "stock": 4,
        "clicked": True,
    }
    write(tmp_path, "impressions", suffix, [row])
    home = types_pb2.SCENE_HOME
    expected = dataset.Shown("r", "A", position=2, propensity=0.5, scene=home, stock=4, clicked=True)
    assert list(dataset.read_impressions(tmp_path)) == [expected]


@pytest.mark.parametrize("propensity", [0, -0.1, 1.5, "nan"])
def test_a_propensity_is_above_0_and_at_most_1(tmp_path: Path, propensity: Any) -> None:
    row = {"request_id": "r", "item_id": "A", "position": 2, "propensity": propensity}
    write(tmp_path, "impressions", ".jsonl", [row])
    with pytest.raises(dataset.BadRow, match=r"impressions\.jsonl, row 1, propensity: must be"):
        list(dataset.read_impressions(tmp_path))


def test_judgements_are_read(tmp_path: Path) -> None:
    write(tmp_path, "judgements", ".csv", [{"query": "sofa", "item_id": "A", "grade": 3, "language": "en"}])
    assert list(dataset.read_judgements(tmp_path)) == [dataset.Judgement("sofa", "A", 3, "en")]


@pytest.mark.parametrize("grade", ["101", "-1", "1.5", "1_0", "nan", "3.0.0", ".0", ""])
def test_a_grade_that_is_none_is_refused(tmp_path: Path, grade: str) -> None:
    write(tmp_path, "judgements", ".csv", [{"query": "sofa", "item_id": "A", "grade": grade}])
    with pytest.raises(dataset.BadRow, match=r"judgements\.csv, row 1, grade: must be"):
        list(dataset.read_judgements(tmp_path))


@pytest.mark.parametrize(("text", "grade"), [("100", 100), ("3.0", 3), (" 2 ", 2), ("4.00", 4)])
def test_whole_numbers_as_others_write_them(tmp_path: Path, text: str, grade: int) -> None:
    write(tmp_path, "judgements", ".csv", [{"query": "sofa", "item_id": "A", "grade": text}])
    assert [one.grade for one in dataset.read_judgements(tmp_path)] == [grade]
