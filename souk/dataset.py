"""The canonical dataset directory: rows of Parquet, CSV or JSONL to messages of the contract and back, row by row.

Needs only the standard library; Parquet files need pyarrow as well. It checks form and types; limits are the server's.
"""

import csv
import gzip
import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from google.protobuf.timestamp_pb2 import Timestamp

from souk.types.v1 import types_pb2

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz")
CATEGORY_SEPARATOR = " > "
MAX_GRADE = 100
"""Of a judgement; each shop may have its own scale below it."""
# As text; pandas writes a column of whole numbers with gaps as "3.0".
_WHOLE = re.compile(r"\s*([+-]?\d+)(?:\.0+)?\s*")


class DatasetError(ValueError):
    """A dataset that cannot be read at all: no such table, an unknown column, a broken file."""


class BadRow(DatasetError):
    """One row that does not follow the format. `row` counts data rows from 1; `column` is empty for the whole row."""

    def __init__(self, file: str, row: int, column: str, problem: str) -> None:
        where = f"{file}, row {row}, {column}" if column else f"{file}, row {row}"
        super().__init__(f"{where}: {problem}")
        self.file = file
        self.row = row
        self.column = column
        self.problem = problem


OnBadRow = Callable[[BadRow], None]


@dataclass(frozen=True)
class Judgement:
    """How well an item answers a query: grade 0 (not at all) upwards to MAX_GRADE, on the shop's own scale. `language`:
    an ISO 639-1 code or empty."""

    query: str
    item_id: str
    grade: int
    language: str = ""


@dataclass(frozen=True)
class Shown:
    """One item of one answer as a shopper was shown it, and what became of it there."""

    request_id: str
    item_id: str
    position: int
    """From 0 over all pages of the answer."""
    propensity: float
    """Probability with which the policy put this item at this place: above 0, at most 1."""
    shopper_id: str = ""
    scene: int = types_pb2.SCENE_UNSPECIFIED
    policy: str = ""
    generation: str = ""
    query: str = ""
    time: datetime | None = None
    score: float | None = None
    stock: int | None = None
    """Units left when it was shown; None where not tracked."""
    clicked: bool = False
    carted: bool = False
    purchased: bool = False


class _Problem(ValueError):
    """What is wrong with one value; becomes a BadRow once the place is known."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Problem(f"must be text, not {type(value).__name__}")
    return value


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        problem = _Problem(f"must be a whole number from {low} to {high}, not {value!r}")
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise problem
        if isinstance(value, str):
            value = text[1] if (text := _WHOLE.fullmatch(value)) else None
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError):
            raise problem from None
        if not low <= number <= high:
            raise problem
        return number

    return parse


def _number(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _Problem(f"must be a finite number, not {value!r}")
    return number


def _propensity(value: Any) -> float:
    number = _number(value)
    if not 0 < number <= 1:
        raise _Problem(f"must be above 0 and at most 1, not {value!r}")
    return number


def _flag(value: Any) -> bool:
    flag = (
        {True: True, False: False, "true": True, "false": False}.get(value) if isinstance(value, bool | str) else None
    )
    if flag is None:
        raise _Problem(f"must be true or false, not {value!r}")
    return flag


def _moment(value: Any) -> datetime:
    """ISO 8601; without an offset it is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise _Problem(f"must be an ISO 8601 time like 2026-01-31T09:30:00Z, not {value!r}") from None
    if not isinstance(value, datetime):
        raise _Problem(f"must be an ISO 8601 time, not {type(value).__name__}")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _attributes(value: Any) -> dict[str, list[str]]:
    """An object, or its JSON text; a text alone is a list of one."""
    try:
        parsed = value if isinstance(value, dict) else json.loads(_text(value))
    except ValueError as error:
        raise _Problem(f"must be an object or the JSON text of one: {error}") from None
    if not isinstance(parsed, dict):
        raise _Problem(f"must be an object or the JSON text of one, not of a {type(parsed).__name__}")
    lists = {name: [values] if isinstance(values, str) else values for name, values in parsed.items()}
    for name, values in lists.items():
        if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
            raise _Problem(f"attribute {name!r} must be a text or a list of texts")
    return lists


def _category(value: Any) -> list[str]:
    """A list of names, or these joined."""
    parts = value if isinstance(value, list) else _text(value).split(CATEGORY_SEPARATOR.strip())
    names = [_text(name).strip() for name in parts]
    if not all(names):
        raise _Problem(f"must be names joined by {CATEGORY_SEPARATOR!r}, none of them empty, not {value!r}")
    return names


