"""The place kept for a new item: which one, and with which probability it was drawn; from the arms' Beta posteriors of
their click rates, see services.domain.thompson."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.coldstart.shelf import Newcomer
from services.domain import thompson

# Before anything was shown: a click in twenty showings.
_PRIOR_CLICKS = 1.0
_PRIOR_PASSES = 19.0
_GRID = 2_048


@dataclass(frozen=True)
class Draw:
    """The arm drawn, and the probability with which it was."""

    item: str
    propensity: float


def draw(arms: Sequence[Newcomer], at: float) -> Draw | None:
    """The arm at a random number `at` from [0, 1), of at most 50; None where there are none."""
    if not arms:
        return None
    odds = propensities([arm.shown for arm in arms], [arm.clicked for arm in arms])
    chosen = thompson.pick(odds, at)
    return Draw(arms[chosen].item, float(odds[chosen]))


def propensities(shown: Sequence[int], clicked: Sequence[int]) -> NDArray[np.float64]:
    """The probability of drawing each of n arms: (n,), each at least 0.1 / n, summing to 1."""
    return thompson.propensities(best_arm_odds(shown, clicked))


def best_arm_odds(shown: Sequence[int], clicked: Sequence[int]) -> NDArray[np.float64]:
    """The posterior probability (n,) of each arm to have the highest click rate."""
    # Closer together near 0, where click rates are.
    edges = np.linspace(0.0, 1.0, _GRID + 1) ** 3
    middle = (edges[1:] + edges[:-1]) / 2
    width = np.diff(edges)
    clicks = np.array([min(c, s) for s, c in zip(shown, clicked, strict=True)], np.float64)
    a = _PRIOR_CLICKS + clicks
    b = _PRIOR_PASSES + np.array(shown, np.float64) - clicks
    constant = np.array([math.lgamma(x + y) - math.lgamma(x) - math.lgamma(y) for x, y in zip(a, b, strict=True)])
    log_density = constant[:, None] + np.outer(a - 1, np.log(middle)) + np.outer(b - 1, np.log1p(-middle))
    return thompson.odds_of_the_best(np.exp(log_density) * width)
