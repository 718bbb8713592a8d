"""Partners are drawn as often as their scores say."""

import numpy as np

from training.ranker.neighbours import Neighbours
from training.ranker.sequences.companions import Companions


def test_draws_follow_the_scores() -> None:
    scores = np.array([0.1, 0.3, 0.5], np.float32)
    companions = Companions.of(Neighbours(np.array([0, 2, 2, 3]), np.array([1, 2, 0]), scores))
    rng = np.random.default_rng(1)
    drawn = companions.draw(np.zeros(4000, np.int64), rng)
    assert set(drawn.tolist()) == {1, 2}
    assert abs((drawn == 2).mean() - 0.75) < 0.03
    # Without partners it is the item itself; the last item's draw stays its own.
    assert companions.draw(np.array([1, 2, 1]), rng).tolist() == [1, 0, 1]


def test_nobody_has_partners() -> None:
    none = Companions.of(Neighbours(np.zeros(4, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)))
    assert none.draw(np.array([2, 0]), np.random.default_rng(1)).tolist() == [2, 0]
