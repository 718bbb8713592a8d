"""Hard negatives look like answers and are none."""

import numpy as np
import torch

from tests.unit.training.encoder import tiny
from training.encoder.model import encode
from training.encoder.negatives import Guide, Words, hard_negatives, likely_answers
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


def test_an_item_of_the_batch_as_near_as_the_answer_is_no_negative() -> None:
    query, items = unit(0)[0], unit(30, 10, 32, 40, 90)
    assert likely_answers(query, items, 0, 0.05).tolist() == [True, True, True, False, False]
    assert likely_answers(query, items, 0, -0.05).tolist() == [False, True, False, False, False]
    # The answer of another query of the same batch is measured against that answer.
    assert likely_answers(query, items, 3, 0.0).tolist() == [True, True, True, False, False]


def test_the_guide_stays_what_the_model_was() -> None:
    model = tiny.model()
    texts = ["red kettle", "blue toaster acme", "red kettle"]
    before = encode(model, texts, 8)
    guide = Guide(model, 8, 8, "fp32")
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.mul_(1.5)
    assert np.abs(encode(model, texts, 8) - before).max() > 0.01
    np.testing.assert_allclose(guide.queries(texts), before, atol=1e-6)
    np.testing.assert_allclose(guide.items(texts[::-1]), before[::-1], atol=1e-6)
