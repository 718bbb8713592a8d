"""Histories keep their events and their order when they share rows."""

import numpy as np

from training.ranker.sequences.files import Sequences
from training.ranker.sequences.packing import NOTHING, Windows, pack, ranges


def test_rows_are_filled_in_order() -> None:
    packed = pack(np.array([0, 10, 20]), np.array([2, 13, 22]), 4)
    assert packed.event.tolist() == [[0, 1, -1, -1], [10, 11, 12, -1], [20, 21, -1, -1]]
    assert packed.segment.tolist() == [[0, 0, -1, -1], [1, 1, 1, -1], [2, 2, -1, -1]]
    assert packed.number.tolist() == [[0, 1, 0, 0], [0, 1, 2, 0], [0, 1, 0, 0]]
    assert pack(np.array([0, 10]), np.array([2, 12]), 4).event.tolist() == [[0, 1, 10, 11]]


def test_windows_hold_each_place_that_is_followed_once() -> None:
    sequences = Sequences(["a"], np.zeros(13, np.int64), np.array([0, 10, 13]))
    windows = Windows.of(sequences, 4)
    # The shopper of three has one event to learn from and nothing that it is followed by.
    assert sorted(zip(windows.begin.tolist(), windows.end.tolist(), strict=True)) == [(0, 3), (3, 7)]
    assert (windows.end - windows.begin).sum() == 7
    steps = windows.steps(4, np.random.default_rng(1))
    assert sorted(np.concatenate(steps).tolist()) == [0, 1]


def test_ranges() -> None:
    assert ranges(np.array([3, 9, 5]), np.array([5, 9, 8])).tolist() == [3, 4, 5, 6, 7]
    assert NOTHING not in ranges(np.array([0]), np.array([3]))
