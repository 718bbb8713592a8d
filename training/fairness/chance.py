"""From scores to chances: how likely a candidate is wanted, told from its score, its place and the history.

A score orders one shopper's items; exposure is best moved where least is lost, which only a probability that means the
same for all shoppers tells.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression

from training.ranker.log import Bools, Floats, Ints

_LEAST = 1e-9


def cross_fitted(scores: Floats, met: Ints, wanted: Bools) -> Floats:
    """Chances (n, C) of scores (n, C), the best first, of shoppers who met so many items (n,): each half of the
    shoppers by what the other half wanted, (n, C). Raises ValueError where a half wants nothing or all of it."""
    chance = np.empty(scores.shape)
    for half in (0, 1):
        rest = np.arange(len(scores)) % 2 == half
        chance[rest] = fitted(scores[~rest], met[~rest], wanted[~rest], scores[rest], met[rest])
    return chance


def fitted(scores: Floats, met: Ints, wanted: Bools, new_scores: Floats, new_met: Ints) -> Floats:
    """Chances of new scores by a logistic regression on others and what was wanted of them. Raises ValueError."""
    if wanted.all() or not wanted.any():
        raise ValueError(
            "shoppers want all or nothing of their candidates: no chance can be told; give more --shoppers"
        )
    rows, new = _features(scores, met), _features(new_scores, new_met)
    mean, deviation = rows.mean(axis=0), rows.std(axis=0) + _LEAST
    model = LogisticRegression(max_iter=500).fit((rows - mean) / deviation, wanted.ravel())
    found: Floats = model.predict_proba((new - mean) / deviation)[:, 1].reshape(new_scores.shape)
    return found


def _features(scores: Floats, met: Ints) -> Floats:
    """Logarithms of the score, of its share of the best, of the place, of the history's length and of what the first
    ten score together; the first three squared, too: (n x C, 8)."""
    n, count = scores.shape
    score = np.maximum(scores.astype(np.float64), _LEAST)
    own = [np.log(score), np.log(score / score[:, :1]), np.broadcast_to(np.log1p(np.arange(count)), (n, count))]
    shared = [np.log1p(met), np.log(score[:, :10].sum(axis=1))]
    parts = [*own, *(one**2 for one in own), *(np.broadcast_to(one[:, None], (n, count)) for one in shared)]
    return np.stack(parts, axis=-1).reshape(n * count, len(parts))
