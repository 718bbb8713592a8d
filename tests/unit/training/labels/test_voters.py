"""Scores of models become probabilities that no class wins by what is said of every text, and votes."""

import numpy as np
import pytest
from scipy import sparse

from training.labels.functions import Votes
from training.labels.label_model import fit_label_model
from training.labels.voters import calibrated, with_surest


def test_what_is_said_of_every_text_and_of_every_class_tells_nothing() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    scores = 2.0 * np.eye(3)[labels] + 0.3 * rng.standard_normal((600, 3))
    found = calibrated(scores, None)
    assert (found.argmax(axis=1) == labels).mean() > 0.95
    # A class whose words are likelier anywhere, a text in which any word is.
    biased = scores + np.array([9.0, 0, 0]) + 5 * rng.standard_normal((600, 1))
    assert calibrated(biased, None) == pytest.approx(found)
    assert calibrated(scores, np.array([0.6, 0.3, 0.1])).mean(axis=0) == pytest.approx([0.6, 0.3, 0.1], abs=1e-3)


def test_the_surest_half_votes() -> None:
    votes = Votes(sparse.csr_matrix((4, 1)), np.array([1]), ("steps",))
    soft = np.array([[0.9, 0.1], [0.51, 0.49], [0.2, 0.8], [0.45, 0.55]])
    found = with_surest(votes, soft, ["like kettle", "like ladder"])
    assert found.names == ("steps", "like kettle", "like ladder")
    assert found.says.tolist() == [1, 0, 1]
    assert found.fired.toarray()[:, 1:].tolist() == [[1, 0], [0, 0], [0, 1], [0, 0]]


def test_models_that_err_alike_are_believed_as_far_as_the_seed_words_agree() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 2000)
    # Seed words, three a class, each in a fifth of the texts and right in nine of ten; two models that say the same.
    words = [(labels == place) ^ (rng.random(2000) < 0.1) for place in (0, 0, 0, 1, 1, 1)]
    fired = sparse.csr_matrix(np.stack([one & (rng.random(2000) < 0.2) for one in words], axis=1).astype(float))
    votes = Votes(fired, np.array([0, 0, 0, 1, 1, 1]), tuple("abcdef"))
    wrong = np.eye(2)[rng.integers(0, 2, 2000)] * 0.8 + 0.1 + 0.01 * rng.random((2000, 2))
    for name in "xy":
        votes = with_surest(votes, wrong, [f"{name}0", f"{name}1"])
    assert votes.models == 4
    model = fit_label_model(votes, 2, np.full(2, 0.5))
    assert model.accuracy[6:] == pytest.approx(np.full(4, 0.5), abs=0.08)
    assert model.accuracy[:6].min() > 0.8
    assert fit_label_model(votes.words(), 2, np.full(2, 0.5)).accuracy == pytest.approx(model.accuracy[:6])
