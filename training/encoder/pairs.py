"""Pairs of a query and an item that the encoder and the reranker learn from, as a Parquet file."""

import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from souk.dataset import MAX_GRADE, BadRow, DatasetError, read_judgements

MAX_QUERY_CHARACTERS = 512
_SCHEMA = pa.schema(
    [("query", pa.string()), ("item_id", pa.string()), ("grade", pa.float64()), ("source", pa.string())]
)
# What a value that is there must fulfil, and what is said of one that does not or is not there.
_LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "query": (
        lambda text: 1 <= len(text.strip()) <= MAX_QUERY_CHARACTERS,
        f"must be text of 1 to {MAX_QUERY_CHARACTERS} characters",
    ),
    "item_id": (bool, "must not be empty"),
    "grade": (lambda grade: 0 <= grade <= MAX_GRADE, f"must be a number from 0 to {MAX_GRADE}"),
    "source": (bool, "must say where the pair is from"),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """How well an item answers a query.

    `grade`: 0 (judged not relevant) upwards; what Souk makes itself goes to 3 (exactly). `source` tells where the pair
    is from: "judgement", "log", "synthetic:title", "synthetic:attributes", "synthetic:category",
    "synthetic:copurchase".
    """

    query: str
    item_id: str
    grade: float
    source: str


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Writes the pairs; the file appears under its name only when it is whole."""
    table = pa.Table.from_pylist([asdict(pair) for pair in pairs], schema=_SCHEMA)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as draft:
        parquet.write_table(table, draft, compression="zstd")
    os.chmod(draft.name, 0o644)
    os.replace(draft.name, path)


def read_pairs(path: Path) -> list[Pair]:
    """All pairs of a file.

    Raises DatasetError where the file cannot be read or lacks a column, BadRow (with file, row and column) for the
    first row that is over a limit.
    """
    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: {error}") from None
    if missing := [name for name in _SCHEMA.names if name not in table.column_names]:
        raise DatasetError(f"{path}: no column {', '.join(missing)}; it needs {', '.join(_SCHEMA.names)}")
    columns: dict[str, list[Any]] = {}
    for name in _SCHEMA.names:
        try:
            columns[name] = table[name].cast(_SCHEMA.field(name).type).to_pylist()
        except pa.ArrowException as error:
            raise DatasetError(f"{path}, {name}: {error}") from None
    if not table.num_rows:
        raise DatasetError(f"{path}: holds no pair")
    for name, (holds, problem) in _LIMITS.items():
        for row, value in enumerate(columns[name], 1):
            if value is None or not holds(value):
                raise BadRow(path.name, row, name, f"{problem}, not {value!r}")
    return [Pair(*row) for row in zip(*columns.values(), strict=True)]


def judged_pairs(dataset: Path) -> list[Pair]:
    """The judgements of a canonical dataset as pairs. Raises DatasetError where it has none."""
    return [Pair(one.query, one.item_id, float(one.grade), "judgement") for one in read_judgements(dataset)]