def _enum(names: Mapping[str, int], prefix: str) -> Callable[[Any], int]:
    known = {name.removeprefix(prefix): number for name, number in names.items() if number}

    def parse(value: Any) -> int:
        number = known.get(value) if isinstance(value, str) else None
        if number is None:
            raise _Problem(f"must be one of {', '.join(known)}, not {value!r}")
        return number

    return parse


_EVENT_PREFIX, _SCENE_PREFIX = "EVENT_TYPE_", "SCENE_"
_UINT32, _UINT64, _INT64 = _integer(0, 2**32 - 1), _integer(0, 2**64 - 1), _integer(-(2**63), 2**63 - 1)
_MONEY: dict[str, Callable[[Any], Any]] = {"price": _number, "currency": _text}

# The columns of every table with the parser of each; the first ones, named in REQUIRED, must be in every row.
COLUMNS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "items": {
        "item_id": _text,
        "revision": _UINT64,
        "title": _text,
        "description": _text,
        "brand": _text,
        "category": _category,
        **_MONEY,
        "attributes": _attributes,
        "image_url": _text,
        "stock": _INT64,
        "visible": _flag,
        "created_at": _moment,
        "popularity": _number,
    },
    "shoppers": {"shopper_id": _text, "attributes": _attributes},
    "events": {
        "event_id": _text,
        "shopper_id": _text,
        "type": _enum(dict(types_pb2.EventType.items()), _EVENT_PREFIX),
        "time": _moment,
        "order": _INT64,
        "item_id": _text,
        "dwell_ms": _UINT64,
        "query": _text,
        "scene": _enum(dict(types_pb2.Scene.items()), _SCENE_PREFIX),
        "request_id": _text,
        "position": _UINT32,
        "quantity": _UINT32,
        **_MONEY,
    },
    "judgements": {"query": _text, "item_id": _text, "grade": _integer(0, MAX_GRADE), "language": _text},
    "impressions": {
        "request_id": _text,
        "item_id": _text,
        "position": _UINT32,
        "propensity": _propensity,
        "shopper_id": _text,
        "scene": _enum(dict(types_pb2.Scene.items()), _SCENE_PREFIX),
        "policy": _text,
        "generation": _text,
        "query": _text,
        "time": _moment,
        "score": _number,
        "stock": _integer(0, 2**63 - 1),
        "clicked": _flag,
        "carted": _flag,
        "purchased": _flag,
    },
}
REQUIRED: dict[str, tuple[str, ...]] = {
    "items": ("item_id",),
    "shoppers": ("shopper_id",),
    "events": ("event_id", "shopper_id", "type"),
    "judgements": ("query", "item_id", "grade"),
    "impressions": ("request_id", "item_id", "position", "propensity"),
}


def find_table(directory: Path, table: str) -> Path | None:
    """The file of `table` in a dataset directory, None where there is none. Raises DatasetError on two of them."""
    found = [directory / f"{table}{suffix}" for suffix in SUFFIXES if (directory / f"{table}{suffix}").is_file()]
    if len(found) > 1:
        raise DatasetError(f"{directory}: {table} is there twice: {', '.join(path.name for path in found)}")
    return found[0] if found else None


def read_items(path: str | Path, on_bad_row: OnBadRow | None = None) -> Iterator[types_pb2.Item]:
    """Every item of a dataset directory or of one items file, in file order.

    A bad row is given to `on_bad_row` and left out; without it, it is raised as BadRow.
    Raises DatasetError where there is no items table or it cannot be read.
    """
    return _read(path, "items", on_bad_row)


def read_shoppers(path: str | Path, on_bad_row: OnBadRow | None = None) -> Iterator[types_pb2.Shopper]:
    """Every shopper of a dataset directory or of one shoppers file. As read_items."""
    return _read(path, "shoppers", on_bad_row)


def read_events(path: str | Path, on_bad_row: OnBadRow | None = None) -> Iterator[types_pb2.Event]:
    """Every event of a dataset directory or of one events file. As read_items; without time it stays unset."""
    return _read(path, "events", on_bad_row)


def read_judgements(path: str | Path, on_bad_row: OnBadRow | None = None) -> Iterator[Judgement]:
    """Every judgement of a dataset directory or of one judgements file. As read_items."""
    return _read(path, "judgements", on_bad_row)


