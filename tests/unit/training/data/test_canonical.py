"""The dataset directory: atomic to write, the same columns from every format, and no time where there is none."""

import csv
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from souk.dataset import DatasetError, event_row, item_row, read_events, read_items
from training.data.canonical import SCHEMAS, Dataset, DatasetWriter, Info, NoTime, open_dataset, read_columns

INFO = Info("toy", "1", "made up", "CC0-1.0")
ITEM = {"item_id": "A", "title": "沙发", "price": 2.5, "visible": False, "created_at": "2025-01-01T00:00:00.5Z"}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "toy", INFO) as writer:
        writer.write("items", [ITEM])
        writer.write("items", [{"item_id": "B", "stock": 3}])
        writer.drop("items", "broken", 2)
        writer.drop("items", "broken", 1)
        assert not (tmp_path / "toy").exists()
    dataset = open_dataset(tmp_path / "toy")
    assert dataset.info.counts == {"items": 2}
    assert dataset.info.dropped == {"items": {"broken": 3}}
    items = dataset.items()
    assert items.columns == SCHEMAS["items"].names
    assert items["created_at"].to_list() == [datetime(2025, 1, 1, 0, 0, 0, 500_000, UTC), None]
    assert items["visible"].to_list() == [False, None]
    assert dataset.events().height == dataset.shoppers().height == dataset.judgements().height == 0
    assert [item.id for item in read_items(tmp_path / "toy")] == ["A", "B"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def write(rows: list[dict[str, Any]]) -> None:
        with DatasetWriter(tmp_path / "toy", INFO) as writer:
            writer.write("items", [ITEM])
            writer.write("items", rows)

    with pytest.raises(pa.ArrowException, match="cheap"):
        write([{"item_id": "A", "price": "cheap"}])
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(DatasetError, match="exists already"):
        DatasetWriter(tmp_path, INFO)
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl", ".jsonl.gz"])
def test_columns_are_the_same_in_every_format(tmp_path: Path, shop: Dataset, suffix: str) -> None:
    for table, rows, whole in (
        ("items", [item_row(item) for item in read_items(shop.path)], shop.items()),
        ("events", [event_row(one) for _, one in zip(range(500), read_events(shop.path), strict=False)], shop.events()),
    ):
        file = tmp_path / f"{table}{suffix}"
        write_text(file, rows, SCHEMAS[table].names)
        assert_frame_equal(read_columns(file, table), whole.head(len(rows)))


def write_text(file: Path, rows: list[dict[str, Any]], columns: list[str]) -> None:
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "wt", encoding="utf-8", newline="") as lines:
        if ".csv" in file.suffixes:
            writer = csv.DictWriter(lines, columns)
            writer.writeheader()
            writer.writerows({c: str(v).lower() if isinstance(v, bool) else v for c, v in r.items()} for r in rows)
        else:
            lines.writelines(json.dumps(row) + "\n" for row in rows)


def test_columns_that_do_not_fit_are_told(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,price\nA,cheap\n")
    with pytest.raises(DatasetError, match=r"items\.csv"):
        read_columns(tmp_path / "items.csv", "items")
    (tmp_path / "items.csv").write_text("item_id,prise\nA,1\n")
    with pytest.raises(DatasetError, match="unknown columns prise"):
        read_columns(tmp_path / "items.csv", "items")


def test_what_needs_time_is_refused_by_name_without_it(tmp_path: Path, shop: Dataset) -> None:
    with DatasetWriter(tmp_path / "toy", INFO) as writer:
        writer.write("items", [ITEM])
        writer.write("events", [{"event_id": "e", "shopper_id": "s", "type": "VIEW", "item_id": "A", "order": 0}])
    with pytest.raises(NoTime, match=r"^dataset has no time: a split by time needs the column 'time' of events"):
        open_dataset(tmp_path / "toy").require_time("a split by time")
    shop.require_time("a split by time")


def test_a_directory_that_is_no_dataset_is_told(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DatasetError, match=r"no dataset, neither dataset\.json nor a table; .*data load"):
            open_dataset(place)
    (tmp_path / "dataset.json").write_text('{"format": 2}')
    with pytest.raises(DatasetError, match="format must be 1"):
        open_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"format": 1, "name": "x", "colour": 1}')
    with pytest.raises(DatasetError, match="colour"):
        open_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text(
        json.dumps({"format": 1, "name": "", "version": "", "origin": "", "licence": ""})
    )
    with pytest.raises(DatasetError, match="no items table"):
        open_dataset(tmp_path).items()
    assert isinstance(open_dataset(tmp_path).events(), pl.DataFrame)


def test_tables_alone_are_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\nA,a lamp\n")
    dataset = open_dataset(tmp_path)
    assert dataset.info.name == tmp_path.name
    assert dataset.items()["title"].to_list() == ["a lamp"]
