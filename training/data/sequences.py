"""Benchmarks that give each shopper's items in order and no time: written as a canonical dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.data.canonical import DatasetWriter, Info
from training.data.numbering import renumbered

_MAX_NAMES, _MAX_NAME_BYTES = 8, 128


def write_sequences(
    out: Path, info: Info, items: Mapping[str, dict[str, Any]], sequences: Mapping[str, Sequence[str]], seed: int
) -> None:
    """Writes items (rows by their old id, without the id) and purchases in order, under ids permuted by seed.

    Items that no table tells of are left out with their events and counted. Raises DatasetError where `out` exists.
    """
    item_ids = renumbered(items, "I", seed)
    shopper_ids = renumbered(sequences, "S", seed + 1)
    with DatasetWriter(out, info) as writer:
        rows = [{"item_id": item_ids[old], "revision": 1, **row} for old, row in items.items()]
        writer.write("items", sorted(rows, key=lambda row: row["item_id"]))
        writer.write("shoppers", [{"shopper_id": shopper} for shopper in sorted(shopper_ids.values())])
        events: list[dict[str, Any]] = []
        for old, bought in sorted(sequences.items(), key=lambda pair: shopper_ids[pair[0]]):
            shopper = shopper_ids[old]
            known = [item for item in bought if item in item_ids]
            writer.drop("events", "the item is not in the catalogue", len(bought) - len(known))
            events += [
                {
                    "event_id": f"{shopper}-{order}",
                    "shopper_id": shopper,
                    "type": "PURCHASE",
                    "order": order,
                    "item_id": item_ids[item],
                }
                for order, item in enumerate(known)
            ]
        writer.write("events", events)


def category(names: Sequence[str]) -> str | None:
    """Names as a category path within the limits of an item; None without any."""
    kept = [cut(name.replace(">", "/").strip(), _MAX_NAME_BYTES) for name in names]
    return " > ".join([name for name in kept if name][:_MAX_NAMES]) or None


def cut(text: str, most: int) -> str:
    """The beginning of a text, at most so many bytes of UTF-8."""
    return text.encode()[:most].decode(errors="ignore").strip()
