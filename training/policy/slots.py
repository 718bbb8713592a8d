"""What if more places of an answer were kept for exploration? Told from one place and its logged propensities."""

from dataclasses import dataclass

import numpy as np

from training.policy.estimators import LEAST_PLACES, Estimate, Logged, mean
from training.ranker.answers import Answers
from training.ranker.log import Floats

EXPLORED = "+exploration"
"""How the policy's name ends of an answer that explores."""


@dataclass(frozen=True)
class Slots:
    """Clicks per exploring answer: `now` at the explored place; `then` at all explored places; `displaced`: at most
    lost by the items that make room; `gain`: then - now - displaced; `items`: different explored items per answer."""

    slots: int
    answers: int
    now: Estimate
    then: Estimate
    displaced: Estimate
    gain: Estimate
    items: Estimate


class NoExploration(ValueError):
    """The log holds too few explored places to answer from; the message says how many."""


def ask_slots(answers: Answers, slots: int, seed: int = 0) -> Slots:
    """The question for `slots` places. Raises ValueError, NoExploration.

    Each place draws for itself by the same odds; an item that was drawn before leaves its place to the list. An item of
    propensity p is then in the answer with the probability 1 - (1 - p)^slots, so each logged draw weighs that over p,
    at most `slots`: no other propensities are needed. Further places are taken to be looked at as much as the logged
    one. The next item of the list is taken to lose all its clicks to each further item, which is more than it does
    where the better item stands first: it moves down by one.
    """
    if not 1 <= slots <= 10:
        raise ValueError(f"slots: {slots}; must be from 1 to 10")
    policy = np.array([name.endswith(EXPLORED) for name in answers.policy], np.bool_)
    drawn = np.flatnonzero(policy[answers.answer] & (answers.propensity < 1))
    # The first of each answer; a gateway explores one.
    _, first = np.unique(answers.answer[drawn], return_index=True)
    drawn = drawn[first]
    if len(drawn) < LEAST_PLACES:
        raise NoExploration(
            f"impressions: {len(drawn)} places were drawn by exploration (policy ending in {EXPLORED}, propensity "
            f"below 1); {LEAST_PLACES:.0f} are needed"
        )
    answer, odds = answers.answer[drawn], answers.propensity[drawn]
    clicked = answers.labels[:, 0].astype(np.float64)
    logged = Logged(np.arange(len(drawn)), answers.position[drawn], odds, clicked[drawn], answers.shopper[answer])
    weights = (1 - (1 - odds) ** slots) / odds
    following = np.minimum(drawn + 1, len(clicked) - 1)
    follows = (answers.answer[following] == answer) & (following > drawn)
    displaced = (weights - 1) * clicked[following] * follows

    def told(values: Floats) -> Estimate:
        return mean(logged, values, seed)

    now, then = clicked[drawn], weights * clicked[drawn]
    return Slots(slots, len(drawn), told(now), told(then), told(displaced), told(then - now - displaced), told(weights))