def read_impressions(path: str | Path, on_bad_row: OnBadRow | None = None) -> Iterator[Shown]:
    """Every shown item of a dataset directory or of one impressions file. As read_items."""
    return _read(path, "impressions", on_bad_row)


def parse_row(table: str, row: Mapping[Any, Any], file: str, number: int) -> Any:
    """One flat row, values typed or as text, as Item, Shopper, Event, Judgement or Shown by `table`. Raises BadRow."""
    return _BUILDERS[table](_typed(row, file, number, table))


def item_row(item: types_pb2.Item) -> dict[str, Any]:
    """The flat row of an item: only the columns that are set, `attributes` as JSON text, `created_at` as ISO 8601."""
    row: dict[str, Any] = {"item_id": item.id}
    for column in ("revision", "title", "description", "brand", "currency", "image_url"):
        if value := getattr(item, column):
            row[column] = value
    present = {field.name for field, _ in item.ListFields()}
    for column in ("price", "stock", "visible", "popularity"):
        if column in present:
            row[column] = getattr(item, column)
    if item.category_path:
        row["category"] = CATEGORY_SEPARATOR.join(item.category_path)
    if item.attributes:
        row["attributes"] = _attribute_text(item.attributes)
    if item.HasField("created_at"):
        row["created_at"] = moment_text(item.created_at.ToDatetime(UTC))
    return row


def shopper_row(shopper: types_pb2.Shopper) -> dict[str, Any]:
    """The flat row of a shopper."""
    row: dict[str, Any] = {"shopper_id": shopper.id}
    if shopper.attributes:
        row["attributes"] = _attribute_text(shopper.attributes)
    return row


def event_row(event: types_pb2.Event) -> dict[str, Any]:
    """The flat row of an event: only the columns that are set."""
    row: dict[str, Any] = {
        "event_id": event.event_id,
        "shopper_id": event.shopper_id,
        "type": types_pb2.EventType.Name(event.type).removeprefix(_EVENT_PREFIX),
    }
    for column in ("item_id", "query", "request_id", "currency"):
        if value := getattr(event, column):
            row[column] = value
    present = {field.name for field, _ in event.ListFields()}
    for column in ("dwell_ms", "position", "quantity", "price"):
        if column in present:
            row[column] = getattr(event, column)
    if event.scene:
        row["scene"] = types_pb2.Scene.Name(event.scene).removeprefix(_SCENE_PREFIX)
    if event.HasField("time"):
        row["time"] = moment_text(event.time.ToDatetime(UTC))
    return row


