"""The heads find what decides, are calibrated, and leave alone what never varied."""

import numpy as np
import pytest
from numpy.typing import NDArray

from services.domain.features import FEATURES, SCENES
from training.ranker.heads import SCENE_WEIGHTS, Rows, calibration, calibration_error, fit


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


def test_they_know_how_unsure_they_are() -> None:
    """Over shops drawn anew: what is told lies within twice its deviation of the truth as often as it should, for the
    candidates most and least like those learned from, where a deviation that is the same for all is too wide or narrow.
    """
    rng = np.random.default_rng(3)
    width, shops, learned = len(FEATURES), 25, 400
    usual = rng.random((2_000, width), np.float32)
    # Held out: some as usual, some that have more of everything than was ever seen.
    held_out = np.concatenate([usual[:100], 0.5 + 2.5 * (usual[100:200] - 0.5)])
    weights, bias = 1.5 * rng.standard_normal(width).astype(np.float32), np.float32(-1)
    errors, told = np.zeros((shops, 200)), np.zeros((shops, 200))
    for shop in range(shops):
        features = usual[rng.integers(0, len(usual), learned)]
        clicked = rng.random(learned) < 1 / (1 + np.exp(-((features - 0.5) @ weights + bias)))
        labels = np.repeat(clicked[:, None], 3, axis=1).astype(np.float32)
        heads = fit(Rows(features, labels, np.arange(learned), np.ones(learned, np.float32)))
        truth = (held_out - 0.5) @ weights + bias
        errors[shop] = (held_out @ heads.weights + heads.bias)[:, 0] - truth
        told[shop] = heads.deviation(held_out)[:, 0]
    same = np.full_like(told, np.sqrt((errors**2).mean()))
    near, far = slice(100), slice(100, 200)
    within = {
        (name, part.start or 0): float((np.abs(errors[:, part]) < 2 * deviation[:, part]).mean())
        for name, deviation in (("told", told), ("same", same))
        for part in (near, far)
    }
    for start in (0, 100):
        assert 0.88 < within["told", start] < 0.99
    assert within["same", 0] > 0.995
    assert within["same", 100] < within["told", 100]

    def likelihood(deviation: NDArray[np.float64]) -> float:
        return float((-0.5 * (errors / deviation) ** 2 - np.log(deviation)).mean())

    assert likelihood(told) > likelihood(same) + 0.1


def test_what_never_varied_adds_no_doubt() -> None:
    rng = np.random.default_rng(4)
    features = rng.random((500, len(FEATURES)), np.float32)
    features[:, 3] = 0
    labels = (rng.random((500, 3)) < 0.2).astype(np.float32)
    heads = fit(Rows(features, labels, np.arange(500), np.ones(500, np.float32)))
    other = features.copy()
    other[:, 3] = 5
    assert heads.deviation(other) == pytest.approx(heads.deviation(features))


def test_what_nobody_ever_did_is_not_known() -> None:
    rng = np.random.default_rng(5)
    features = rng.random((500, len(FEATURES)), np.float32)
    labels = np.zeros((500, 3), np.float32)
    labels[:100, 0] = 1
    told = fit(Rows(features, labels, np.arange(500), np.ones(500, np.float32))).deviation(features).mean(axis=0)
    assert np.isfinite(told).all()
    assert told[1] > 3 * told[0]


def test_calibration_error_by_hand() -> None:
    labels = np.array([1.0] * 50 + [0.0] * 50)
    assert calibration_error(labels, labels) == 0
    assert calibration_error(np.full(100, 0.5), labels) == pytest.approx(0.5)
    told = calibration(np.full(100, 0.3, np.float32), labels.astype(np.float32))
    assert told["mean"] == pytest.approx(0.3)
    assert told["rate"] == 0.5
    # Labels stand in order, so each of the ten bins holds one kind: wrong by .7 in five of them and by .3 in five.
    assert told["ece"] == pytest.approx(0.5)


def test_every_scene_has_its_weights() -> None:
    assert set(SCENE_WEIGHTS) == set(SCENES)
    assert all(len(weights) == 3 and max(weights) > 0 for weights in SCENE_WEIGHTS.values())
