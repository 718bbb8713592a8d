"""Any CSV files as a canonical dataset, by a mapping file in TOML (docs/data.md describes it)."""

import csv
import gzip
import json
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from services.domain.checks import Invalid, check_item
from souk.dataset import COLUMNS, REQUIRED, BadRow, DatasetError, event_row, item_row, parse_row, shopper_row
from training.data.canonical import DatasetWriter, Info

_BATCH = 5000
_TABLE_KEYS = {
    "file",
    "delimiter",
    "encoding",
    "columns",
    "constants",
    "attributes",
    "values",
    "category_separator",
    "value_separator",
    "decimal_comma",
    "time_format",
}
# What csv holds behind the last column of the header.
_MORE = "\0"


def load(source: Path, out: Path, mapping: Path) -> None:
    """Load the CSV files of `source` into the dataset directory `out` as `mapping` says.

    Raises DatasetError naming what is wrong in the mapping or a file; bad rows are left out, counted and exemplified.
    """
    try:
        plan = tomllib.loads(mapping.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{mapping}: {error}") from error
    dataset = plan.pop("dataset", None)
    if not isinstance(dataset, dict) or set(dataset) != {"name", "version", "origin", "licence"}:
        raise DatasetError(f"{mapping}: [dataset] must give name, version, origin and licence")
    _check_plan(mapping, plan)
    name, version, origin, licence = (str(dataset[key]) for key in ("name", "version", "origin", "licence"))
    with DatasetWriter(out, Info(name, version, origin, licence)) as writer:
        items = _load_table(source, "items", plan["items"], writer, None)
        for table in ("shoppers", "events", "judgements"):
            if table in plan:
                _load_table(source, table, plan[table], writer, items)


def _check_plan(mapping: Path, plan: dict[str, Any]) -> None:
    """Raises DatasetError on unknown or missing tables, keys and fields before any row is read."""
    if "items" not in plan:
        raise DatasetError(f"{mapping}: [items] is missing")
    for table, part in plan.items():
        if table not in COLUMNS:
            raise DatasetError(f"{mapping}: [{table}] is unknown; known: dataset, {', '.join(COLUMNS)}")
        if unknown := set(part) - _TABLE_KEYS:
            raise DatasetError(f"{mapping}: [{table}] has unknown keys {', '.join(sorted(unknown))}")
        if len(str(part.get("delimiter", ","))) != 1:
            raise DatasetError(f"{mapping}: [{table}] delimiter must be one character, not {part['delimiter']!r}")
        if "file" not in part:
            raise DatasetError(f"{mapping}: [{table}] file is missing")
        fields = {**part.get("columns", {}), **part.get("constants", {})}
        for field in (*fields, *part.get("values", {})):
            if field not in COLUMNS[table]:
                raise DatasetError(f"{mapping}: [{table}] {field} is unknown; known: {', '.join(COLUMNS[table])}")
        for field in REQUIRED[table]:
            if field not in fields and field != "event_id":
                raise DatasetError(f"{mapping}: [{table}] {field} is missing; name its column or give a constant")


def _load_table(
    source: Path, table: str, part: dict[str, Any], writer: DatasetWriter, items: set[str] | None
) -> set[str]:
    """Write one table; returns its keys. `items` are the ids of the catalogue, once that is known."""
    file = source / part["file"]
    seen: set[str] = set()
    batch: list[dict[str, Any]] = []
    for number, raw in enumerate(_rows(file, part), start=1):
        if any(raw.get(_MORE, ())):
            # A separator within a text that is not quoted: every value behind it stands in another's place.
            writer.drop(table, "row: more values than the header has columns", 1)
            continue
        try:
            row = _checked(_flat(raw, table, part, number), table, file.name, number)
        except BadRow as bad:
            writer.drop(table, f"{bad.column or 'row'}: {_kind(bad.problem)}", 1)
            continue
        except Invalid as invalid:
            writer.drop(table, f"{invalid.field}: over its limit or malformed", 1)
            continue
        key = json.dumps([row["query"], row["item_id"]]) if table == "judgements" else row[f"{table[:-1]}_id"]
        if key in seen:
            writer.drop(table, "seen before", 1)
        elif items is not None and row.get("item_id") is not None and row["item_id"] not in items:
            writer.drop(table, "item_id: not in the catalogue", 1)
        else:
            seen.add(key)
            batch.append(row)
        if len(batch) == _BATCH:
            writer.write(table, batch)
            batch = []
    if not seen:
        raise DatasetError(f"{file}: no row of {table} could be used: {writer.dropped.get(table, 'it has none')}")
    if batch:
        writer.write(table, batch)
    return seen


def _checked(row: dict[str, Any], table: str, file: str, number: int) -> dict[str, Any]:
    """The flat row with typed values. Raises BadRow, Invalid."""
    message = parse_row(table, row, file, number)
    if table == "items":
        check_item(message, "item")
        return item_row(message)
    if table == "shoppers":
        return shopper_row(message)
    if table == "events":
        order = {"order": int(row["order"])} if "order" in row else {}
        return event_row(message) | order
    return asdict(message)


def _rows(file: Path, part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of a CSV file by column, and below `_MORE` a list of what is behind the last one.

    Raises DatasetError where it cannot be read or lacks a named column.
    """
    opener: Any = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding=part.get("encoding", "utf-8-sig"), newline="") as lines:
            reader = csv.DictReader(lines, delimiter=part.get("delimiter", ","), restkey=_MORE, restval="")
            wanted = [*part.get("columns", {}).values(), *part.get("attributes", {}).values()]
            for column in wanted:
                if column not in (reader.fieldnames or ()):
                    raise DatasetError(f"{file}: no column {column!r}; it has {', '.join(reader.fieldnames or ())}")
            yield from reader
    except (OSError, UnicodeError, LookupError, csv.Error) as error:
        raise DatasetError(f"{file}: {error}") from error


def _flat(raw: dict[str, Any], table: str, part: dict[str, Any], number: int) -> dict[str, Any]:
    """One source row as a flat row of the canonical schema, values still text."""
    row: dict[str, Any] = dict(part.get("constants", {}))
    for field, column in part.get("columns", {}).items():
        if text := raw[column].strip():
            row[field] = part.get("values", {}).get(field, {}).get(text, text)
    if part.get("decimal_comma", False):
        for field in ("price", "popularity"):
            if isinstance(row.get(field), str):
                row[field] = row[field].replace(".", "").replace(",", ".")
    for field in ("time", "created_at"):
        if "time_format" in part and isinstance(row.get(field), str):
            row[field] = _moment(row[field], str(part["time_format"]))
    if isinstance(row.get("category"), str):
        names = [name.strip().replace(">", "/") for name in row["category"].split(part.get("category_separator", ">"))]
        row["category"] = " > ".join(name for name in names if name)
    if named := _attributes(raw, part):
        row["attributes"] = json.dumps(named, ensure_ascii=False)
    if table == "events" and "event_id" not in row:
        row["event_id"] = f"{part['file']}:{number}"
    if table == "items":
        row.setdefault("revision", 1)
    return row


def _moment(text: str, time_format: str) -> str:
    """As ISO 8601; a text of another form stays as it is and is told as one that is not."""
    try:
        return datetime.strptime(text, time_format).isoformat()
    except ValueError:
        return text


def _attributes(raw: dict[str, Any], part: dict[str, Any]) -> dict[str, list[str]]:
    separator = part.get("value_separator")
    named = {}
    for name, column in part.get("attributes", {}).items():
        values = raw[column].split(separator) if separator else [raw[column]]
        if texts := list(dict.fromkeys(value.strip() for value in values if value.strip())):
            named[name] = texts
    return named


def _kind(problem: str) -> str:
    """The problem without the value, so that rows with the same fault count together."""
    return problem.split(", not ", 1)[0]
