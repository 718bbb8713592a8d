"""The place kept for a new item, drawn by what the ranker believes: how likely each is clicked, and how unsure that is.

Each arm's log-odds are taken as normal by themselves, with the ranker's mean and deviation (Chapelle, Li, "An empirical
evaluation of Thompson sampling", NIPS 2011, section 5, for a logistic model with independent weights). In truth arms
share weights, so that they are drawn somewhat more evenly than their joint posterior would have it; what is logged is
the probability of the draw as it is made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.domain import thompson
from souk.coldstart.v1 import coldstart_pb2

EXPLORED = "explored"
"""The leg by which the item that coldstart drew is retrieved."""
_GRID = 2_048
# Deviations to each side that the grid reaches.
_REACH = 6.0


@dataclass(frozen=True)
class Belief:
    """Mean and standard deviation of the log-odds of a click."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, probability: float, deviation: float) -> "Belief":
        """From a probability, which the wire may have rounded to 0 or 1."""
        bounded = min(max(probability, 1e-7), 1 - 1e-7)
        return cls(math.log(bounded / (1 - bounded)), deviation)


def draw(position: int, items: Sequence[str], beliefs: Sequence[Belief], at: float) -> coldstart_pb2.ExplorationSlot:
    """One of 1 to 50 items in a place, at a random number `at` from [0, 1)."""
    chances = thompson.propensities(best_arm_odds(beliefs))
    chosen = thompson.pick(chances, at)
    return coldstart_pb2.ExplorationSlot(position=position, item_id=items[chosen], propensity=float(chances[chosen]))


def best_arm_odds(beliefs: Sequence[Belief]) -> NDArray[np.float64]:
    """The probability (n,) of each arm to be the one that is clicked most."""
    mean = np.array([one.mean for one in beliefs])[:, None]
    deviation = np.array([one.deviation for one in beliefs])[:, None]
    grid = np.linspace((mean - _REACH * deviation).min() - 1e-6, (mean + _REACH * deviation).max() + 1e-6, _GRID)
    # No narrower than the grid can tell.
    deviation = np.maximum(deviation, grid[1] - grid[0])
    return thompson.odds_of_the_best(np.exp(-0.5 * ((grid - mean) / deviation) ** 2))
