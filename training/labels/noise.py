"""Labels that are probably wrong: confident learning."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from training.labels.student import fit_student
from training.labels.task import Bools, Floats, Ints

FOLDS = 5
# More than the student's: it must not learn the wrong labels by heart. The first reads them with all the noise.
FIRST_RIDGE, RIDGE = 1.5, 0.5
# A label as likely wrong as this is a suspect.
DOUBTED = 0.45


def out_of_fold(
    features: sparse.csr_matrix, labels: Ints, classes: int, seed: int, ridge: float, learnt: Bools
) -> Floats:
    """What a student that has not seen a text says of it: probabilities (texts, classes), by 5 folds.

    It learns from `learnt` (texts,) only.
    """
    fold = np.random.default_rng(seed).permutation(len(labels)) % FOLDS
    soft = np.zeros((len(labels), classes))
    for one in range(FOLDS):
        learned = np.flatnonzero((fold != one) & learnt)
        student = fit_student(features[learned], np.eye(classes)[labels[learned]], ridge=ridge)
        soft[fold == one] = student.soft(features[fold == one])
    return soft


def true_classes(features: sparse.csr_matrix, labels: Ints, classes: int, seed: int) -> Floats:
    """How likely each class is the true one, by the text and its label together: (texts, classes).

    A student that has learned from what `suspects` leaves says what the text tells. What it says also tells how often
    each class is given each label; by both the label counts as far as it can be believed (Bayes), so that a label of a
    rare class, most of which may be wrong, counts less.
    """
    first = out_of_fold(features, labels, classes, seed, FIRST_RIDGE, np.ones(len(labels), np.bool_))
    soft = out_of_fold(features, labels, classes, seed + 1, RIDGE, ~suspects(first, labels))
    given = soft.T @ np.eye(classes)[labels]
    given /= given.sum(axis=1, keepdims=True)
    both = soft * given[:, labels].T
    return np.asarray(both / both.sum(axis=1, keepdims=True), np.float64)


def doubted(true: Floats, labels: Ints) -> Bools:
    """Which labels are probably wrong: (texts,). `true`: see true_classes."""
    return np.asarray(1 - true[np.arange(len(labels)), labels] > DOUBTED, np.bool_)


def suspects(soft: Floats, labels: Ints) -> Bools:
    """Which labels to leave out first: (texts,).

    Confident learning (Northcutt, Jiang, Chuang 2021): a text counts as confidently of a class where the probability
    reaches the mean of that class's own texts; those confidently of another class than their label are the off-diagonal
    of the confident joint. As many texts of each label and class, the widest margins first, are suspects ("prune by
    noise rate"). `soft`: out-of-fold probabilities (texts, classes).
    """
    classes = soft.shape[1]
    own = [soft[labels == one, one] for one in range(classes)]
    least = np.array([one.mean() if len(one) else 1.0 for one in own])
    reached = np.where(soft >= least, soft, -1.0)
    confident = np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), labels)
    joint = np.zeros((classes, classes))
    np.add.at(joint, (labels, confident), 1.0)
    # Rows sum to what was counted of each label.
    joint *= (np.bincount(labels, minlength=classes) / np.maximum(joint.sum(axis=1), 1))[:, None]
    found = np.zeros(len(labels), np.bool_)
    for given in range(classes):
        rows = np.flatnonzero(labels == given)
        for other in range(classes):
            if other == given or not len(rows):
                continue
            margin = soft[rows, other] - soft[rows, given]
            widest = np.argsort(-margin, kind="stable")[: round(joint[given, other])]
            found[rows[widest[margin[widest] > 0]]] = True
    return found


@dataclass(frozen=True, slots=True)
class Injected:
    """What is found of noise put in on purpose. Losses: mean cross entropy in nats on clean held-out texts."""

    found: float
    precision: float
    loss_clean: float
    loss_noisy: float
    loss_cleaned: float

    @property
    def excess(self) -> float:
        """What is left of the loss that the noise costs, as a share; 0 where it costs nothing."""
        cost = self.loss_noisy - self.loss_clean
        return (self.loss_cleaned - self.loss_clean) / cost if cost > 0 else 0.0


def inject(features: sparse.csr_matrix, labels: Ints, classes: int, share: float, seed: int) -> Injected:
    """Gives `share` of the labels another class, uniformly, looks for them and learns from what is left.

    A fifth of the texts, drawn by seed, keeps its labels and is what the losses are measured on.
    """
    rng = np.random.default_rng(seed)
    test, rows = np.split(rng.permutation(len(labels)), [len(labels) // 5])
    clean = labels[rows]
    wrong = rng.random(len(rows)) < share
    noisy = np.where(wrong, (clean + rng.integers(1, classes, len(rows))) % classes, clean)
    found = doubted(true_classes(features[rows], noisy, classes, seed), noisy)

    def loss(taught: Ints, kept: Ints) -> float:
        student = fit_student(features[rows[kept]], np.eye(classes)[taught[kept]], ridge=RIDGE)
        soft = student.soft(features[test])[np.arange(len(test)), labels[test]]
        return float(-np.log(np.maximum(soft, 1e-12)).mean())

    everything = np.arange(len(rows))
    return Injected(
        float((found & wrong).sum() / max(1, wrong.sum())),
        float((found & wrong).sum() / max(1, found.sum())),
        loss(clean, everything),
        loss(noisy, everything),
        loss(noisy, np.flatnonzero(~found)),
    )
