"""What the order of a shopper's items says of other items beside a network: tables of what follows what, cosines in
spaces of items, popularity. One code for what is learned with and what is served."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.domain.neighbours import Ints, Neighbours, latest
from souk.vectors import Float32

TABLES = ("follows", "two_steps", "precedes")
SPACES = ("graph", "content")
SIGNALS: tuple[str, ...] = (
    "follows",
    "follows_root",
    "two_steps_root",
    "precedes",
    "met_often",
    "met_lately",
    *(f"{space}_{how}" for space in SPACES for how in ("newest", "nearest", "mean")),
)
"""Every name that `Signals.named` may have."""
_NEAREST_OF = 5


@dataclass(frozen=True)
class Signals:
    """What is needed to say, of n items, what a history makes of them.

    `follows`, `two_steps` (follows taken twice) and `precedes` (follows turned round) are read with `keep` and `decay`
    as `services.domain.neighbours.latest` has them. `vectors`: (n, k) float32, rows of length 1 or zero, by name of
    SPACES: where items stand in the graph, their content; what no file tells is not among them. `repeats`: whether
    items are met again, so that having been met is a signal.
    """

    follows: Neighbours
    two_steps: Neighbours
    precedes: Neighbours
    popularity: Float32
    """log(1 + how often each item was met): (n,)."""
    vectors: dict[str, Float32]
    keep: int
    decay: float
    repeats: bool

    def named(self, histories: Sequence[Ints], items: Ints | None = None) -> dict[str, Float32]:
        """Of all items, or of those numbered, by name: each (histories, items). A history holds one event at least,
        oldest first.

        Where items are numbered, what is said of one does not depend, by a rounding either, on which others are.
        """
        chosen = slice(None) if items is None else items
        found = {name: said(getattr(self, name), histories, self.keep, self.decay)[:, chosen] for name in TABLES}
        # Roots: from nothing to a little is more than from much to a little more.
        found["follows_root"] = np.sqrt(found["follows"])
        found["two_steps_root"] = np.sqrt(found.pop("two_steps"))
        found["met_often"] = np.broadcast_to(self.popularity[chosen], found["follows"].shape)
        if self.repeats:
            found["met_lately"] = _met(histories, len(self.popularity), self.decay)[:, chosen]
        for name, vectors in self.vectors.items():
            cosines = _cosines(vectors, histories, items)
            found[f"{name}_newest"] = cosines[0]
            found[f"{name}_nearest"] = cosines.max(axis=0)
            found[f"{name}_mean"] = cosines.mean(axis=0)
        return found

    def write(self, file: Path) -> None:
        """Writes an .npz file."""
        arrays: dict[str, NDArray[np.generic]] = {"popularity": self.popularity}
        for name in TABLES:
            table: Neighbours = getattr(self, name)
            arrays |= {f"{name}.starts": table.starts, f"{name}.items": table.items, f"{name}.scores": table.scores}
        arrays |= {f"vectors.{name}": vectors for name, vectors in self.vectors.items()}
        arrays |= {"trial": np.array([self.keep, self.decay]), "repeats": np.array(self.repeats)}
        np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def read(cls, file: Path) -> "Signals":
        """Reads what `write` wrote. Raises OSError; ValueError naming the file where it holds something else."""
        try:
            with np.load(file, allow_pickle=False) as arrays:
                made = cls._of(arrays)
        except KeyError as error:
            raise ValueError(f"{file}: {error.args[0]}") from None
        n = len(made.popularity)
        ends = {name: len(getattr(made, name).starts) - 1 for name in TABLES}
        ends |= {f"vectors.{name}": len(vectors) for name, vectors in made.vectors.items()}
        for name, rows in ends.items():
            if rows != n:
                raise ValueError(f"{file}: {name} is of {rows} items; popularity is of {n}")
        return made

    @classmethod
    def _of(cls, arrays: Any) -> "Signals":
        follows, two_steps, precedes = (
            Neighbours(*(arrays[f"{name}.{part}"] for part in ("starts", "items", "scores"))) for name in TABLES
        )
        vectors = {name: arrays[f"vectors.{name}"] for name in SPACES if f"vectors.{name}" in arrays.files}
        keep, decay = arrays["trial"].tolist()
        repeats = bool(arrays["repeats"])
        return cls(follows, two_steps, precedes, arrays["popularity"], vectors, int(keep), decay, repeats)


def said(table: Neighbours, histories: Sequence[Ints], keep: int, decay: float) -> Float32:
    """Weighted mean of what the latest `keep` items of each history say of all items, each counting `decay` times the
    one after it: (histories, items)."""
    return np.stack([table.of(*latest(history, keep, decay), own=0.0) for history in histories])


def _cosines(vectors: Float32, histories: Sequence[Ints], items: Ints | None) -> Float32:
    """Of every item, or of those numbered, with the latest five items of each history, the newest first; where a
    history is shorter, with its newest in place of those that it lacks: (5, histories, items)."""
    rows = [
        [history[-step] if step <= len(history) else history[-1] for history in histories]
        for step in range(1, _NEAREST_OF + 1)
    ]
    met = vectors[np.array(rows)]
    if items is None:
        return met @ vectors.T
    # Not a product of matrices, which may round an item differently in another company.
    found: Float32 = np.einsum("nhk,ik->nhi", met, vectors[items])
    return found


def _met(histories: Sequence[Ints], n: int, decay: float) -> Float32:
    found = np.zeros((len(histories), n), np.float32)
    for row, history in zip(found, histories, strict=True):
        items, weights = latest(history, len(history), decay)
        row[items] = 1 + weights
    return found
