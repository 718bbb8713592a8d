"""The canonical dataset as whole columns: written once, atomically and in bounded memory, and read through polars."""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import polars as pl
import pyarrow as pa
from pyarrow import parquet

from souk.dataset import COLUMNS, DatasetError, find_table

INFO_FILE = "dataset.json"
FORMAT_VERSION = 1

_MOMENT = pa.timestamp("us", tz="UTC")
_TYPES: dict[str, Any] = {
    "revision": pa.uint64(),
    "price": pa.float64(),
    "stock": pa.int64(),
    "visible": pa.bool_(),
    "created_at": _MOMENT,
    "popularity": pa.float64(),
    "time": _MOMENT,
    "order": pa.int64(),
    "dwell_ms": pa.uint64(),
    "position": pa.uint32(),
    "quantity": pa.uint32(),
    "grade": pa.int8(),
    "score": pa.float32(),
    "propensity": pa.float32(),
    "clicked": pa.bool_(),
    "carted": pa.bool_(),
    "purchased": pa.bool_(),
}
SCHEMAS: dict[str, Any] = {
    table: pa.schema([(column, _TYPES.get(column, pa.string())) for column in columns])
    for table, columns in COLUMNS.items()
}


class NoTime(ValueError):
    """A dataset whose events have only an order was asked for something that needs their time."""


@dataclass(frozen=True)
class Info:
    """What `dataset.json` says. `dropped` counts what a loader left out: table -> reason -> rows."""

    name: str
    version: str
    origin: str
    licence: str
    generator: dict[str, int | str] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class DatasetWriter:
    """Writes a dataset directory in Parquet; it appears under its name only when all of it is there.

    Use as a context manager: `write` appends to a table; leaving it writes `dataset.json` and renames the directory;
    an exception leaves nothing behind. Raises DatasetError where the directory already exists.
    """

    def __init__(self, out: Path, info: Info) -> None:
        if out.exists():
            raise DatasetError(f"{out}: exists already; remove it or name another directory")
        self._out = out
        self._info = info
        self._counts: dict[str, int] = {}
        self._writers: dict[str, Any] = {}
        out.parent.mkdir(parents=True, exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))

    def write(self, table: str, rows: Any) -> None:
        """Append rows to `table`: a pyarrow Table or a list of flat rows. Columns left out are null."""
        schema = SCHEMAS[table]
        if not isinstance(rows, pa.Table):
            rows = _table_of(rows, schema)
        rows = pa.Table.from_arrays(
            [
                rows[column.name] if column.name in rows.column_names else pa.nulls(rows.num_rows, column.type)
                for column in schema
            ],
            schema=schema,
        )
        if table not in self._writers:
            file = self.directory / f"{table}.parquet"
            self._writers[table] = parquet.ParquetWriter(file, schema, compression="zstd")
        self._writers[table].write_table(rows)
        self._counts[table] = self._counts.get(table, 0) + rows.num_rows

    @property
    def dropped(self) -> dict[str, dict[str, int]]:
        """What `drop` has counted: table -> reason -> rows."""
        return self._info.dropped

    def drop(self, table: str, reason: str, rows: int) -> None:
        """Count rows that were left out and why."""
        if rows:
            reasons = self._info.dropped.setdefault(table, {})
            reasons[reason] = reasons.get(reason, 0) + rows

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.close()
        if error is not None:
            shutil.rmtree(self.directory)
            return
        counts = {table: self._counts[table] for table in COLUMNS if table in self._counts}
        info = {"format": FORMAT_VERSION, **asdict(self._info), "counts": counts}
        text = json.dumps(info, ensure_ascii=False, indent=2) + "\n"
        (self.directory / INFO_FILE).write_text(text, encoding="utf-8")
        self.directory.chmod(0o755)
        os.rename(self.directory, self._out)


def _table_of(rows: Sequence[dict[str, Any]], schema: Any) -> Any:
    """Flat rows, times as ISO 8601 or datetime, as one pyarrow Table of `schema`."""
    columns = []
    for column in schema:
        values = [row.get(column.name) for row in rows]
        text_of_time = column.type == _MOMENT and any(isinstance(value, str) for value in values)
        columns.append(pa.array(values, pa.string()).cast(_MOMENT) if text_of_time else pa.array(values, column.type))
    return pa.Table.from_arrays(columns, schema=schema)


