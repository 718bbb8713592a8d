"""Thompson sampling with known propensities: what may be drawn (an arm), and with which probability each is.

Thompson sampling (Thompson 1933; Chapelle, Li, NIPS 2011) shows an arm with the probability that it is the best one.
That probability is computed from what is believed of every arm by numerical integration,
p_i = integral of f_i(x) * product over j != i of F_j(x) dx, and the arm drawn from it: so the propensity that is logged
is the probability of the draw itself and no estimate.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

MAX_ARMS = 50
USUAL_RATE = 0.05
"""Click rate expected of an item of which nothing is known: a click in twenty showings."""
# Showings that what is usual weighs as many as, and those that what is expected of an arm does.
_USUAL_STRENGTH, _STRENGTH = 20.0, 60.0
# What is believed counts so many times: posteriors made narrower explore less and lose less (Chapelle, Li, NIPS 2011,
# section 3). Both chosen on generated shops by `evaluate bandit` (docs/coldstart-quality.md).
_SHARPNESS = 2.0
_GRID = 2_048
# Share of the draws that is even over all arms: bounds the weight 1 / propensity of what is learned from them.
_EVEN = 0.02

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


def expected_rate(alike: Iterable[tuple[float, int, int]]) -> float:
    """The click rate expected of an item before it was shown: the mean of those it is like in content, each shrunk to
    what is usual. `alike`: the weight of each, how often it was shown and how often clicked; weights sum to 1 at most,
    the rest is what is usual."""
    found = USUAL_RATE
    for weight, shown, clicked in alike:
        rate = (USUAL_RATE * _USUAL_STRENGTH + min(clicked, shown)) / (_USUAL_STRENGTH + shown)
        found += weight * (rate - USUAL_RATE)
    return found


def best_rate_odds(
    expected: Sequence[float], shown: Sequence[int], clicked: Sequence[int], strength: float = _STRENGTH
) -> Floats:
    """The probability (n,) of each arm to have the highest click rate, which is Beta distributed: the prior has the
    mean `expected`, above 0 and below 1, and counts as `strength` showings; these and all others count twice."""
    # Closer together near 0, where click rates are.
    edges = np.linspace(0.0, 1.0, _GRID + 1) ** 3
    middle = (edges[1:] + edges[:-1]) / 2
    width = np.diff(edges)
    clicks = np.array([min(c, s) for s, c in zip(shown, clicked, strict=True)], np.float64)
    prior = strength * np.array(expected, np.float64)
    a = _SHARPNESS * (prior + clicks)
    b = _SHARPNESS * (strength - prior + np.array(shown, np.float64) - clicks)
    constant = np.array([math.lgamma(x + y) - math.lgamma(x) - math.lgamma(y) for x, y in zip(a, b, strict=True)])
    log_density = constant[:, None] + np.outer(a - 1, np.log(middle)) + np.outer(b - 1, np.log1p(-middle))
    return odds_of_the_best(np.exp(log_density) * width)


def propensities(odds: Floats) -> Floats:
    """The probability of drawing each of n arms: (n,), each at least 0.02 / n, summing to 1."""
    result: Floats = (1 - _EVEN) * odds + _EVEN / len(odds)
    return result


def pick(chances: Floats, at: float) -> int:
    """The arm at a random number `at` from [0, 1), by the probability of each (n,)."""
    return min(int(np.searchsorted(np.cumsum(chances), at, side="right")), len(chances) - 1)
