"""What a history says of every item beside the network: item-kNN in several readings, the graph, content, attributes.

NumPy alone: what is read here is what a service would read.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.domain.neighbours import Neighbours, latest
from souk.vectors import Float32
from training.ranker.log import Ints
from training.ranker.neighbours import strongest

FILE = "signals.npz"
NETWORK = "network"
"""The product of shopper and item, which the network gives."""
_TABLES = ("follows", "two_steps", "precedes")
_OF_TWO_STEPS = 200
_NEAREST_OF = 5


@dataclass(frozen=True)
class Signals:
    """What is needed to say, of n items, what a history makes of them.

    `follows`, `two_steps` (follows taken twice) and `precedes` (follows turned round) are read with `keep` and `decay`
    as `services.domain.neighbours.latest` has them. `vectors`: (n, k) float32, rows of length 1 or zero, by name: where
    items stand in the graph, their content, their attributes; what no file tells is not among them. `repeats`: whether
    items are met again, so that having been met is a signal.
    """

    follows: Neighbours
    two_steps: Neighbours
    precedes: Neighbours
    popularity: Float32
    vectors: dict[str, Float32]
    keep: int
    decay: float
    repeats: bool

    @classmethod
    def of(
        cls, follows: Neighbours, counts: Ints, vectors: dict[str, Float32], trial: tuple[int, float], repeats: bool
    ) -> "Signals":
        """From the table of follows, how often each item was met, and vectors as above; `trial`: keep and decay."""
        popularity = np.log1p(counts).astype(np.float32)
        return cls(follows, _twice(follows), _turned(follows), popularity, vectors, *trial, repeats)

    def named(self, histories: list[Ints]) -> dict[str, Float32]:
        """By name, each (histories, items); a history holds one event at least, oldest first."""
        found = {name: said(getattr(self, name), histories, self.keep, self.decay) for name in _TABLES}
        # Roots: from nothing to a little is more than from much to a little more.
        found["root of follows"] = np.sqrt(found["follows"])
        found["root of two_steps"] = np.sqrt(found.pop("two_steps"))
        found["popularity"] = np.broadcast_to(self.popularity, found["follows"].shape)
        if self.repeats:
            found["met"] = _met(histories, len(self.popularity), self.decay)
        for name, vectors in self.vectors.items():
            cosines = _cosines(vectors, histories)
            found[f"{name}, newest"] = cosines[0]
            found[f"{name}, nearest"] = np.max(cosines, axis=0)
            found[f"{name}, mean"] = np.mean(cosines, axis=0)
        return found

    def write(self, directory: Path) -> None:
        """Writes signals.npz."""
        arrays: dict[str, NDArray[np.generic]] = {"popularity": self.popularity}
        for name in _TABLES:
            table: Neighbours = getattr(self, name)
            arrays |= {f"{name}.starts": table.starts, f"{name}.items": table.items, f"{name}.scores": table.scores}
        arrays |= {f"vectors.{name}": vectors for name, vectors in self.vectors.items()}
        arrays |= {"trial": np.array([self.keep, self.decay]), "repeats": np.array(self.repeats)}
        np.savez(directory / FILE, **arrays)  # type: ignore[arg-type]

    @classmethod
    def open(cls, directory: Path) -> "Signals":
        """Reads what `write` wrote. Raises OSError, KeyError."""
        with np.load(directory / FILE) as arrays:
            follows, two_steps, precedes = (
                Neighbours(*(arrays[f"{name}.{part}"] for part in ("starts", "items", "scores"))) for name in _TABLES
            )
            names = [name for name in arrays.files if name.startswith("vectors.")]
            vectors = {name.removeprefix("vectors."): arrays[name] for name in names}
            keep, decay = arrays["trial"].tolist()
            repeats = bool(arrays["repeats"])
            return cls(follows, two_steps, precedes, arrays["popularity"], vectors, int(keep), decay, repeats)


def said(table: Neighbours, histories: list[Ints], keep: int, decay: float) -> Float32:
    """Weighted mean of what the latest `keep` items of each history say of all items, each counting `decay` times the
    one after it: (histories, items)."""
    return np.stack([table.of(*latest(history, keep, decay), own=0.0) for history in histories])


def unit_rows(vectors: Float32) -> Float32:
    """Rows of length 1, or zero as they were."""
    found: Float32 = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return found


def _cosines(vectors: Float32, histories: list[Ints]) -> list[Float32]:
    """Of every item with the latest five items of each history, the newest first; where a history is shorter, with its
    newest in place of those that it lacks: five of (histories, items)."""
    rows = [
        [history[-step] if step <= len(history) else history[-1] for history in histories]
        for step in range(1, _NEAREST_OF + 1)
    ]
    return [vectors[row] @ vectors.T for row in rows]


def _met(histories: list[Ints], n: int, decay: float) -> Float32:
    found = np.zeros((len(histories), n), np.float32)
    for row, history in zip(found, histories, strict=True):
        items, weights = latest(history, len(history), decay)
        row[items] = 1 + weights
    return found


def _twice(table: Neighbours) -> Neighbours:
    """What the partners of each item say, by what the item says of them: its 200 highest, itself left out."""
    n = len(table.starts) - 1
    sizes, items, scores = np.zeros(n, np.int64), [], []
    for item in range(n):
        part = slice(table.starts[item], table.starts[item + 1])
        weights = table.scores[part].astype(np.float64)
        if not weights.sum():
            continue
        reached = table.of(table.items[part], weights, own=0.0) * np.float32(weights.sum())
        reached[item] = 0
        there = np.flatnonzero(reached)
        kept = there[strongest(np.zeros(len(there), np.int64), reached[there].astype(np.float64), 1, _OF_TWO_STEPS)]
        sizes[item] = len(kept)
        items.append(kept)
        scores.append(reached[kept])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return Neighbours(
        starts, np.concatenate([np.empty(0, np.int64), *items]), np.concatenate([np.empty(0, np.float32), *scores])
    )


def _turned(table: Neighbours) -> Neighbours:
    """The score of b at a where `table` has that of a at b."""
    n = len(table.starts) - 1
    one = np.repeat(np.arange(n), np.diff(table.starts))
    order = np.argsort(table.items, kind="stable")
    starts = np.searchsorted(table.items[order], np.arange(n + 1))
    return Neighbours(starts, one[order], table.scores[order])
