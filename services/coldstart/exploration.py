"""The place kept for a new item: which one, and with which probability it was drawn; from the arms' Beta posteriors of
their click rates, see services.domain.thompson."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.coldstart.shelf import Newcomer
from services.domain import thompson
from services.domain.blended import Blended


@dataclass(frozen=True)
class Draw:
    """The arm drawn, and the probability with which it was."""

    item: str
    propensity: float


def draw(arms: Sequence[Newcomer], expected: Sequence[float], at: float) -> Draw | None:
    """The arm at a random number `at` from [0, 1), of at most 50 with the click rate expected of each before it was
    shown; None where there are none."""
    if not arms:
        return None
    odds = thompson.best_rate_odds(expected, [arm.shown for arm in arms], [arm.clicked for arm in arms])
    chances = thompson.propensities(odds)
    chosen = thompson.pick(chances, at)
    return Draw(arms[chosen].item, float(chances[chosen]))


def expectations(
    arms: Sequence[Newcomer], blended: Blended | None, trials: Callable[[str], tuple[int, int]]
) -> list[float]:
    """The click rate expected of each, from the known items that it is like; `trials` says how often an item was shown
    and clicked."""
    if blended is None:
        return [thompson.USUAL_RATE] * len(arms)
    return [
        thompson.expected_rate((weight, *trials(other)) for other, weight in blended.alike(arm.item)) for arm in arms
    ]
