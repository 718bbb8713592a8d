"""Makes the signals that speak beside the network, of the table of what follows what."""

import numpy as np

from services.domain.neighbours import Neighbours
from services.domain.signals import Signals
from souk.vectors import Float32
from training.ranker.log import Ints
from training.ranker.neighbours import strongest

NETWORK = "network"
"""The product of shopper and item, which the network gives; the others are named in services.domain.signals."""
_OF_TWO_STEPS = 200


def make_signals(
    follows: Neighbours, counts: Ints, vectors: dict[str, Float32], trial: tuple[int, float], repeats: bool
) -> Signals:
    """From the table of follows, how often each item was met (n,), vectors of length 1 or zero by name of a space, and
    how histories are read: keep and decay."""
    popularity = np.log1p(counts).astype(np.float32)
    return Signals(follows, _twice(follows), _turned(follows), popularity, vectors, *trial, repeats)


def unit_rows(vectors: Float32) -> Float32:
    """Rows of length 1, or zero as they were."""
    found: Float32 = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
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
