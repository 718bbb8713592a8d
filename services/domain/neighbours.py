"""A sparse table of what each item says of others, and how a history is read from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from souk.vectors import Float32

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Neighbours:
    """Partners of n items: those of item i are at starts[i] to starts[i + 1]."""

    starts: Ints
    items: Ints
    scores: Float32

    def of(self, history: Ints, weights: Floats, own: float = np.nan) -> Float32:
        """Weighted mean over a history of what each of its items says of all n items: 0 to 1, shape (n,).

        An item of the history itself says `own` of itself; NaN leaves the whole history out, as the leg does.
        """
        n = len(self.starts) - 1
        out = np.zeros(n, np.float32)
        if not len(history):
            return out
        weights = (weights / weights.sum()).astype(np.float32)
        for item, weight in zip(history.tolist(), weights.tolist(), strict=True):
            part = slice(self.starts[item], self.starts[item + 1])
            out[self.items[part]] += weight * self.scores[part]
        out[history] += own * weights
        return out


def latest(history: Ints, keep: int, decay: float) -> tuple[Ints, Floats]:
    """The last `keep` different items of a history, newest first, each `decay` times the weight of the one before."""
    backwards = history[::-1]
    _, first = np.unique(backwards, return_index=True)
    chosen = backwards[np.sort(first)[:keep]]
    return chosen, decay ** np.arange(len(chosen), dtype=np.float64)
