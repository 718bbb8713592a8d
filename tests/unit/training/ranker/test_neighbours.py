"""Items met together, against a naive count."""

import numpy as np
import pytest

from services.domain.neighbours import latest
from training.ranker.neighbours import find_neighbours


def test_against_a_naive_count() -> None:
    rng = np.random.default_rng(0)
    group, item = np.sort(rng.integers(0, 30, 400)), rng.integers(0, 15, 400)
    found = find_neighbours(group, item, 15, partners=15, window=400)
    baskets = [set(item[group == number].tolist()) for number in range(30)]
    for one in range(15):
        scores = found.of(np.array([one]), np.array([1.0]))
        for two in range(15):
            if one != two:
                both = sum(one in basket and two in basket for basket in baskets)
                alone = [sum(each in basket for basket in baskets) for each in (one, two)]
                assert scores[two] == pytest.approx(both / np.sqrt(alone[0] * alone[1]))
    assert np.isnan(found.of(np.array([3]), np.array([1.0]))[3])
    assert found.of(np.array([3]), np.array([2.0]), own=1.0)[3] == 1.0


def test_a_window_and_a_number_of_partners_bound_it() -> None:
    group, item = np.zeros(6, np.int64), np.arange(6)
    near = find_neighbours(group, item, 6, window=1)
    assert np.flatnonzero(near.of(np.array([2]), np.array([1.0])) > 0).tolist() == [1, 3]
    few = find_neighbours(group, item, 6, partners=2)
    assert np.diff(few.starts).tolist() == [2] * 6


def test_the_latest_different_items_newest_first() -> None:
    items, weights = latest(np.array([1, 2, 1, 3]), 2, 0.5)
    assert items.tolist() == [3, 1]
    assert weights.tolist() == [1, 0.5]
    assert find_neighbours(np.empty(0, np.int64), np.empty(0, np.int64), 4).of(items, weights, 0.0).tolist() == [0] * 4
