"""More places for exploration, told from one: against the sum over all draws."""

from itertools import product

import numpy as np
import pytest

from training.policy.slots import NoExploration, ask_slots
from training.ranker.answers import Answers
from training.ranker.log import Floats

ODDS = np.array([0.6, 0.3, 0.1])
CLICKS = np.array([0.1, 0.3, 0.5])
LISTED = 0.2
"""Chance of a click on the item of the list that stands next."""


def exploring(answers: int, seed: int, policy: str = "hot-home-v1+exploration") -> Answers:
    """Answers of three places, the middle one explored."""
    rng = np.random.default_rng(seed)
    arm = rng.choice(3, answers, p=ODDS)
    clicks = np.zeros((answers, 3))
    clicks[:, 1] = rng.random(answers) < CLICKS[arm]
    clicks[:, 2] = rng.random(answers) < LISTED
    propensity = np.ones((answers, 3))
    propensity[:, 1] = ODDS[arm]
    nothing = np.zeros(answers, np.int64)
    return Answers(
        begin=nothing,
        end=nothing,
        time=np.arange(answers, dtype=np.float64),
        scene=nothing + 2,
        query=[""] * answers,
        starts=3 * np.arange(answers + 1),
        shopper=rng.integers(0, 200, answers),
        policy=[policy] * answers,
        items=np.stack([nothing, nothing + 1, arm + 2], axis=1).ravel(),
        position=np.tile(np.arange(3), answers),
        propensity=propensity.ravel(),
        looked_at=np.ones(3 * answers, bool),
        stock=np.full(3 * answers, np.nan),
        labels=np.repeat(clicks.reshape(-1, 1), 3, axis=1).astype(np.float32),
    )


def every_draw(slots: int) -> tuple[float, float]:
    """Clicks on explored items and their number in the mean, over all draws of so many places."""
    clicks = items = 0.0
    for draws in product(range(3), repeat=slots):
        chance = float(np.prod(ODDS[list(draws)]))
        different: Floats = CLICKS[list(set(draws))]
        clicks += chance * float(different.sum())
        items += chance * len(different)
    return clicks, items


@pytest.mark.parametrize("slots", [2, 3])
def test_the_answer_is_that_of_all_draws(slots: int) -> None:
    found = ask_slots(exploring(20_000, 1), slots)
    clicks, items = every_draw(slots)
    assert found.then.low < clicks < found.then.high
    assert found.items.value == pytest.approx(items, rel=0.03)
    assert found.displaced.value == pytest.approx((items - 1) * LISTED, abs=0.02)
    assert found.gain.low < clicks - every_draw(1)[0] - (items - 1) * LISTED < found.gain.high
    # Told to about a hundredth of a click, from a log of one place.
    assert found.gain.high - found.gain.low < 0.06


def test_one_place_is_what_there_is() -> None:
    found = ask_slots(exploring(500, 2), 1)
    assert found.then.value == pytest.approx(found.now.value)
    assert found.gain.value == pytest.approx(0)


def test_without_exploration_it_is_refused() -> None:
    with pytest.raises(NoExploration, match="0 places were drawn by exploration"):
        ask_slots(exploring(500, 3, "hot-home-v1"), 2)
    with pytest.raises(NoExploration, match="99 places"):
        ask_slots(exploring(99, 3), 2)
    with pytest.raises(ValueError, match="slots: 0; must be from 1 to 10"):
        ask_slots(exploring(500, 3), 0)
