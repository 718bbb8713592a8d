"""Amazon Industrial and Scientific 2018 (Ni, Li, McAuley 2019): the order of each shopper's purchases, without time."""

import gzip
import json
from pathlib import Path

from training.data.canonical import Info
from training.data.sequences import category, cut, write_sequences


def load(source: Path, out: Path, seed: int = 7) -> None:
    """Load `source` into the dataset directory `out`. Raises OSError, DatasetError."""
    with gzip.open(source / "Scientific.item.json.gz", "rt", encoding="utf-8") as text:
        given = json.load(text)
    items = {
        old: {
            "title": cut(item["title"], 1024),
            "description": cut(item["description"], 16_384) or None,
            "brand": cut(item["brand"], 256) or None,
            "category": category(item["categories"].split(",")),
        }
        for old, item in given.items()
    }
    inter = json.loads((source / "Scientific.inter.json").read_text())
    sequences = {shopper: [str(item) for item in bought] for shopper, bought in inter.items()}
    info = Info(
        name="amazon-scientific",
        version="1",
        origin="Amazon reviews 2018, Industrial and Scientific",
        licence="research only",
        notes=("events have an order, no time", "ids are permuted by seed: the source numbers by first appearance"),
    )
    write_sequences(out, info, items, sequences, seed)
