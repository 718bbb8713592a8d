"""Shoppers who are made up, as interests and as datasets."""

from pathlib import Path

import numpy as np

from training.data.canonical import DatasetWriter, Info
from training.privacy.interests import ATTRIBUTES, MOMENTS, Catalogue, Interests

TOPICS = 12
CATALOGUE = Catalogue({"A": 0, "B": 1, "C": 2}, np.eye(3, dtype=np.float32), np.arange(3))


def made_up(shoppers: int, foreseen: bool = True) -> Interests:
    """Shoppers who want the topic after the one that they met, or any."""
    rng = np.random.default_rng(0)
    known = np.zeros((shoppers, MOMENTS, TOPICS + ATTRIBUTES), np.float32)
    wanted = np.zeros((shoppers, MOMENTS, TOPICS), np.float32)
    for row in range(shoppers):
        for moment in range(int(rng.integers(1, MOMENTS + 1))):
            topic = int(rng.integers(TOPICS))
            known[row, moment, topic] = known[row, moment, TOPICS + int(rng.integers(ATTRIBUTES))] = 1
            wanted[row, moment, (topic + 1) % TOPICS if foreseen else rng.integers(TOPICS)] = 1
    return Interests(tuple(f"s{row}" for row in range(shoppers)), known, wanted)


def shop(out: Path, of: dict[str, str], a_day: int = 1) -> Path:
    """A view for each letter of each shopper, so many a day, a minute after another."""
    with DatasetWriter(out, Info("toy", "1", "made up", "CC0-1.0")) as writer:
        writer.write("items", [{"item_id": item, "title": item} for item in "ABC"])
        writer.write("shoppers", [{"shopper_id": one, "attributes": '{"town": ["Bonn"]}'} for one in of])
        writer.write(
            "events",
            [
                {"event_id": f"{one}{n}", "shopper_id": one, "type": "VIEW", "item_id": item, "time": _time(n, a_day)}
                for one, items in of.items()
                for n, item in enumerate(items)
            ],
        )
    return out


def _time(number: int, a_day: int) -> str:
    return f"2026-01-{number // a_day + 1:02d}T00:{number % a_day:02d}:00Z"
