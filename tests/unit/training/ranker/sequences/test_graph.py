"""Items that follow each other stand together; what nothing follows stands nowhere."""

import numpy as np

from training.ranker.sequences.follows import find_follows
from training.ranker.sequences.graph import directions


def test_what_follows_each_other_stands_together() -> None:
    # Shoppers walk either among 0 to 3 or among 4 to 7; nobody meets 8.
    rng = np.random.default_rng(1)
    item = np.concatenate([rng.permutation(4) + 4 * (shopper % 2) for shopper in range(40)])
    found = directions(find_follows(np.repeat(np.arange(40), 4), item, 9), 2, seed=3)
    assert found.shape == (9, 2)
    np.testing.assert_allclose(found @ found.T, np.kron(np.diag([1, 1, 0]), np.ones((4, 4)))[:9, :9], atol=0.05)


def test_more_directions_than_items() -> None:
    table = find_follows(np.zeros(3, np.int64), np.array([0, 1, 2]), 3)
    assert directions(table, 128, seed=1).shape == (3, 3)
