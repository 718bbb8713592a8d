"""Walks carry what followed one item to items like it, which nobody met."""

from itertools import pairwise

import numpy as np

from training.labels.histories import alike, walk
from training.ranker.sequences.follows import find_follows

# Items 0 and 4 are alike, and 1 and 5; 4 and 5 were never met, 3 is like nothing.
VECTORS = np.eye(6, dtype=np.float32)[[0, 1, 2, 3, 0, 1]]
MET = np.array([[0, 1], [0, 1], [1, 2], [2, 3]])


def walks(vectors: np.ndarray) -> list[list[int]]:
    owner, item = np.repeat(np.arange(len(MET)), 2), MET.ravel()
    follows, counts = find_follows(owner, item, 6), np.bincount(item, minlength=6)
    return [one.tolist() for one in walk(follows, alike(vectors, 2), counts, 300, seed=1)]


def test_likeness_sums_to_one_where_there_is_any() -> None:
    found = alike(VECTORS, 2).toarray()
    assert found[0].tolist() == [0, 0, 0, 0, 1, 0]
    assert found[3].sum() == 0


def test_what_followed_an_item_follows_what_is_like_it() -> None:
    steps = {(one, two) for history in walks(VECTORS) for one, two in pairwise(history)}
    assert {(0, 1), (4, 1), (0, 5), (0, 4)} <= steps
    # Without texts there are only steps that shoppers took, there or back.
    plain = walks(np.zeros_like(VECTORS))
    taken = {tuple(sorted(pair)) for pair in MET.tolist()}
    assert {tuple(sorted(pair)) for history in plain for pair in pairwise(history)} <= taken


def test_a_history_is_of_different_items_and_of_three_at_least() -> None:
    found = walks(VECTORS)
    assert found == walks(VECTORS)
    assert min(map(len, found)) >= 3
    assert all(len(set(one)) == len(one) for one in found)
