"""How well full rankings find what was wanted, where several items may be: HR, recall, precision, NDCG, MRR and AUC.

W is what an example wants, R_k the first k of its ranking, r the ranks from 1. All measures lie in 0 to 1.
"""

from dataclasses import dataclass

import numpy as np

from souk.vectors import Float32
from training.ranker.log import Bools, Floats, Ints

DEPTHS = (5, 10, 20)
MEASURES = ("hr", "recall", "precision", "ndcg", "mrr")
NOTHING = -1
"""Stands in a list where no more items are ranked."""
_GAINS = 1 / np.log2(np.arange(2, max(DEPTHS) + 2))


@dataclass(frozen=True)
class Measured:
    """One float64 value an example, (n,) each, by "measure@k" of MEASURES and DEPTHS.

    `first` (n, 20): the items ranked first, NOTHING where fewer are.
    """

    values: dict[str, Floats]
    first: Ints

    @property
    def ndcg(self) -> Floats:
        """NDCG@10, by which everything is chosen."""
        return self.values["ndcg@10"]

    @classmethod
    def joined(cls, parts: "list[Measured]") -> "Measured":
        """All of the parts, in order."""
        values = {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values}
        return cls(values, np.concatenate([part.first for part in parts]))


def measure(scores: Float32, rows: Ints, columns: Ints) -> Measured:
    """Of scores (n, items), the largest first, where each n wants the columns of its rows.

    - hr@k: 1 where R_k holds any of W, else 0.
    - recall@k: |W in R_k| / |W|. precision@k: |W in R_k| / k, also where fewer than k are ranked (Manning, Raghavan and
      Schütze 2008, section 8).
    - ndcg@k: sum over W in R_k of 1 / log2(r + 1), divided by the largest that |W| items could reach (Järvelin and
      Kekäläinen 2002, with gains 0 and 1).
    - mrr@k: 1 / r of the first of W in R_k, else 0 (Voorhees 1999).

    Ranked as by `best`. Raises ValueError where a row wants nothing: its recall would be 0 / 0.
    """
    wanted = _wanted(scores, rows, columns)
    counts = wanted.sum(axis=1)
    first = best(scores, max(DEPTHS))
    hits = np.take_along_axis(wanted, np.maximum(first, 0), 1) & (first != NOTHING)
    ideal = np.cumsum(_GAINS)
    values = {}
    for k in DEPTHS:
        among = hits[:, :k]
        found, some = among.sum(axis=1), among.any(axis=1)
        values[f"hr@{k}"] = some.astype(float)
        values[f"recall@{k}"] = found / counts
        values[f"precision@{k}"] = found / k
        values[f"ndcg@{k}"] = among @ _GAINS[:k] / ideal[np.minimum(counts, k) - 1]
        values[f"mrr@{k}"] = np.where(some, 1 / (among.argmax(axis=1) + 1), 0.0)
    return Measured(values, first)


def best(scores: Float32, k: int) -> Ints:
    """Columns of the k largest scores of each row, best first, NOTHING where fewer are ranked: (n, k).

    NaN and minus infinity are not ranked. Of equal scores the lower column comes first; items are numbered by chance,
    so that no system gains by it.
    """
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    n, items = ranked.shape
    last = min(k, items) - 1
    least = -np.partition(-ranked, last, axis=1)[:, last]
    row, column = np.nonzero((ranked >= least[:, None]) & (ranked > -np.inf))
    order = np.lexsort((column, -ranked[row, column], row))
    row, column = row[order], column[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    kept = place < k
    out = np.full((n, k), NOTHING)
    out[row[kept], place[kept]] = column[kept]
    return out


def auc(scores: Float32, rows: Ints, columns: Ints) -> Floats:
    """Chance that an item that is wanted stands before one that is not, ties half: (n,), arguments as for `measure`.

    The mean over W of (unwanted below + unwanted level / 2) / unwanted, which is the area under the ROC curve (Hanley
    and McNeil 1982). Of unwanted items those that are ranked count; a wanted one that is not ranked stands behind all.
    1/2, as of any order, where nothing unwanted is ranked. Raises ValueError where a row wants nothing.
    """
    wanted = _wanted(scores, rows, columns)
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    out = np.full(len(ranked), 0.5)
    for number, (line, those) in enumerate(zip(ranked, wanted, strict=True)):
        others = np.sort(line[~those & (line > -np.inf)])
        if len(others):
            below, beside = (np.searchsorted(others, line[those], side) for side in ("left", "right"))
            out[number] = (below + beside).mean() / 2 / len(others)
    return out


def _wanted(scores: Float32, rows: Ints, columns: Ints) -> Bools:
    wanted = np.zeros(scores.shape, bool)
    wanted[rows, columns] = True
    nothing = np.flatnonzero(~wanted.any(axis=1))
    if len(nothing):
        raise ValueError(f"rows: example {nothing[0]} wants nothing; each must want an item")
    return wanted
