"""What `train ranker --sequences` reads: sequences, the items' table, attributes. Every refusal names file and line."""

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from souk.types.v1 import types_pb2
from training.data.sequences import category, cut
from training.ranker.log import Ints

MIN_ITEMS = 3
"""Of a shopper: one to learn from, one to choose by, one to test on."""
MAX_ID = 128
"""Characters of an id."""
MAX_ATTRIBUTES = 256
"""Of one item."""


class FileError(ValueError):
    """A file that cannot be read as it is; the message names the file, the line and the limit."""


@dataclass(frozen=True)
class Sequences:
    """Who met what in which order. Items and shoppers are numbered by a permutation drawn by seed."""

    item_ids: list[str]
    item: Ints
    """Of each event, ordered by shopper, then as in the file: (events,)."""
    starts: Ints
    """First event of each shopper, and the number of events: (shoppers + 1,)."""

    @property
    def shoppers(self) -> int:
        """How many there are."""
        return len(self.starts) - 1

    @property
    def owner(self) -> Ints:
        """The shopper of each event."""
        return np.repeat(np.arange(self.shoppers), np.diff(self.starts))

    def before(self, back: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Events that are not among the last `back` of their shopper: 2 leaves what may be learned, 1 what a test may
        know."""
        mask: np.ndarray[tuple[int], np.dtype[np.bool_]] = (
            np.arange(len(self.item)) < self.starts[self.owner + 1] - back
        )
        return mask

    def repeats(self) -> bool:
        """Whether anybody meets an item again in what may be learned."""
        mask = self.before(2)
        pairs = self.owner[mask] * len(self.item_ids) + self.item[mask]
        return len(np.unique(pairs)) < len(pairs)


def read_sequences(path: Path, seed: int) -> Sequences:
    """Lines of a shopper's id, then item ids in order, separated by white space. Raises FileError, OSError."""
    shoppers: dict[str, list[str]] = {}
    with path.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, 1):
                where = f"{path}, line {number}"
                if not line.strip():
                    raise FileError(f"{where}: is empty; it must hold a shopper's id and at least {MIN_ITEMS} item ids")
                shopper, *items = line.split()
                if len(items) < MIN_ITEMS:
                    raise FileError(
                        f"{where}: shopper {shopper[:MAX_ID]} has {len(items)} items; the limit is {MIN_ITEMS} at "
                        "least: one to learn from, one to choose by, one to test on. Leave shorter ones out"
                    )
                if max(map(len, (shopper, *items))) > MAX_ID:
                    raise FileError(f"{where}: an id of more than {MAX_ID} characters")
                if shopper in shoppers:
                    raise FileError(f"{where}: shopper {shopper} stands in an earlier line; one line a shopper")
                shoppers[shopper] = items
        except UnicodeDecodeError as error:
            raise FileError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start})") from None
    if len(shoppers) < 2:
        raise FileError(f"{path}: holds {len(shoppers)} shoppers; the limit is 2 at least")
    if max(map(len, shoppers.values())) == MIN_ITEMS:
        raise FileError(f"{path}: no shopper has more than {MIN_ITEMS} items, so nothing shows what follows what")
    item_ids = _permuted({item for items in shoppers.values() for item in items}, seed)
    number_of = {item: number for number, item in enumerate(item_ids)}
    ordered = [shoppers[shopper] for shopper in _permuted(shoppers, seed + 1)]
    events = np.fromiter((number_of[item] for items in ordered for item in items), np.int64)
    return Sequences(item_ids, events, np.concatenate([[0], np.cumsum([len(items) for items in ordered])]))


def read_items(path: Path) -> dict[str, types_pb2.Item]:
    """A CSV with a header: `item_id` (else the first column is the id), `title`, and if there `brand`, `price`,
    `categories` (separated by |), `description`. Raises FileError, OSError."""
    found: dict[str, types_pb2.Item] = {}
    with path.open(encoding="utf-8", newline="") as lines:
        try:
            rows = csv.DictReader(lines, strict=True)
            columns = list(rows.fieldnames or ())
            if "title" not in columns:
                raise FileError(f"{path}, line 1: no column title; there are {', '.join(columns) or 'none'}")
            key = "item_id" if "item_id" in columns else columns[0]
            for row in rows:
                where = f"{path}, line {rows.line_num}"
                if None in row or None in row.values():
                    raise FileError(f"{where}: must have {len(columns)} fields, as line 1 has")
                if not row[key] or len(row[key]) > MAX_ID:
                    raise FileError(f"{where}, {key}: must have 1 to {MAX_ID} characters")
                if row[key] in found:
                    raise FileError(f"{where}, {key}: {row[key]} stands in an earlier line")
                found[row[key]] = _item(row[key], row, where)
        except (csv.Error, UnicodeDecodeError) as error:
            raise FileError(f"{path}: {error}") from None
    return found


def read_attributes(path: Path) -> dict[str, list[str]]:
    """A JSON object of item id to a list of attributes, numbers or strings, as S3-Rec (Zhou et al. 2020) publishes
    them. Raises FileError, OSError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileError(f"{path}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise FileError(f"{path}: must be an object of item id to list of attributes")
    found = {}
    for item, given in values.items():
        if not isinstance(given, list) or not all(isinstance(one, int | str) for one in given):
            raise FileError(f"{path}, item {item}: must be a list of numbers or strings")
        if len(given) > MAX_ATTRIBUTES:
            raise FileError(f"{path}, item {item}: {len(given)} attributes; the limit is {MAX_ATTRIBUTES}")
        found[item] = [str(one) for one in given]
    return found


def attributes_of(item: types_pb2.Item) -> list[str]:
    """Brand, each level of the category path, and the price in bands of a third up."""
    found = [f"brand {item.brand}"] if item.brand else []
    found += ["category " + ">".join(item.category_path[: depth + 1]) for depth in range(len(item.category_path))]
    if item.price > 0:
        found.append(f"price {round(math.log(item.price) / math.log(4 / 3))}")
    return found


def _item(item_id: str, row: dict[str, str], where: str) -> types_pb2.Item:
    try:
        price = float(row.get("price") or 0)
    except ValueError:
        raise FileError(f"{where}, price: {row['price'][:40]!r} is no number") from None
    path = category((row.get("categories") or "").split("|"))
    return types_pb2.Item(
        id=item_id,
        title=cut(row["title"], 1024),
        description=cut(row.get("description") or "", 16_384),
        brand=cut(row.get("brand") or "", 256),
        category_path=path.split(" > ") if path else (),
        price=price,
    )


def _permuted(ids: Iterable[str], seed: int) -> list[str]:
    """The permutation is of the sorted ids: neither they nor their order in the file say anything."""
    ordered = sorted(ids)
    return [ordered[place] for place in np.random.default_rng(seed).permutation(len(ordered)).tolist()]
