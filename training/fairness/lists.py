"""Lists that share exposure out among suppliers, and how unequal exposure is.

Of n shoppers there are the best C candidates, (n, C), the most likely first, each with the chance that it is wanted. A
list is made of the columns of its candidates: (n, DEPTH). What stands at rank r, from 1, is exposed 1 / log2(r + 1)
(Singh and Joachims 2018), which is what NDCG gives for finding it there.
"""

from collections.abc import Sequence

import numpy as np

from training.evaluate.lists import DEPTH
from training.ranker.log import Floats, Ints
from training.ranker.measures import gain

GAINS = gain(np.arange(DEPTH, dtype=np.float64), DEPTH)


def as_ranked(chance: Floats) -> Ints:
    """The likeliest of chances (n, C), of equals the first: (n, DEPTH)."""
    return _by_chance(chance)[:, :DEPTH]


def limited(chance: Floats, supplier: Ints, most: int) -> Ints:
    """The same with at most so many of one supplier a list, as far as others are left; `supplier` (n, C) by number."""
    return np.array([_limited(*both, most) for both in zip(_by_chance(chance), supplier, strict=True)])


def _limited(order: Ints, supplier: Ints, most: int) -> Ints:
    _, codes = np.unique(supplier[order], return_inverse=True)
    # How many of its supplier stand before each.
    by_code = np.argsort(codes, kind="stable")
    before = np.empty(len(codes), np.int64)
    before[by_code] = np.arange(len(codes)) - np.searchsorted(codes[by_code], codes[by_code])
    return order[np.argsort(before >= most, kind="stable")[:DEPTH]]


def shared_out(
    chance: Floats, supplier: Ints, suppliers: int, strength: float, turns: Sequence[int], passes: int = 1
) -> Ints:
    """Lists made one after another, in the order of `turns`, each of the DEPTH of largest

        chance - strength x (share of suppliers that were exposed less so far)

    A controller in the manner of Morik et al. (2020, "Controlling fairness and bias in dynamic learning-to-rank"),
    whose error term is here the slope of the Gini coefficient: it grows by (2 rank - suppliers - 1) / (suppliers x all
    exposure) with the exposure of a supplier, so that each list pays for inequality by what it adds to it. Chances are
    probabilities and no shares of the best, so that places move where little is lost: in the lists of shoppers of whom
    nothing is known well. Equals in exposure pay the middle of their ranks. `strength` is in units of the chance.

    More than one of `passes` is for lists that are made together, before any is shown: from the second on each is made
    anew with all others as they are, so that the first ones, too, know who is exposed much (coordinate ascent on the
    chances less strength x Gini coefficient).
    """
    exposure = np.zeros(suppliers)
    made = np.empty((len(chance), DEPTH), np.int64)
    for number in range(passes):
        for turn in turns:
            line = supplier[turn]
            if number:
                np.subtract.at(exposure, line[made[turn]], GAINS)
            made[turn] = np.argsort(strength * _exposed_less(exposure)[line] - chance[turn], kind="stable")[:DEPTH]
            np.add.at(exposure, line[made[turn]], GAINS)
    return made


def _by_chance(chance: Floats) -> Ints:
    return np.argsort(-chance, axis=1, kind="stable")


def _exposed_less(exposure: Floats) -> Floats:
    """By supplier: the share of the others that are exposed less, those exposed as much half."""
    levels = np.sort(exposure)
    ends = np.searchsorted(levels, exposure, "left") + np.searchsorted(levels, exposure, "right")
    return (ends - 1) / 2 / max(len(exposure) - 1, 1)


def exposure_of(groups: Ints, count: int, weights: Floats | None = None) -> Floats:
    """What each of `count` groups is exposed by lists, given the group (n, DEPTH) of each place: (count,). `weights`
    (n,) say how often a list counts."""
    each = np.broadcast_to(GAINS, groups.shape) if weights is None else weights[:, None] * GAINS
    return np.bincount(groups.ravel(), each.ravel(), count).astype(np.float64)


def gini(exposure: Floats) -> float:
    """Gini coefficient of (suppliers,), which are 0 or more and not all 0: 0 where all are exposed alike, 1 - 1 / n
    where one has all (half the relative mean absolute difference; Sen 1973)."""
    n = len(exposure)
    ranked = np.sort(exposure)
    return float(((2 * np.arange(1, n + 1) - n - 1) * ranked).sum() / (n * ranked.sum()))
