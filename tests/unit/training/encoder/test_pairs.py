"""Pairs are kept as they are; a bad row is refused with its place."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from souk.dataset import BadRow, DatasetError
from training.data.canonical import DatasetWriter, Info
from training.encoder.pairs import Pair, judged_pairs, read_pairs, write_pairs

GOOD = {"query": "red mug", "item_id": "a", "grade": 2.5, "source": "log"}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pairs = [Pair("red mug", "a", 2.5, "log"), Pair("杯子", "b", 0.0, "judgement")]
    write_pairs(tmp_path / "new" / "pairs.parquet", pairs)
    assert read_pairs(tmp_path / "new" / "pairs.parquet") == pairs
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["pairs.parquet"]


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("query", " ", "must be text of 1 to 512 characters, not ' '"),
        ("query", "x" * 513, "must be text of 1 to 512 characters"),
        ("item_id", "", "must not be empty"),
        ("grade", 100.5, "must be a number from 0 to 100, not 100.5"),
        ("grade", None, "must be a number from 0 to 100, not None"),
        ("source", "", "must say where the pair is from"),
    ],
)
def test_a_bad_row_is_refused_with_its_place(tmp_path: Path, column: str, value: Any, problem: str) -> None:
    file = tmp_path / "pairs.parquet"
    pl.DataFrame([GOOD, {**GOOD, column: value}]).write_parquet(file)
    with pytest.raises(BadRow, match=f"^pairs.parquet, row 2, {column}: {problem}"):
        read_pairs(file)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pairs.parquet"
    with pytest.raises(DatasetError, match=r"pairs\.parquet"):
        read_pairs(file)
    pl.DataFrame([{"query": "a", "item_id": "b"}]).write_parquet(file)
    with pytest.raises(DatasetError, match="no column grade, source; it needs query, item_id, grade, source"):
        read_pairs(file)
    pl.DataFrame([{**GOOD, "grade": "much"}]).write_parquet(file)
    with pytest.raises(DatasetError, match="grade"):
        read_pairs(file)
    write_pairs(file, [])
    with pytest.raises(DatasetError, match="holds no pair"):
        read_pairs(file)


def test_judgements_are_pairs(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "data", Info("toy", "1", "here", "none")) as writer:
        writer.write("items", [{"item_id": "a"}])
        writer.write("judgements", [{"query": "mug", "item_id": "a", "grade": 0}])
    assert judged_pairs(tmp_path / "data") == [Pair("mug", "a", 0.0, "judgement")]