def moment_text(moment: datetime) -> str:
    """ISO 8601 in UTC, as the dataset writes it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _attribute_text(attributes: Iterable[types_pb2.Attribute]) -> str:
    return json.dumps({one.name: list(one.values) for one in attributes}, ensure_ascii=False)


def _item(row: dict[str, Any]) -> types_pb2.Item:
    created_at = row.pop("created_at", None)
    item = types_pb2.Item(
        id=row.pop("item_id"),
        category_path=row.pop("category", ()),
        attributes=_attribute_messages(row),
        **row,
    )
    if created_at is not None:
        item.created_at.CopyFrom(_timestamp(created_at))
    return item


def _shopper(row: dict[str, Any]) -> types_pb2.Shopper:
    return types_pb2.Shopper(id=row["shopper_id"], attributes=_attribute_messages(row))


def _event(row: dict[str, Any]) -> types_pb2.Event:
    row.pop("order", None)
    time = row.pop("time", None)
    event = types_pb2.Event(**row)
    if time is not None:
        event.time.CopyFrom(_timestamp(time))
    return event


_BUILDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "items": _item,
    "shoppers": _shopper,
    "events": _event,
    "judgements": lambda row: Judgement(**row),
    "impressions": lambda row: Shown(**row),
}


def _attribute_messages(row: dict[str, Any]) -> list[types_pb2.Attribute]:
    return [types_pb2.Attribute(name=name, values=values) for name, values in row.pop("attributes", {}).items()]


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _read(path: str | Path, table: str, on_bad_row: OnBadRow | None) -> Iterator[Any]:
    file = Path(path)
    if file.is_dir():
        found = find_table(file, table)
        if found is None:
            raise DatasetError(f"{file}: no {table} table ({', '.join(table + suffix for suffix in SUFFIXES)})")
        file = found
    if not file.is_file():
        raise DatasetError(f"{file}: no such file or directory")
    rows = _READERS.get(_suffix(file))
    if rows is None:
        raise DatasetError(f"{file}: unknown format; known: {', '.join(SUFFIXES)}")
    for number, row in enumerate(rows(file, table), start=1):
        try:
            if isinstance(row, BadRow):
                raise row
            yield parse_row(table, row, file.name, number)
        except BadRow as bad:
            if on_bad_row is None:
                raise
            on_bad_row(bad)


def _suffix(file: Path) -> str:
    return "".join(file.suffixes[-2:]) if file.suffix == ".gz" else file.suffix


def _typed(row: Mapping[Any, Any], file: str, number: int, table: str) -> dict[str, Any]:
    """One raw row as typed values, without what is absent (null, or an empty text)."""
    parsers = COLUMNS[table]
    parsed = {}
    for column, value in row.items():
        if value is None or value == "":
            continue
        if column not in parsers:
            raise BadRow(file, number, str(column), f"unknown column; known: {', '.join(parsers)}")
        try:
            parsed[column] = parsers[column](value)
        except _Problem as problem:
            raise BadRow(file, number, column, str(problem)) from None
    for column in REQUIRED[table]:
        if column not in parsed:
            raise BadRow(file, number, column, "must be given")
    return parsed


def _check_header(file: Path, table: str, columns: Iterable[str]) -> None:
    columns = list(columns)
    for column in columns:
        if column not in COLUMNS[table]:
            raise DatasetError(f"{file.name}: unknown column {column!r}; known: {', '.join(COLUMNS[table])}")
        if columns.count(column) > 1:
            raise DatasetError(f"{file.name}: column {column!r} is there twice")
    for column in REQUIRED[table]:
        if column not in columns:
            raise DatasetError(f"{file.name}: column {column!r} is missing")


@contextmanager
def _open_text(file: Path) -> Iterator[IO[str]]:
    """UTF-8 text, gzipped or not, with a broken file told by its name."""
    opener: Callable[..., IO[str]] = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rt", encoding="utf-8-sig", newline="") as lines:
        try:
            yield lines
        except UnicodeDecodeError as error:
            raise DatasetError(f"{file.name}: is not UTF-8 ({error.reason})") from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DatasetError(f"{file.name}: is not a whole gzip file ({error})") from error


def _csv_rows(file: Path, table: str) -> Iterator[Mapping[Any, Any] | BadRow]:
    with _open_text(file) as lines:
        reader = csv.reader(lines, strict=True)
        try:
            header: list[str] = next(reader, [])
            _check_header(file, table, header)
            for number, fields in enumerate((fields for fields in reader if fields), start=1):
                if len(fields) == len(header):
                    yield dict(zip(header, fields, strict=True))
                else:
                    yield BadRow(file.name, number, "", f"has {len(fields)} fields, the header has {len(header)}")
        except csv.Error as error:
            raise DatasetError(f"{file.name}, line {reader.line_num}: {error}") from error


def _jsonl_rows(file: Path, table: str) -> Iterator[Mapping[Any, Any] | BadRow]:
    with _open_text(file) as lines:
        for number, line in enumerate((line for line in lines if line.strip()), start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                yield BadRow(file.name, number, "", f"is not JSON: {error}")
                continue
            yield row if isinstance(row, dict) else BadRow(file.name, number, "", "is not a JSON object")


def _parquet_rows(file: Path, table: str) -> Iterator[Mapping[Any, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DatasetError(
            f"{file.name}: reading Parquet needs pyarrow (pip install pyarrow); CSV and JSONL need nothing"
        ) from None
    try:
        with parquet.ParquetFile(file) as source:
            _check_header(file, table, source.schema_arrow.names)
            for batch in source.iter_batches(batch_size=4096):
                yield from batch.to_pylist()
    except ArrowException as error:
        raise DatasetError(f"{file.name}: is not a readable Parquet file ({error})") from error


_READERS: dict[str, Callable[[Path, str], Iterator[Mapping[Any, Any] | BadRow]]] = {
    ".parquet": _parquet_rows,
    ".jsonl": _jsonl_rows,
    ".jsonl.gz": _jsonl_rows,
    ".csv": _csv_rows,
    ".csv.gz": _csv_rows,
}
