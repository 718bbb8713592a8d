"""Thompson sampling with known propensities: what may be drawn (an arm), and with which probability each is.

Thompson sampling (Thompson 1933; Chapelle, Li, NIPS 2011) shows an arm with the probability that it is the best one.
That probability is computed from what is believed of every arm by numerical integration,
p_i = integral of f_i(x) * product over j != i of F_j(x) dx, and the arm drawn from it: so the propensity that is logged
is the probability of the draw itself and no estimate.
"""

import numpy as np
from numpy.typing import NDArray

MAX_ARMS = 50
# Share of the draws that is even over all arms: bounds the weight 1 / propensity of what is learned from them.
_EVEN = 0.1

Floats = NDArray[np.float64]


def odds_of_the_best(mass: Floats) -> Floats:
    """The probability (arms,) of each arm to be the best, (arms, grid): of each, how likely the values of a grid common
    to all are, from small to large."""
    mass = mass / mass.sum(axis=1, keepdims=True)
    below = np.cumsum(mass, axis=1) - mass / 2
    log_below = np.log(np.maximum(below, 1e-300))
    others = np.exp(log_below.sum(axis=0) - log_below)
    odds = (mass * others).sum(axis=1)
    result: Floats = odds / odds.sum()
    return result


def propensities(odds: Floats) -> Floats:
    """The probability of drawing each of n arms: (n,), each at least 0.1 / n, summing to 1."""
    result: Floats = (1 - _EVEN) * odds + _EVEN / len(odds)
    return result


def pick(chances: Floats, at: float) -> int:
    """The arm at a random number `at` from [0, 1), by the probability of each (n,)."""
    return min(int(np.searchsorted(np.cumsum(chances), at, side="right")), len(chances) - 1)
