"""How sure labels may be said to be: one temperature, from a person's answers."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from training.labels.label_model import softmax
from training.labels.task import Floats, Ints

# Before any answer the logarithm of the temperature is believed to lie about 0 by so much (standard deviation): a few
# answers can be right by chance, and unheld would tell a student to be sure of everything.
SPREAD = 0.2
FOLDS, BINS = 5, 15
_LEAST, _MOST = 0.1, 10.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the answers say of the confidence. Errors and losses (nats) are of answers that the temperature they were
    judged with was not fitted to; of few answers an expected calibration error is mostly chance."""

    temperature: float
    answers: int
    ece_before: float
    ece_after: float
    loss_before: float
    loss_after: float


def fit_temperature(soft: Floats, labels: Ints, spread: float = SPREAD) -> float:
    """What to divide the scores by so that the answers are likeliest (Guo et al. 2017), between .1 and 10.

    `soft`: probabilities (answers, classes) of a student that has not seen the answers; `labels`: them (answers,).
    Drawn towards 1 as a normal belief of `spread` about its logarithm says, which fades as answers come in. 1 without
    an answer.
    """
    if not len(labels):
        return 1.0

    def loss(logarithm: float) -> float:
        told = tempered(soft, float(np.exp(logarithm)))
        return _loss(told, labels) * len(labels) + (logarithm / spread) ** 2 / 2

    found = minimize_scalar(loss, bounds=(np.log(_LEAST), np.log(_MOST)), method="bounded")
    return float(np.exp(found.x))


def tempered(soft: Floats, temperature: float) -> Floats:
    """Probabilities (texts, classes) whose scores are divided by the temperature: the likeliest class stays."""
    return softmax(np.log(np.maximum(soft, 1e-12)) / temperature)


def calibrate(soft: Floats, labels: Ints, seed: int = 0) -> Calibration:
    """The temperature of all answers, and what such a one does to answers that it was not fitted to (by 5 folds).

    `soft`: as for fit_temperature; at least one answer.
    """
    fold = np.random.default_rng(seed).permutation(len(labels)) % FOLDS
    after = np.zeros_like(soft)
    for one in range(FOLDS):
        others = fold != one
        after[~others] = tempered(soft[~others], fit_temperature(soft[others], labels[others]))
    return Calibration(
        fit_temperature(soft, labels),
        len(labels),
        expected_calibration_error(soft, labels),
        expected_calibration_error(after, labels),
        _loss(soft, labels),
        _loss(after, labels),
    )


def expected_calibration_error(soft: Floats, labels: Ints) -> float:
    """Mean gap between how sure and how often right, in 15 bins of equal width (Guo et al. 2017), from 0 to 1."""
    said, sure = soft.argmax(axis=1), soft.max(axis=1)
    right = said == labels
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs(right[bins == one].sum() - sure[bins == one].sum()) for one in range(BINS)]
    return float(sum(gaps) / len(right))


def _loss(soft: Floats, labels: Ints) -> float:
    return float(-np.log(np.maximum(soft[np.arange(len(labels)), labels], 1e-12)).mean())
