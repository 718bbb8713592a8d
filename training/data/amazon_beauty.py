"""Amazon Beauty 2014 (McAuley et al. 2015), 5-core: the order of each shopper's purchases, without time."""

import csv
from pathlib import Path
from typing import Any

from training.data.canonical import Info
from training.data.sequences import category, cut, write_sequences


def load(source: Path, out: Path, seed: int = 7) -> None:
    """Load `source` into the dataset directory `out`. Raises OSError, DatasetError."""
    items: dict[str, dict[str, Any]] = {}
    with (source / "items.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            price = float(row["price"]) if row["price"] else None
            items[row["s3rec_id"]] = {
                "title": cut(row["title"], 1024),
                "brand": cut(row["brand"], 256) or None,
                "category": category(row["categories"].split("|")),
                "price": price,
                "currency": None if price is None else "USD",
            }
    sequences = {}
    for line in (source / "sequences.txt").read_text().splitlines():
        shopper, *bought = line.split()
        sequences[shopper] = bought
    info = Info(
        name="amazon-beauty",
        version="1",
        origin="Amazon reviews 2014, Beauty, 5-core",
        licence="research only",
        notes=("events have an order, no time", "ids are permuted by seed: the source numbers by first appearance"),
    )
    write_sequences(out, info, items, sequences, seed)
