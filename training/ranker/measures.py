"""How well full rankings find what was wanted, where several items may be: HR, recall, precision, NDCG, MRR and AUC.

W is what an example wants, r the ranks of these items from 0, R_k those below k. All measures lie in 0 to 1. The one
place of these formulas; rankings of several wanted items and of one, everywhere.
"""

from dataclasses import dataclass

import numpy as np

from souk.vectors import Float32
from training.ranker.log import Bools, Floats, Ints

DEPTHS = (5, 10, 20)
MEASURES = ("hr", "recall", "precision", "ndcg", "mrr")
NOTHING = -1
"""Stands in a list where no more items are ranked."""


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
    - ndcg@k: sum of `gain` over W, divided by the largest that |W| items could reach.
    - mrr@k: 1 / (r + 1) of the first of W in R_k, else 0 (Voorhees 1999).

    Ranks as by `ranks`. Raises ValueError where a row wants nothing: its recall would be 0 / 0.
    """
    rows, columns = np.nonzero(_wanted(scores, rows, columns))
    n = len(scores)
    counts = np.bincount(rows, minlength=n)
    where = ranks(scores, rows, columns)
    first = np.minimum.reduceat(where, np.searchsorted(rows, np.arange(n))) if n else np.empty(0)
    ideal = np.cumsum(gain(np.arange(max(DEPTHS), dtype=np.float64), max(DEPTHS)))
    values = {}
    for k in DEPTHS:
        found = np.bincount(rows, where < k, n)
        values[f"hr@{k}"] = (first < k).astype(float)
        values[f"recall@{k}"] = found / counts
        values[f"precision@{k}"] = found / k
        values[f"ndcg@{k}"] = np.bincount(rows, gain(where, k), n) / ideal[np.minimum(counts, k) - 1]
        values[f"mrr@{k}"] = np.where(first < k, 1 / (first + 1), 0.0)
    return Measured(values, best(scores, max(DEPTHS)))


def ranks(scores: Float32, rows: Ints, columns: Ints) -> Floats:
    """How many items stand before each wanted one, of scores (n, items): (len(rows),), each pair given once.

    Of unwanted items that score the same, half do; wanted ones that score the same stand one after another. Infinite
    for what is not ranked, which is NaN and minus infinity.
    """
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    own = ranked[rows, columns].astype(np.float64)
    before, level = np.empty(len(rows)), np.empty(len(rows))
    for number, (line_of, score) in enumerate(zip(rows.tolist(), own.tolist(), strict=True)):
        line = ranked[line_of]
        before[number] = np.count_nonzero(line > score)
        level[number] = np.count_nonzero(line == score)
    order = np.lexsort((own, rows))
    row, score_of = rows[order], own[order]
    new = np.ones(len(rows), np.bool_)
    new[1:] = (row[1:] != row[:-1]) | (score_of[1:] != score_of[:-1])
    start = np.flatnonzero(new)
    size = np.diff(np.append(start, len(rows)))
    group = np.cumsum(new) - 1
    turn, same = np.empty(len(rows)), np.empty(len(rows))
    turn[order], same[order] = np.arange(len(rows)) - start[group], size[group]
    return np.where(own > -np.inf, before + (level - same) / 2 + turn, np.inf)


def gain(where: Floats, k: int) -> Floats:
    """What ranks from 0 are worth in a list of k: 1 / log2(r + 2) below k, else 0 (Järvelin and Kekäläinen 2002, with
    gains 0 and 1)."""
    return np.where(where < k, 1 / np.log2(where + 2), 0.0)


def best(scores: Float32, k: int) -> Ints:
    """Columns of the k largest scores of each row, best first, NOTHING where fewer are ranked: (n, k).

    NaN and minus infinity are not ranked. Of equal scores the lower column comes first, since a list has one order;
    items are numbered by chance, so that no system gains by it.
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
