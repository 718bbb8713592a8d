"""Reviews of two things that are named by what shoppers say for them, and a task with a prompt that asks which."""

import csv
from pathlib import Path

import numpy as np

from tests.unit.training.encoder import tiny

TASK = """
language = "en"
text = ["text"]
label = "kind"
prompt = "{text} the [MASK]"
[[classes]]
name = "kettle"
words = ["boiler"]
verbalisers = ["kettle"]
[[classes]]
name = "toaster"
words = ["browner"]
verbalisers = ["toaster"]
"""


def kinds(count: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts, and of each the class; the name of the thing itself is in none."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=count)
    others = (*tiny.COLOURS, *tiny.BRANDS, "good")
    return [f"{rng.choice(others)} {tiny.SAID[label]} {rng.choice(others)}" for label in labels], labels


def write_reviews(path: Path, count: int) -> Path:
    """Such texts as a CSV with their labels."""
    texts, labels = kinds(count)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "kind"))
        writer.writerows((text, tiny.KINDS[label]) for text, label in zip(texts, labels, strict=True))
    return path
