"""The place kept for a new item: which one, and with which probability it was drawn.

Thompson sampling (Thompson 1933; Chapelle, Li, NIPS 2011) shows an arm with the probability that its click rate is the
highest. That probability is computed from the arms' Beta posteriors by numerical integration,
p_i = integral of f_i(x) * product over j != i of F_j(x) dx, and the arm drawn from it: so the propensity that is logged
is the probability of the draw itself and no estimate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.coldstart.shelf import Newcomer

MAX_ARMS = 50
# Before anything was shown: a click in twenty showings.
_PRIOR_CLICKS = 1.0
_PRIOR_PASSES = 19.0
# Share of the draws that is even over all arms: bounds the weight 1 / propensity of what is learned from them.
_EVEN = 0.1
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
    chosen = min(int(np.searchsorted(np.cumsum(odds), at, side="right")), len(arms) - 1)
    return Draw(arms[chosen].item, float(odds[chosen]))


def propensities(shown: Sequence[int], clicked: Sequence[int]) -> NDArray[np.float64]:
    """The probability of drawing each of n arms: (n,), each at least 0.1 / n, summing to 1."""
    best = best_arm_odds(shown, clicked)
    odds: NDArray[np.float64] = (1 - _EVEN) * best + _EVEN / len(best)
    return odds


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
    mass = np.exp(log_density) * width
    mass /= mass.sum(axis=1, keepdims=True)
    below = np.cumsum(mass, axis=1) - mass / 2
    log_below = np.log(np.maximum(below, 1e-300))
    others = np.exp(log_below.sum(axis=0) - log_below)
    odds = (mass * others).sum(axis=1)
    result: NDArray[np.float64] = odds / odds.sum()
    return result
