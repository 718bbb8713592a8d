"""Hard negatives look like answers and are none."""

import numpy as np

from training.encoder.negatives import Words, hard_negatives
from training.encoder.shops import Query

TEXTS = ["red running shoes", "blue running shoes", "running shorts", "kettle", "red mug of the red shop"]


def test_words_find_what_shares_them() -> None:
    words = Words(TEXTS)
    assert words.best("red shoe", 3).tolist()[0] == 0
    assert set(words.best("red shoe", 5).tolist()) == {0, 1, 4}
    assert words.best("teapot", 3).tolist() == []


def unit(*angles: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    radians = np.deg2rad(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_what_is_nearer_than_the_answer_less_the_margin_is_left_out() -> None:
    query, vector = Query("q", {0: 3.0, 1: 1.0, 5: 0.0}), unit(0)[0]
    items = unit(30, 80, 10, 32, 40, 60)
    found = hard_negatives(query, vector, items, np.arange(6), 0.05, 10)
    # 2 is nearer than the answer, 3 within the margin of it, 1 is an answer of a lower grade.
    assert found.tolist() == [4, 5]
    assert hard_negatives(query, vector, items, np.arange(6), 0.0, 1).tolist() == [3]
    assert hard_negatives(query, vector, items, np.arange(6), -2.0, 10).tolist() == [2, 3, 4, 5]
