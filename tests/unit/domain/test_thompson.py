"""Odds of the best arm, with a floor, and draws by them."""

import numpy as np
import pytest

from services.domain.thompson import odds_of_the_best, pick, propensities


def test_odds_by_hand() -> None:
    """One arm is sure of the middle value; the other has the first or the last, each as likely."""
    mass = np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 1.0]])
    assert odds_of_the_best(mass) == pytest.approx([0.5, 0.5])
    # Where it is three times as likely to have the last.
    assert odds_of_the_best(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 3.0]])) == pytest.approx([0.25, 0.75])
    assert odds_of_the_best(np.ones((1, 5))) == pytest.approx([1])


def test_every_arm_keeps_a_chance() -> None:
    chances = propensities(np.array([1.0, 0.0, 0.0, 0.0]))
    assert chances == pytest.approx([0.985, 0.005, 0.005, 0.005])


def test_a_number_picks_the_arm_in_whose_share_it_lies() -> None:
    chances = np.array([0.25, 0.5, 0.25])
    assert [pick(chances, at) for at in (0.0, 0.24, 0.25, 0.74, 0.75, 0.999)] == [0, 0, 1, 1, 2, 2]
    # Shares that sum to a hair below 1.
    assert pick(np.array([0.5, 0.4999]), 0.99999) == 1
