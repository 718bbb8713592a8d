"""HR, NDCG and recall of the first ten of a full ranking, where several items may be wanted."""

from dataclasses import dataclass

import numpy as np

from souk.vectors import Float32
from training.ranker.log import Floats, Ints

_GAINS = 1 / np.log2(np.arange(2, 12))


@dataclass(frozen=True)
class Measured:
    """One value an example, (n,) each: whether one of the first ten was wanted, NDCG@10 with binary gain (Järvelin and
    Kekäläinen 2002), and the share of what was wanted among the first ten."""

    hr: Floats
    ndcg: Floats
    recall: Floats

    @classmethod
    def joined(cls, parts: "list[Measured]") -> "Measured":
        """All of the parts, in order."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("hr", "ndcg", "recall")))


def measure(scores: Float32, rows: Ints, columns: Ints) -> Measured:
    """Of scores (n, items), the largest first, where each n wants the columns of its rows. NaN ranks last."""
    n, items = scores.shape
    wanted = np.zeros((n, items), bool)
    wanted[rows, columns] = True
    scores = np.where(np.isnan(scores), -np.inf, scores)
    k = min(10, items)
    first = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    first = np.take_along_axis(first, np.argsort(-np.take_along_axis(scores, first, 1), axis=1, kind="stable"), 1)
    hits = np.take_along_axis(wanted, first, 1)
    counts = wanted.sum(axis=1)
    ideal = np.concatenate([[0.0], np.cumsum(_GAINS)])[np.minimum(counts, 10)]
    return Measured(hits.any(axis=1).astype(float), hits @ _GAINS[:k] / ideal, hits.sum(axis=1) / counts)
