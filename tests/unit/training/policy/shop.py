"""A small shop whose answers stand in a drawn order, as a dataset."""

from pathlib import Path
from typing import Any

import numpy as np

from training.data.canonical import Dataset, DatasetWriter, Info, open_dataset

LOOKED_AT = np.array([1.0, 0.5, 0.25, 0.2])
ITEMS = 8
WANTED = np.linspace(0.05, 0.75, ITEMS)
"""Chance of a click on each item once looked at."""


def shop(path: Path, answers: int, seed: int = 0, random: bool = True) -> Dataset:
    """Answers of four of eight items; in one even draw of all orders, or always by number."""
    rng = np.random.default_rng(seed)
    shown: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for answer in range(answers):
        items = np.sort(rng.permutation(ITEMS)[:4])
        items = rng.permutation(items) if random else items
        minute = f"2026-01-{1 + answer // 1440:02d}T{answer // 60 % 24:02d}:{answer % 60:02d}"
        for place, item in enumerate(items.tolist()):
            clicked = bool(rng.random() < LOOKED_AT[place] * WANTED[item])
            one = {"request_id": f"r{answer}", "item_id": f"i{item}", "shopper_id": f"s{answer % 40}"}
            shown.append(
                {
                    **one,
                    "position": place,
                    "propensity": 0.25 if random else 1.0,
                    "scene": "HOME",
                    "policy": "drawn",
                    "time": f"{minute}:00Z",
                    "clicked": clicked,
                }
            )
            if clicked:
                event = {"event_id": f"e{answer}-{place}", "type": "CLICK", "time": f"{minute}:30Z"}
                events.append({**one, **event, "position": place})
    with DatasetWriter(path, Info("toy", "1", "here", "none")) as writer:
        writer.write("items", [{"item_id": f"i{item}", "title": f"thing {item}"} for item in range(ITEMS)])
        writer.write("events", events)
        writer.write("impressions", shown)
    return open_dataset(path)
