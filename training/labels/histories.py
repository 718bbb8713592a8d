"""Histories of shoppers that there are not: walks over what was met together, carried on to items that are alike."""

import numpy as np
from scipy import sparse

from services.domain.neighbours import Neighbours
from souk.vectors import Float32
from training.labels.task import Floats, Ints

# Items alike: so many of each, the likeness falling by e with each 0.1 of cosine.
_ALIKE, _SHARPNESS = 30, 10.0
# A step goes to what follows an item, to what is like it, to what follows the like, to what is like what follows.
_FOLLOWS, _LIKE, _FOLLOWS_OF_LIKE, _LIKE_FOLLOWS = 0.6, 0.4, 0.3, 0.3
_STEPS = 5
# What an item counts beside how often it was met when a walk begins: those never met begin some, too.
_UNMET = 0.5


def alike(vectors: Float32, most: int = _ALIKE) -> sparse.csr_matrix:
    """How like each of n items the others are, by cosine: (n, n), rows that sum to 1, or 0 where nothing is told.

    `vectors`: (n, dim), rows of length 1 or zero.
    """
    n = len(vectors)
    most = min(most, n - 1)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    nearest = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
    near = np.take_along_axis(cosines, nearest, 1)
    weights = np.exp(_SHARPNESS * (near - 1)) * (near > 0)
    rows = np.repeat(np.arange(n), most)
    return _of_one(sparse.csr_matrix((weights.ravel(), (rows, nearest.ravel())), shape=(n, n)))


def walk(follows: Neighbours, likeness: sparse.csr_matrix, met: Ints, many: int, seed: int) -> list[Ints]:
    """Up to `many` histories of 3 to 6 different items: random walks that begin where shoppers do, by how often items
    were `met`, (n,), and go on by what follows what and by likeness (n, n), each also through the other.

    What two shoppers did with two like items becomes one history that neither has: co-occurrence propagated through
    content.
    """
    n = len(met)
    table = sparse.csr_matrix((follows.scores, follows.items, follows.starts), shape=(n, n))
    then = _of_one(table)
    step = _FOLLOWS * then + _LIKE * likeness + _FOLLOWS_OF_LIKE * likeness @ then + _LIKE_FOLLOWS * then @ likeness
    step = sparse.csr_matrix(step)
    rng = np.random.default_rng(seed)
    begins: Floats = (met + _UNMET) / (met + _UNMET).sum()
    histories = []
    for first in rng.choice(n, many, p=begins).tolist():
        path = [first]
        for _ in range(_STEPS):
            part = slice(step.indptr[path[-1]], step.indptr[path[-1] + 1])
            items, weights = step.indices[part], step.data[part]
            new = ~np.isin(items, path)
            if not weights[new].sum():
                break
            path.append(int(rng.choice(items[new], p=weights[new] / weights[new].sum())))
        if len(path) > 2:
            histories.append(np.array(path, np.int64))
    return histories


def _of_one(table: sparse.csr_matrix) -> sparse.csr_matrix:
    sums = np.asarray(table.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(sums, 1e-12)) @ table)
