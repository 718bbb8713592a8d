"""What the ranker believes of new items draws one, with the probability that is logged."""

from collections import Counter
from random import Random

import numpy as np
import pytest

from services.gateway.exploration import Belief, best_arm_odds, draw

BELIEFS = [Belief(-3, 0.1), Belief(-3, 1.0), Belief(-2, 0.2), Belief(-2, 0.0), Belief(-6, 2.0)]


def test_odds_are_those_of_sampling_from_what_is_believed() -> None:
    mean, deviation = np.array([(one.mean, one.deviation) for one in BELIEFS]).T
    samples = np.random.default_rng(1).normal(mean, deviation, (200_000, len(BELIEFS)))
    frequency = np.bincount(samples.argmax(axis=1), minlength=len(BELIEFS)) / len(samples)
    assert best_arm_odds(BELIEFS) == pytest.approx(frequency, abs=0.006)


def test_the_less_sure_of_two_that_stand_behind_is_drawn_more() -> None:
    odds = best_arm_odds([Belief(-2, 0.1), Belief(-3, 0.1), Belief(-3, 1.0)])
    assert odds[0] > odds[2] > 10 * odds[1]


def test_those_of_whom_the_same_is_believed_are_drawn_alike() -> None:
    for deviation in (0.0, 1.0):
        assert best_arm_odds([Belief(-2, deviation)] * 5) == pytest.approx([0.2] * 5)


def test_frequencies_of_the_draws_match_the_propensities_they_log() -> None:
    items, random, draws = [f"i{n}" for n in range(len(BELIEFS))], Random(5), 3_000
    told: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for _ in range(draws):
        drawn = draw(4, items, BELIEFS, random.random())
        assert drawn.position == 4
        assert told.setdefault(drawn.item_id, drawn.propensity) == drawn.propensity
        counts[drawn.item_id] += 1
    assert sum(told.values()) == pytest.approx(1, abs=1e-6)
    for item, propensity in told.items():
        assert counts[item] / draws == pytest.approx(propensity, abs=0.04)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_probability_that_was_rounded_away_is_bounded(probability: float) -> None:
    assert abs(Belief.of(probability, 1.0).mean) == pytest.approx(16.1, abs=0.1)