@dataclass(frozen=True)
class Dataset:
    """An opened dataset directory. Tables come as polars frames with every column of the schema, absent ones null."""

    path: Path
    info: Info

    def items(self) -> pl.DataFrame:
        """All items. Raises DatasetError where there is no such table."""
        return self._table("items")

    def shoppers(self) -> pl.DataFrame:
        """All shoppers; no rows where the dataset has no such table."""
        return self._table("shoppers", optional=True)

    def events(self) -> pl.DataFrame:
        """All events; no rows where the dataset has no such table."""
        return self._table("events", optional=True)

    def judgements(self) -> pl.DataFrame:
        """All judgements; no rows where the dataset has no such table."""
        return self._table("judgements", optional=True)

    def impressions(self) -> pl.DataFrame:
        """All items shown; no rows where the dataset has no such table."""
        return self._table("impressions", optional=True)

    def require_events(self) -> None:
        """Raises DatasetError where nobody has done anything, as in a catalogue alone."""
        if self.events().is_empty():
            raise DatasetError(f"{self.path}: has no events; they are needed here")

    def require_time(self, use: str) -> None:
        """Raises NoTime naming `use` unless every event has its time."""
        if self.events()["time"].has_nulls():
            raise NoTime(f"dataset has no time: {use} needs the column 'time' of events ({self.path} orders them only)")

    def _table(self, table: str, optional: bool = False) -> pl.DataFrame:
        file = find_table(self.path, table)
        if file is None and not optional:
            raise DatasetError(f"{self.path}: no {table} table")
        return _empty(table) if file is None else read_columns(file, table)


def open_dataset(path: str | Path) -> Dataset:
    """The dataset in a directory; one of tables alone, without `dataset.json`, is named as its directory.

    Raises DatasetError where there is none or its `dataset.json` does not fit.
    """
    path = Path(path)
    if not (path / INFO_FILE).exists():
        if not any(find_table(path, table) for table in SCHEMAS):
            raise DatasetError(
                f"{path}: no dataset, neither {INFO_FILE} nor a table; `python -m training data load` or `generate` "
                "makes one"
            )
        return Dataset(path, Info(path.resolve().name, version="", origin="", licence=""))
    try:
        raw = json.loads((path / INFO_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path / INFO_FILE}: {error}") from error
    if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT_VERSION:
        raise DatasetError(f"{path / INFO_FILE}: format must be {FORMAT_VERSION}")
    try:
        return Dataset(path, Info(**{**raw, "notes": tuple(raw.get("notes", ()))}))
    except TypeError as error:
        raise DatasetError(f"{path / INFO_FILE}: {error}") from error


def read_columns(file: Path, table: str) -> pl.DataFrame:
    """One table with all its columns, empty texts as null. Raises DatasetError on a file that does not fit."""
    wanted = _empty(table).schema
    try:
        if file.suffix == ".parquet":
            frame = pl.read_parquet(file)
        elif ".csv" in file.suffixes:
            frame = pl.read_csv(file, infer_schema=False)
        else:
            frame = pl.read_ndjson(file, infer_schema_length=None)
        return _fit(frame, wanted)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise DatasetError(f"{file.name}: {error} (the validate command names the rows)") from error


def _fit(frame: pl.DataFrame, wanted: pl.Schema) -> pl.DataFrame:
    """The frame with exactly the wanted columns and types."""
    if unknown := [name for name in frame.columns if name not in wanted]:
        raise ValueError(f"unknown columns {', '.join(unknown)}")
    columns = []
    for name, kind in wanted.items():
        if name not in frame.columns:
            columns.append(pl.Series(name, [None] * frame.height, kind))
            continue
        column = frame[name]
        if column.dtype == pl.String:
            column = column.set(column == "", None)
            if isinstance(kind, pl.Datetime):
                parse = COLUMNS["events"]["time"]
                column = pl.Series(name, [None if value is None else parse(value) for value in column], kind)
            elif kind == pl.Boolean:
                column = column.replace_strict({"true": True, "false": False}, return_dtype=pl.Boolean)
        columns.append(column.cast(kind))
    return pl.DataFrame(columns)


def _empty(table: str) -> pl.DataFrame:
    frame = pl.from_arrow(SCHEMAS[table].empty_table())
    assert isinstance(frame, pl.DataFrame)
    return frame
