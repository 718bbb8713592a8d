"""Exposure is measured as the papers have it, and sharing it out does what it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.fairness.lists import GAINS, as_ranked, exposure_of, gini, limited, shared_out

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("exposure", "value"),
    [([1, 1, 1, 1], 0.0), ([0, 0, 0, 1], 0.75), ([1, 3], 0.25), ([1, 2, 3, 4], 0.25)],
)
def test_the_gini_coefficient_of_known_shares(exposure: list[float], value: float) -> None:
    assert gini(np.array(exposure, float)) == pytest.approx(value)


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=30))
def test_it_is_half_the_relative_mean_difference(exposure: list[float]) -> None:
    values = np.array(exposure)
    expected = np.abs(values[:, None] - values).mean() / (2 * values.mean())
    assert gini(values) == pytest.approx(expected, abs=1e-9)


def test_places_expose_as_they_gain_and_a_list_that_counts_twice_exposes_twice() -> None:
    groups = np.array([[0] + [1] * 9, [1] * 10])
    assert exposure_of(groups, 3) == pytest.approx([1, 2 * GAINS.sum() - 1, 0])
    assert exposure_of(groups, 3, np.array([2.0, 0.0])) == pytest.approx([2, 2 * (GAINS.sum() - 1), 0])


def test_without_strength_nothing_is_moved() -> None:
    chance, supplier = RANDOM.random((7, 30)), RANDOM.integers(0, 5, (7, 30))
    plain = as_ranked(chance)
    assert (np.take_along_axis(chance, plain, 1) == -np.sort(-chance, axis=1)[:, :10]).all()
    assert (shared_out(chance, supplier, 5, 0.0, range(7)) == plain).all()


def test_with_strength_exposure_is_more_equal_and_moves_where_little_is_lost() -> None:
    supplier = np.tile(np.repeat([0, 1], 20), (40, 1))
    # To every second shopper the first supplier's items are worth far more, to the others a little.
    more = np.where(np.arange(40) % 2, 0.5, 0.01)[:, None] * (supplier == 0)
    chance = 0.1 + more + RANDOM.random((40, 40)) * 0.001
    plain, shared = as_ranked(chance), shared_out(chance, supplier, 2, 0.1, range(40))
    before, after = (exposure_of(np.take_along_axis(supplier, one, 1), 2) for one in (plain, shared))
    assert gini(before) == pytest.approx(0.5)
    assert gini(after) < 0.1
    dear = np.arange(40) % 2 == 1
    assert (shared[dear] == plain[dear]).all()
    assert (np.take_along_axis(supplier, shared, 1)[~dear] == 1).mean() > 0.9


def test_in_a_second_pass_the_first_list_knows_who_is_exposed_much() -> None:
    supplier = np.tile(np.repeat([0, 1], 20), (30, 1))
    chance = 0.1 + (supplier == 0) * 0.5
    # The first shopper of all cares little.
    chance[0] = 0.1 + (supplier[0] == 0) * 0.01
    once, twice = (shared_out(chance, supplier, 2, 0.1, range(30), passes) for passes in (1, 2))
    assert supplier[0, once[0]].mean() < 1
    assert supplier[0, twice[0]].tolist() == [1] * 10
    assert (twice[1:] == once[1:]).all()


def test_a_limit_holds_as_long_as_others_are_left() -> None:
    chance = np.linspace(1, 0.1, 12)[None]
    supplier = np.array([[0] * 6 + [1, 2, 3, 4, 5, 6]])
    assert limited(chance, supplier, 2).tolist() == [[0, 1, 6, 7, 8, 9, 10, 11, 2, 3]]
