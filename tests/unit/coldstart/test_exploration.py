"""Propensities are the probabilities of the draws, and those of Thompson sampling beneath an even floor."""

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.coldstart.exploration import draw, expectations
from services.coldstart.shelf import Newcomer
from services.domain.thompson import MAX_ARMS, USUAL_RATE, best_rate_odds
from services.domain.thompson import propensities as floored
from tests.unit.domain.test_blended import blended

TRIALS = st.lists(
    st.integers(0, 200).flatmap(lambda shown: st.tuples(st.just(shown), st.integers(0, shown + 3))),
    min_size=1,
    max_size=MAX_ARMS,
)
ARMS = [(0, 0), (10, 1), (50, 1), (150, 30), (199, 20), (3, 3)]


def best_arm_odds(shown: list[int], clicked: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return best_rate_odds([USUAL_RATE] * len(shown), shown, clicked)


def propensities(shown: list[int], clicked: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return floored(best_arm_odds(shown, clicked))


def newcomer(item: str, shown: int = 0, clicked: int = 0) -> Newcomer:
    return Newcomer(item, "", 0, shown, clicked)


@settings(deadline=None)
@given(TRIALS)
def test_propensities_are_probabilities_with_a_floor(trials: list[tuple[int, int]]) -> None:
    odds = propensities([shown for shown, _ in trials], [clicked for _, clicked in trials])
    assert odds.sum() == pytest.approx(1, abs=1e-9)
    assert odds.min() >= 0.02 / len(trials) - 1e-12


def test_equal_arms_are_drawn_alike() -> None:
    assert propensities([7] * 9, [1] * 9) == pytest.approx([1 / 9] * 9)


def test_odds_are_those_of_sampling_from_the_posteriors() -> None:
    shown, clicked = np.array(ARMS).T
    samples = np.random.default_rng(1).beta(2 * (3 + clicked), 2 * (57 + shown - clicked), (200_000, len(ARMS)))
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
        drawn = draw(arms, [USUAL_RATE] * len(arms), random.random())
        assert drawn is not None
        assert told.setdefault(drawn.item, drawn.propensity) == drawn.propensity
        counts[drawn.item] += 1
    assert sum(told.values()) == pytest.approx(1)
    chi = sum((counts[item] - draws * odds) ** 2 / (draws * odds) for item, odds in told.items())
    assert chi < 25.7  # The 0.9999 quantile of chi squared with 5 degrees of freedom.


def test_the_ends_of_the_range_draw_an_arm_and_none_draws_nothing() -> None:
    arms = [newcomer("a"), newcomer("b")]
    first, last = draw(arms, [0.05, 0.05], 0.0), draw(arms, [0.05, 0.05], 1 - 1e-16)
    assert (first and first.item, last and last.item) == ("a", "b")
    assert draw([], [], 0.5) is None


def test_what_is_like_clicked_items_is_expected_to_be_clicked() -> None:
    trials = {"a": (100, 30), "b": (100, 0), "c": (0, 0)}
    arms = [newcomer("d"), newcomer("nobody knows it")]
    # d is like b, which nobody clicked.
    low, usual = expectations(arms, blended(), lambda item: trials.get(item, (0, 0)))
    assert low == pytest.approx((1 + 0) / (20 + 100), rel=1e-5)
    assert usual == USUAL_RATE
    assert expectations(arms, None, lambda item: (0, 0)) == [USUAL_RATE] * 2
    odds = best_rate_odds([0.2, 0.05], [0, 0], [0, 0])
    assert odds[0] > 0.7
    # What is seen outweighs what was expected.
    assert best_rate_odds([0.2, 0.05], [400, 400], [4, 60])[1] > 0.99
