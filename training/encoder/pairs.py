"""Pairs of a query and an item that the encoder and the reranker learn from, as a Parquet file."""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from souk.dataset import BadRow, DatasetError, read_judgements

MAX_GRADE = 3.0
MAX_QUERY_CHARACTERS = 512
_SCHEMA = {"query": pl.String, "item_id": pl.String, "grade": pl.Float64, "source": pl.String}


@dataclass(frozen=True, slots=True)
class Pair:
    """How well an item answers a query.

    `grade`: 0 (judged not relevant) to 3 (exactly). `source` tells where the pair is from: "judgement", "log",
    "synthetic:title", "synthetic:attributes", "synthetic:category", "synthetic:copurchase".
    """

    query: str
    item_id: str
    grade: float
    source: str


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Writes the pairs; the file appears under its name only when it is whole."""
    frame = pl.DataFrame([asdict(pair) for pair in pairs], schema=_SCHEMA)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as draft:
        frame.write_parquet(draft)
    os.chmod(draft.name, 0o644)
    os.replace(draft.name, path)


def read_pairs(path: Path) -> list[Pair]:
    """All pairs of a file.

    Raises DatasetError where the file cannot be read or lacks a column, BadRow (with file, row and column) for the
    first row that is over a limit.
    """
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DatasetError(f"{path}: {error}") from None
    if missing := [name for name in _SCHEMA if name not in frame.columns]:
        raise DatasetError(f"{path}: no column {', '.join(missing)}; it needs {', '.join(_SCHEMA)}")
    try:
        frame = frame.select(pl.col(name).cast(kind) for name, kind in _SCHEMA.items())
    except pl.exceptions.PolarsError as error:
        raise DatasetError(f"{path}: {error}") from None
    if not frame.height:
        raise DatasetError(f"{path}: holds no pair")
    limits = {
        "query": (
            pl.col("query").str.strip_chars().str.len_chars().is_between(1, MAX_QUERY_CHARACTERS),
            f"must be text of 1 to {MAX_QUERY_CHARACTERS} characters",
        ),
        "item_id": (pl.col("item_id").str.len_bytes() > 0, "must not be empty"),
        "grade": (pl.col("grade").is_between(0, MAX_GRADE), f"must be a number from 0 to {MAX_GRADE:g}"),
        "source": (pl.col("source").str.len_bytes() > 0, "must say where the pair is from"),
    }
    for column, (holds, problem) in limits.items():
        bad = frame.with_row_index("row", 1).filter(~holds.fill_null(False)).head(1)
        if bad.height:
            raise BadRow(path.name, bad["row"][0], column, f"{problem}, not {bad[column][0]!r}")
    return [Pair(*row) for row in frame.iter_rows()]


def judged_pairs(dataset: Path) -> list[Pair]:
    """The judgements of a canonical dataset as pairs. Raises DatasetError where it has none."""
    return [Pair(one.query, one.item_id, float(one.grade), "judgement") for one in read_judgements(dataset)]
