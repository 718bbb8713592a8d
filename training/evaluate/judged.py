"""Products with judged queries: of a canonical dataset, or of two files. Every bad row is refused, not passed over:
what is left out of an evaluation changes its result."""

import csv
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from services.domain.checks import Invalid, check_item, check_text
from souk.dataset import BadRow, DatasetError, Judgement, find_table, parse_row, read_items, read_judgements
from souk.types.v1 import types_pb2
from training.data.chorus_icecat import item_of

# Columns of judgements as the Chorus ratings call them.
_COLUMNS = {"docid": "item_id", "rating": "grade"}
# Columns of products as Chorus/Icecat has them.
_CHORUS = re.compile(r"id|name|title|ean|short_description|supplier|price|date_released|img_\w+|attr_[tnb]_.+")
_MAX_QUERY_BYTES = 512


@dataclass(frozen=True)
class Judged:
    """A catalogue and the grades by item of every query that has an item graded above 0.

    `without_relevant`: how many queries have none, and are left out. `unread`: columns of the products that nothing
    reads, in the format of Chorus/Icecat, which has many.
    """

    name: str
    items: list[types_pb2.Item]
    grades: dict[str, dict[str, int]]
    without_relevant: int
    unread: tuple[str, ...] = ()


def read_dataset(path: Path) -> Judged:
    """Items and judgements of a canonical dataset directory. Raises DatasetError, naming file, row and column."""
    items, judgements = find_table(path, "items"), find_table(path, "judgements")
    if items is None or judgements is None:
        raise DatasetError(f"{path}: no {'items' if items is None else 'judgements'} table")
    return _judged(path.name, items.name, read_items(items), judgements.name, read_judgements(judgements))


def read_files(products: Path, judgements: Path) -> Judged:
    """Products and judgements of two files. Raises DatasetError, naming file, row and column.

    Products are items as docs/data.md describes them (CSV, JSONL, Parquet), or JSONL as Chorus/Icecat has it.
    Judgements (CSV or JSONL, also gzipped) have the columns query, item_id (or docid) and grade (or rating).
    """
    for file in (products, judgements):
        if not file.is_file():
            raise DatasetError(f"{file}: no such file")
    unread: dict[str, None] = {}
    items = _chorus_items(products, unread) if _is_chorus(products) else read_items(products)
    name = products.name.split(".")[0]
    judged = _judged(name, products.name, items, judgements.name, _judgements(judgements))
    return replace(judged, unread=tuple(unread))


def _judged(
    name: str, items_file: str, items: Iterable[types_pb2.Item], judgements_file: str, judgements: Iterable[Judgement]
) -> Judged:
    held = _checked(items_file, items)
    known = {item.id for item in held}
    grades: dict[str, dict[str, int]] = defaultdict(dict)
    for number, one in enumerate(judgements, 1):
        if one.item_id not in known:
            raise BadRow(judgements_file, number, "item_id", f"{one.item_id!r} is not among the products")
        try:
            check_text(one.query, "query", _MAX_QUERY_BYTES)
        except Invalid as invalid:
            raise BadRow(judgements_file, number, "query", invalid.problem) from None
        if grades[one.query].setdefault(one.item_id, one.grade) != one.grade:
            before = grades[one.query][one.item_id]
            raise BadRow(judgements_file, number, "grade", f"{one.grade}, but the same pair was graded {before} before")
    relevant = {query: found for query, found in grades.items() if any(found.values())}
    if not relevant:
        raise DatasetError(f"{judgements_file}: no query has an item graded above 0")
    return Judged(name, held, relevant, len(grades) - len(relevant))


def _checked(file: str, items: Iterable[types_pb2.Item]) -> list[types_pb2.Item]:
    """The items, each with a revision, within the limits of the contract, no id twice."""
    held: dict[str, types_pb2.Item] = {}
    for number, item in enumerate(items, 1):
        try:
            check_item(item, "item")
        except Invalid as invalid:
            raise BadRow(file, number, invalid.field.removeprefix("item."), invalid.problem) from None
        if item.id in held:
            raise BadRow(file, number, "item_id", f"{item.id!r} stands here twice")
        # With one, a write that is repeated changes nothing.
        item.revision = item.revision or 1
        held[item.id] = item
    return list(held.values())


def _is_chorus(file: Path) -> bool:
    """Whether the first row names its product as Chorus/Icecat does."""
    if ".jsonl" not in file.suffixes:
        return False
    _, row = next(_rows(file), (0, {}))
    return "id" in row and "item_id" not in row


def _chorus_items(file: Path, unread: dict[str, None]) -> Iterator[types_pb2.Item]:
    for number, row in _rows(file):
        unread.update(dict.fromkeys(name for name in row if not _CHORUS.fullmatch(name)))
        for column in ("id", "title"):
            if not isinstance(row.get(column), str) or not row[column]:
                raise BadRow(file.name, number, column, "must be given, as text")
        try:
            yield item_of(row, lambda reason: None)
        except (TypeError, ValueError) as error:
            raise BadRow(file.name, number, "", str(error)) from None


def _judgements(file: Path) -> Iterator[Judgement]:
    for number, row in _rows(file):
        yield parse_row(
            "judgements", {_COLUMNS.get(name, name): value for name, value in row.items()}, file.name, number
        )


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a CSV or JSONL file with their number, from 1."""
    suffixes = file.suffixes
    rows = _csv_rows if ".csv" in suffixes else _jsonl_rows if ".jsonl" in suffixes else None
    if rows is None:
        raise DatasetError(f"{file}: unknown format; known: .csv and .jsonl, also with .gz")
    opener: Callable[..., IO[str]] = gzip.open if suffixes[-1] == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8-sig", newline="") as lines:
            yield from enumerate(rows(file, lines), 1)
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, csv.Error) as error:
        raise DatasetError(f"{file.name}: cannot be read ({error})") from None


def _csv_rows(file: Path, lines: IO[str]) -> Iterator[dict[str, Any]]:
    reader = csv.DictReader(lines, restkey="beyond the header", strict=True)
    yield from reader


def _jsonl_rows(file: Path, lines: IO[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate((line for line in lines if line.strip()), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadRow(file.name, number, "", f"is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise BadRow(file.name, number, "", "is not a JSON object")
        yield row
