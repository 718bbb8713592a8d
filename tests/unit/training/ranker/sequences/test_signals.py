"""The tables beside follows, against values worked by hand."""

import numpy as np
import pytest

from services.domain.neighbours import Neighbours
from training.ranker.sequences.signals import make_signals, unit_rows

# a is followed by b (0.8), b by c (0.5) and a (0.2), c by nothing.
FOLLOWS = Neighbours(np.array([0, 1, 3, 3]), np.array([1, 2, 0]), np.array([0.8, 0.5, 0.2], np.float32))


def table(neighbours: Neighbours) -> list[list[float]]:
    n = len(neighbours.starts) - 1
    rows = np.zeros((n, n))
    for item in range(n):
        part = slice(neighbours.starts[item], neighbours.starts[item + 1])
        rows[item, neighbours.items[part]] = neighbours.scores[part]
    found: list[list[float]] = np.round(rows, 6).tolist()
    return found


def test_follows_taken_twice_and_turned_round() -> None:
    made = make_signals(FOLLOWS, np.array([0, 1, 3]), {}, (20, 0.5), repeats=True)
    # a to b to c and b to a to b, which leads back to itself and does not count.
    assert table(made.two_steps) == [[0, 0, 0.4], [0, 0, 0], [0, 0, 0]]
    assert table(made.precedes) == [[0, 0.2, 0], [0.8, 0, 0], [0, 0.5, 0]]
    np.testing.assert_allclose(made.popularity, np.log([1, 2, 4]), atol=1e-6)


def test_unit_rows_leave_nothing_as_it_is() -> None:
    assert unit_rows(np.array([[3, 4], [0, 0]], np.float32)) == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))
