"""What follows an item counts by distance, direction and how often both are met, by values worked by hand."""

import numpy as np
import pytest

from training.ranker.sequences.follows import find_follows


def test_scores_by_hand() -> None:
    # Two shoppers: 0 1 2 and 0 1.
    table = find_follows(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 1]), 4)
    found = {
        (item, int(table.items[pair])): float(table.scores[pair])
        for item in range(4)
        for pair in range(table.starts[item], table.starts[item + 1])
    }
    assert found == pytest.approx(
        {
            (0, 1): 2 / (2**0.5 * 2**0.1),
            (0, 2): 0.8 / 2**0.5,
            (1, 2): 1 / 2**0.5,
            (1, 0): 0.6 / (2**0.5 * 2**0.1),
            (2, 1): 0.3 / 2**0.1,
            (2, 0): 0.24 / 2**0.1,
        }
    )
    # The highest of an item stand first.
    assert table.items[table.starts[0] : table.starts[1]].tolist() == [1, 2]


def test_an_item_met_again_does_not_follow_itself() -> None:
    table = find_follows(np.zeros(3, np.int64), np.array([1, 1, 0]), 2)
    assert table.items.tolist() == [1, 0]
