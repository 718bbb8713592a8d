"""What follows an item in the histories of those who met it: a sparse table, item-kNN with a direction."""

import numpy as np

from services.domain.neighbours import Neighbours
from training.ranker.log import Ints
from training.ranker.neighbours import strongest

_WINDOW = 20
_PARTNERS = 100
# Chosen on the validation of Amazon Beauty (docs/ranking-quality.md): each event further away counts less, what came
# before counts as a weak sign of what comes after, and being frequent is held against an item only a little.
_DISTANCE, _BACKWARDS, _OF_THE_FIRST, _OF_THE_SECOND = 0.8, 0.3, 0.5, 0.1


def find_follows(group: Ints, item: Ints, n: int) -> Neighbours:
    """From events of n items, in order: for items a and b of one group, the sum of 0.8 ** (events between them) where
    b comes later and of 0.3 times that where it comes earlier, over count(a) ** 0.5 * count(b) ** 0.1.

    A group is a shopper; both lie within 20 events. The 100 highest of an item are kept.
    """
    counts = np.maximum(np.bincount(item, minlength=n), 1)
    codes, weights = [], []
    for lag in range(1, min(_WINDOW, len(item) - 1) + 1):
        same = (group[lag:] == group[:-lag]) & (item[lag:] != item[:-lag])
        one, two = item[:-lag][same], item[lag:][same]
        codes += [one * n + two, two * n + one]
        weights += [np.full(len(one), share * _DISTANCE ** (lag - 1)) for share in (1.0, _BACKWARDS)]
    pairs, place = np.unique(np.concatenate(codes or [np.empty(0, np.int64)]), return_inverse=True)
    sums = np.bincount(place, np.concatenate(weights or [np.empty(0)]), len(pairs))
    one, two = pairs // n, pairs % n
    scores = sums / (counts[one] ** _OF_THE_FIRST * counts[two] ** _OF_THE_SECOND)
    kept = strongest(one, scores, n, _PARTNERS)
    one, two, scores = one[kept], two[kept], scores[kept]
    return Neighbours(np.searchsorted(one, np.arange(n + 1)), two, scores.astype(np.float32))
