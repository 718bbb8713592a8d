"""The heads find what decides, are calibrated, and leave alone what never varied."""

import numpy as np
import pytest

from services.domain.features import FEATURES, SCENES
from training.ranker.heads import SCENE_WEIGHTS, Rows, calibration_error, fit


def test_they_find_what_decides_and_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    features = rng.random((20_000, len(FEATURES)), np.float32)
    constant = FEATURES.index("in_cart")
    features[:, constant] = 1
    truth = 1 / (1 + np.exp(-(4 * features[:, [0, 1, 6]] - 4)))
    labels = (rng.random((20_000, 3)) < truth).astype(np.float32)
    half = 10_000
    heads = fit(Rows(features[:half], labels[:half], np.zeros(half, np.int64), np.ones(half, np.float32)))
    assert np.abs(heads.weights).argmax(axis=0).tolist() == [0, 1, 6]
    assert heads.weights[constant].tolist() == [0, 0, 0]
    probability = heads.probability(features[half:])
    for column in range(3):
        assert calibration_error(probability[:, column], labels[half:, column]) < 0.02
    assert np.abs(probability - truth[half:]).max() < 0.2


def test_calibration_error_by_hand() -> None:
    labels = np.array([1.0] * 50 + [0.0] * 50)
    assert calibration_error(labels, labels) == 0
    assert calibration_error(np.full(100, 0.5), labels) == pytest.approx(0.5)


def test_every_scene_has_its_weights() -> None:
    assert set(SCENE_WEIGHTS) == set(SCENES)
    assert all(len(weights) == 3 and max(weights) > 0 for weights in SCENE_WEIGHTS.values())
