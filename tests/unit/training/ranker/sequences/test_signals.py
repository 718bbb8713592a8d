"""Each signal against values worked by hand, and the same after writing and reading."""

from pathlib import Path

import numpy as np
import pytest

from services.domain.neighbours import Neighbours
from souk.vectors import Float32
from training.ranker.sequences.signals import Signals, unit_rows

# a is followed by b (0.8), b by c (0.5) and a (0.2), c by nothing.
FOLLOWS = Neighbours(np.array([0, 1, 3, 3]), np.array([1, 2, 0]), np.array([0.8, 0.5, 0.2], np.float32))
PLACES = unit_rows(np.array([[1, 0], [3, 4], [0, 0]], np.float32))


def signals(repeats: bool = True) -> Signals:
    """Of three items, met 0, 1 and 3 times."""
    return Signals.of(FOLLOWS, np.array([0, 1, 3]), {"graph": PLACES}, (20, 0.5), repeats)


def of_one(history: list[int]) -> dict[str, Float32]:
    """What is said of the three items by one history."""
    return {name: values[0] for name, values in signals().named([np.array(history)]).items()}


def test_tables_are_read_in_three_ways() -> None:
    found = of_one([0])
    np.testing.assert_allclose(found["follows"], [0, 0.8, 0], atol=1e-6)
    np.testing.assert_allclose(found["root of follows"], [0, 0.8**0.5, 0], atol=1e-6)
    # a to b to c; back to itself does not count.
    np.testing.assert_allclose(found["root of two_steps"], [0, 0, (0.8 * 0.5) ** 0.5], atol=1e-6)
    # a stands after b.
    np.testing.assert_allclose(found["precedes"], [0, 0.2, 0], atol=1e-6)
    np.testing.assert_allclose(found["popularity"], np.log([1, 2, 4]), atol=1e-6)


def test_the_newest_counts_most() -> None:
    # b is newest: weight 1 of 1.5, a 0.5 of 1.5.
    np.testing.assert_allclose(of_one([0, 1])["follows"], [0.2 / 1.5, 0.4 / 1.5, 0.5 / 1.5], atol=1e-6)
    np.testing.assert_allclose(of_one([0, 1])["met"], [1.5, 2, 0], atol=1e-6)


def test_cosines_with_what_was_met() -> None:
    found = of_one([0, 1])
    np.testing.assert_allclose(found["graph, newest"], [0.6, 1, 0], atol=1e-6)
    np.testing.assert_allclose(found["graph, nearest"], [1, 1, 0], atol=1e-6)
    # b stands for the three that the history lacks.
    np.testing.assert_allclose(found["graph, mean"], [0.68, 0.92, 0], atol=1e-6)


def test_a_history_says_the_same_alone_and_among_longer_ones() -> None:
    histories = [np.array([1, 0]), np.array([0, 1, 2, 0, 1, 2, 0])]
    together = signals().named(histories)
    for name, values in of_one([1, 0]).items():
        np.testing.assert_allclose(together[name][0], values, atol=1e-6)


def test_having_been_met_says_nothing_where_nothing_is_met_again() -> None:
    assert "met" not in signals(repeats=False).named([np.array([0])])


def test_read_as_written(tmp_path: Path) -> None:
    signals().write(tmp_path)
    read = Signals.open(tmp_path)
    histories = [np.array([0, 2]), np.array([1])]
    for name, values in signals().named(histories).items():
        assert read.named(histories)[name] == pytest.approx(values)
