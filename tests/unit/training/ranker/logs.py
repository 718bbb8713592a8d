"""Small logs for tests of the ranker's training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from souk.types.v1 import types_pb2
from training.data.canonical import Dataset, DatasetWriter, Info, open_dataset
from training.ranker.log import Log

VIEW, CART, PURCHASE = types_pb2.EVENT_TYPE_VIEW, types_pb2.EVENT_TYPE_CART, types_pb2.EVENT_TYPE_PURCHASE
SKIP = types_pb2.EVENT_TYPE_SKIP
HOUR = 3600.0


def log(rows: Sequence[tuple[int, int, int, float]], items: int = 10) -> Log:
    """Of (shopper, item, type, hours), shoppers in order; a pause of over half an hour ends a session."""
    columns: list[NDArray[Any]] = [np.array(column) for column in zip(*rows, strict=True)]
    shopper, item, kind, hours = columns
    new = np.ones(len(rows), bool)
    new[1:] = (np.diff(shopper) != 0) | (np.diff(hours) > 0.5)
    count = int(shopper.max()) + 1
    return Log(
        [f"i{number}" for number in range(items)],
        [f"s{number}" for number in range(count)],
        True,
        shopper,
        item,
        kind,
        hours * HOUR,
        np.cumsum(new) - 1,
        np.zeros(len(rows), np.int64),
        np.array([""] * len(rows), dtype=object),
    )


def tastes(shoppers: int = 120, items: int = 60, groups: int = 6, seed: int = 0) -> tuple[Log, NDArray[np.float32]]:
    """Shoppers who like one group of items and walk it in order, and content vectors that tell the groups apart."""
    rng = np.random.default_rng(seed)
    rows = []
    size = items // groups
    for shopper in range(shoppers):
        group, at = int(rng.integers(groups)), int(rng.integers(size))
        for step in range(12):
            rows.append((shopper, group * size + (at + step) % size, PURCHASE, 24.0 * step + shopper * 0.01))
    content = np.eye(groups, 16, dtype=np.float32)[np.arange(items) // size]
    content = content + 0.2 * rng.standard_normal(content.shape).astype(np.float32)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    return log(rows, items), content


def dataset(path: Path, items: list[str], events: list[dict[str, Any]]) -> Dataset:
    """A dataset of items without anything but an id."""
    with DatasetWriter(path, Info("toy", "1", "here", "none")) as writer:
        writer.write("items", [{"item_id": item} for item in items])
        writer.write("events", events)
    return open_dataset(path)
