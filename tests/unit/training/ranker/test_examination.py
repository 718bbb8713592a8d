"""How much a place is looked at is told apart from what stands there, or not at all."""

from pathlib import Path

import numpy as np
import pytest

from services.domain.features import FEATURES
from tests.unit.training.policy.shop import LOOKED_AT, shop
from training.data.canonical import Dataset
from training.ranker.answers import Answers, read_answers
from training.ranker.examination import Unrandomised, at_place, examination
from training.ranker.heads import Rows, fit
from training.ranker.log import read_log


def answers_of(dataset: Dataset) -> Answers:
    return read_answers(dataset, read_log(dataset, dataset.events(), 1), everybody=True)


def test_it_is_found_and_never_grows(tmp_path: Path) -> None:
    curve = examination(answers_of(shop(tmp_path / "d", 2_000)))
    assert curve == pytest.approx(LOOKED_AT, abs=0.08)
    assert (np.diff(curve) <= 0).all()
    assert at_place(curve, np.array([0, 3, 99])).tolist() == [1.0, curve[3], curve[3]]


def test_an_order_that_was_certain_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(Unrandomised, match="gave 25% of what such an order would show a chance, 90% is needed"):
        examination(answers_of(shop(tmp_path / "d", 50, random=False)))


def test_heads_learn_what_is_wanted_and_not_where_it_stood() -> None:
    """Two kinds of items wanted alike; one stood where few look."""
    rng = np.random.default_rng(0)
    n = 6_000
    features = np.zeros((n, len(FEATURES)), np.float32)
    kind, better = rng.random(n) < 0.5, rng.random(n) < 0.5
    features[:, 0], features[:, 1] = kind, better
    looked_at = np.where(kind, 1.0, 0.3).astype(np.float32)
    wanted = np.where(better, 0.6, 0.2)
    clicks = rng.random(n) < looked_at * wanted
    labels = np.repeat(clicks[:, None], 3, axis=1).astype(np.float32)
    moment = np.zeros(n, np.int64)
    plain = fit(Rows(features, labels, moment, np.ones(n, np.float32)))
    corrected = fit(Rows(features, labels, moment, looked_at))
    assert plain.weights[0, 0] > 1
    assert abs(corrected.weights[0, 0]) < 0.25
    assert corrected.probability(features)[:, 0] == pytest.approx(wanted, abs=0.06)
