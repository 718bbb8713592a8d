"""A temperature from answers, on a student that is surer than it is right."""

import numpy as np
import pytest

from training.labels.calibration import calibrate, expected_calibration_error, fit_temperature, tempered


def surer(count: int, seed: int, times: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn by a score, and probabilities of that score `times` over."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 1.5, count)
    labels = (rng.random(count) < 1 / (1 + np.exp(-scores))).astype(np.int64)
    told = 1 / (1 + np.exp(-times * scores))
    return np.stack([1 - told, told], axis=1), labels


def test_the_temperature_undoes_how_much_too_sure_a_student_is() -> None:
    soft, labels = surer(4000, 1)
    assert fit_temperature(soft, labels) == pytest.approx(2, abs=0.15)
    others, truth = surer(4000, 2)
    cooler = tempered(others, fit_temperature(soft, labels))
    assert expected_calibration_error(others, truth) > 0.08
    assert expected_calibration_error(cooler, truth) < 0.03
    assert (cooler.argmax(axis=1) == others.argmax(axis=1)).all()
    assert cooler.sum(axis=1) == pytest.approx(1)


def test_few_answers_say_little_and_none_says_nothing() -> None:
    soft, labels = surer(4000, 1)
    assert fit_temperature(soft[:0], labels[:0]) == 1
    few, many = fit_temperature(soft[:16], labels[:16]), fit_temperature(soft[:400], labels[:400])
    assert 0.9 < few < many
    # A dozen that are all right must not make a student sure of everything.
    right = soft.argmax(axis=1)[:12]
    assert fit_temperature(soft[:12], right) > 0.7
    assert fit_temperature(soft[:12], right, spread=50.0) < 0.2


def test_an_answer_does_not_judge_the_temperature_that_it_was_fitted_to() -> None:
    soft, labels = surer(600, 3)
    told = calibrate(soft, labels)
    assert told.answers == 600
    assert told.loss_after < told.loss_before
    assert told.ece_after < told.ece_before
    # Fitted and judged on the same answers the loss is lower.
    same = tempered(soft, told.temperature)[np.arange(600), labels]
    assert told.loss_after > -np.log(same).mean()
    assert calibrate(soft[:1], labels[:1]).answers == 1
