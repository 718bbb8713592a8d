"""A trend is what an item gains on the others, by hand; a shop that grows as a whole has none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.demand import MAX_RISING, rising, trend


def test_by_hand() -> None:
    # Half of all lately is the first's, of which a quarter was to be expected.
    made = trend(np.array([30.0, 30.0]), np.array([50.0, 150.0]))
    assert made == pytest.approx([math.log(35 / 20), math.log(35 / 50)])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.floats(0.01, 100))
def test_what_grows_as_all_does_has_no_trend(usual: list[float], factor: float) -> None:
    assert trend(np.array(usual) * factor, np.array(usual)) == pytest.approx(np.zeros(len(usual)), abs=1e-6)


def test_a_single_look_is_hardly_a_trend_and_returns_are_none() -> None:
    made = trend(np.array([1.0, 100.0, -5.0]), np.array([1e-9, 300.0, 0.0]))
    assert 0 < made[0] < 0.2
    assert made[2] <= 0


def test_nothing_known_is_no_trend() -> None:
    assert trend(np.zeros(3), np.zeros(3)).tolist() == [0, 0, 0]
    assert len(rising(np.zeros(3))) == 0


def test_those_that_rise_most_first() -> None:
    assert rising(np.array([-1.0, 0.5, 0.05, 2.0, 0.5])).tolist() == [3, 1, 4]
    assert len(rising(np.linspace(1, 2, 3 * MAX_RISING))) == MAX_RISING
