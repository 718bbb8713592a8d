"""Chorus/Icecat, an electronics catalogue with graded queries, as a canonical dataset."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.domain.checks import Invalid, check_item
from souk.dataset import item_row
from souk.types.v1 import types_pb2
from training.data.canonical import DatasetWriter, Info

_MAX_ATTRIBUTES = 64
_MAX_VALUE_BYTES = 256
_MAX_NAME_BYTES = 64
_MAX_VALUES = 32
_BATCH = 2000


def load(source: Path, out: Path) -> None:
    """Load `source` into the dataset directory `out`. Raises FileNotFoundError, DatasetError."""
    info = Info(
        name="chorus-icecat",
        version="1",
        origin="Chorus product data set from Open Icecat, with the Broad Query Set ratings",
        licence="Apache-2.0 (judgements); Open Content License of Icecat (products)",
        notes=(
            "brand is the supplier, category the product type where there is one",
            "prices are in cents of a currency that the source does not name: taken as US dollars",
        ),
    )
    products, ratings = source / "products.jsonl.gz", source / "Broad_Query_Set_rated.csv"
    for path in (products, ratings):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
    with DatasetWriter(out, info) as writer:
        known = _load_products(products, writer)
        _load_ratings(ratings, known, writer)


def _load_products(path: Path, writer: DatasetWriter) -> set[str]:
    known: set[str] = set()
    batch: list[dict[str, Any]] = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            item = item_of(json.loads(line), lambda reason: writer.drop("attributes", reason, 1))
            try:
                check_item(item, "item")
            except Invalid as invalid:
                writer.drop("items", f"{invalid.field}: over its limit or malformed", 1)
                continue
            if item.id in known:
                writer.drop("items", "id seen before", 1)
                continue
            known.add(item.id)
            batch.append(item_row(item))
            if len(batch) == _BATCH:
                writer.write("items", batch)
                batch = []
    if batch:
        writer.write("items", batch)
    return known


def item_of(product: dict[str, Any], drop: Callable[[str], None]) -> types_pb2.Item:
    """The item of one row of the products file; `drop` is told why an attribute was left out.

    Only id and title must be there. Raises TypeError or ValueError where a value is of another type than in the source.
    """
    item = types_pb2.Item(
        id=product["id"],
        revision=1,
        title=product["title"],
        description=product.get("short_description") or "",
        brand=product.get("supplier") or "",
        image_url=product.get("img_high") or "",
    )
    if product.get("price") is not None:
        item.price, item.currency = product["price"] / 100, "USD"
    if product.get("date_released"):
        item.created_at.FromJsonString(product["date_released"])
    kind = str(product.get("attr_t_product_type", "")).replace(">", "/").strip()
    # One product type in the source is a number, which names nothing.
    if kind and not kind.isdigit():
        item.category_path.append(kind)
    # Where there are too many, yes-or-no properties go first, then numbers.
    kinds = ("attr_t_", "attr_n_", "attr_b_")
    named = [_attribute(name, product[name]) for kind in kinds for name in product if name.startswith(kind)]
    seen: set[str] = set()
    codes = [("model", product.get("name") or ""), ("ean", (product.get("ean") or [""])[0])]
    for name, text in [*codes, *named]:
        values = _values(text)
        if not values or len(name.encode()) > _MAX_NAME_BYTES:
            drop("empty, or a name or value over its limit")
        elif len(seen) == _MAX_ATTRIBUTES:
            drop("beyond the 64 of an item")
        elif name in seen:
            drop("name seen before in the item")
        else:
            seen.add(name)
            item.attributes.add(name=name, values=values)
    return item


def _values(text: str) -> list[str]:
    """The text as one value, or, where it is too long for one, as the values of the list that it is."""
    parts = [text] if len(text.encode()) <= _MAX_VALUE_BYTES else [part.strip() for part in text.split(",")]
    return [part for part in parts if 0 < len(part.encode()) <= _MAX_VALUE_BYTES][:_MAX_VALUES]


def _attribute(name: str, value: Any) -> tuple[str, str]:
    """Name without the type prefix, value as text: whole numbers without a point, truth as yes and no."""
    words = name.split("_", 2)[2].strip("_").replace("__", " ").replace("_", " ")
    if isinstance(value, bool):
        return words, "yes" if value else "no"
    return words, f"{value:g}" if isinstance(value, float) else str(value).strip()


def _load_ratings(path: Path, known: set[str], writer: DatasetWriter) -> None:
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            key = (row["query"], row["docid"])
            if row["docid"] not in known:
                writer.drop("judgements", "item is not in the catalogue", 1)
            elif key in rows:
                writer.drop("judgements", "pair judged before", 1)
            else:
                grade = int(row["rating"])
                rows[key] = {"query": row["query"], "item_id": row["docid"], "grade": grade, "language": "en"}
    writer.write("judgements", list(rows.values()))
