"""Propensities are the probabilities of the draws, and those of Thompson sampling beneath an even floor."""

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.coldstart.exploration import best_arm_odds, draw, propensities
from services.coldstart.shelf import Newcomer
from services.domain.thompson import MAX_ARMS

TRIALS = st.lists(
    st.integers(0, 200).flatmap(lambda shown: st.tuples(st.just(shown), st.integers(0, shown + 3))),
    min_size=1,
    max_size=MAX_ARMS,
)
ARMS = [(0, 0), (10, 1), (50, 1), (150, 30), (199, 20), (3, 3)]


def newcomer(item: str, shown: int = 0, clicked: int = 0) -> Newcomer:
    return Newcomer(item, "", 0, shown, clicked)


@settings(deadline=None)
@given(TRIALS)
def test_propensities_are_probabilities_with_a_floor(trials: list[tuple[int, int]]) -> None:
    odds = propensities([shown for shown, _ in trials], [clicked for _, clicked in trials])
    assert odds.sum() == pytest.approx(1, abs=1e-9)
    assert odds.min() >= 0.1 / len(trials) - 1e-12


def test_equal_arms_are_drawn_alike() -> None:
    assert propensities([7] * 9, [1] * 9) == pytest.approx([1 / 9] * 9)


def test_odds_are_those_of_sampling_from_the_posteriors() -> None:
    shown, clicked = np.array(ARMS).T
    samples = np.random.default_rng(1).beta(1 + clicked, 19 + shown - clicked, (200_000, len(ARMS)))
    frequency = np.bincount(samples.argmax(axis=1), minlength=len(ARMS)) / len(samples)
    # Five standard errors of the frequencies, and what the grid costs.
    assert best_arm_odds(shown.tolist(), clicked.tolist()) == pytest.approx(frequency, abs=0.0057)


def test_an_arm_that_does_better_is_drawn_more() -> None:
    odds = propensities([100, 100, 100], [2, 8, 30])
    assert odds[0] < odds[1] < odds[2]


def test_frequencies_of_the_draws_match_the_propensities_they_log() -> None:
    arms = [newcomer(f"i{n}", *trial) for n, trial in enumerate(ARMS)]
    random = Random(5)
    draws = 20_000
    told: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for _ in range(draws):
        drawn = draw(arms, random.random())
        assert drawn is not None
        assert told.setdefault(drawn.item, drawn.propensity) == drawn.propensity
        counts[drawn.item] += 1
    assert sum(told.values()) == pytest.approx(1)
    chi = sum((counts[item] - draws * odds) ** 2 / (draws * odds) for item, odds in told.items())
    assert chi < 25.7  # The 0.9999 quantile of chi squared with 5 degrees of freedom.


def test_the_ends_of_the_range_draw_an_arm_and_none_draws_nothing() -> None:
    arms = [newcomer("a"), newcomer("b")]
    first, last = draw(arms, 0.0), draw(arms, 1 - 1e-16)
    assert (first and first.item, last and last.item) == ("a", "b")
    assert draw([], 0.5) is None
