"""Labels from seed words: the label model teaches a student, which then reads every text."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from training.labels.functions import Votes
from training.labels.label_model import LabelModel, fit_label_model, offset, softmax
from training.labels.student import Student, balanced, fit_student
from training.labels.task import Floats, Ints

# Rounds of the student teaching the next one, and how much surer it is made of what it says.
ROUNDS, SHARPER = 3, 1.3
# What a person's label counts, in texts; and in how many a belief about the classes' shares would have to be seen.
GOLD_COUNTS, SHARES_COUNT = 20.0, 100.0


class TooLittle(ValueError):
    """The words of the task are in too few texts, or of a class in none."""


@dataclass(frozen=True, slots=True)
class Synthesis:
    """`student` has the last word on each text; `functions` says which of the seed words to believe."""

    student: Student
    functions: LabelModel


def synthesise(
    features: sparse.csr_matrix,
    votes: Votes,
    classes: int,
    shares: Floats | None = None,
    gold: Mapping[int, int] | None = None,
    balance: float = 0.0,
    focal: float = 0.0,
) -> Synthesis:
    """Learns from texts without labels: features (texts, features), `votes` of the same texts.

    The label model combines the votes; a student learns what it says of the texts with a vote and so learns the words
    beside the seeds (weak supervision); both together teach the next student on all texts, which teaches the next
    (self-training, Scudder 1965). Where `shares` (classes,) of the classes are believed, every teacher is moved until
    its mean is that, without which such a loop runs into the larger class. `gold`: labels of a person, row to class.
    `balance`: see student.balanced; `focal`: see fit_student.
    Raises TooLittle.
    """
    gold = gold or {}
    heard = np.asarray(votes.fired.sum(axis=1)).ravel() > 0
    spoken = np.unique(votes.says[np.asarray(votes.fired.sum(axis=0)).ravel() > 0])
    if len(spoken) < classes and not gold:
        raise TooLittle(f"words: those of {classes - len(spoken)} of the {classes} classes are in no text")
    if gold and shares is not None:
        counts = np.bincount(list(gold.values()), minlength=classes)
        shares = (counts + SHARES_COUNT * shares) / (len(gold) + SHARES_COUNT)
    functions = fit_label_model(votes, classes, shares)
    said = np.log(functions.soft(votes))
    weights = np.ones(len(heard))
    weights[list(gold)] = GOLD_COUNTS

    def taught(scores: Floats, rows: Ints) -> Student:
        soft = softmax(scores)
        soft[list(gold)] = np.eye(classes)[list(gold.values())]
        even = weights[rows] * balanced(soft[rows], balance)
        student = fit_student(features[rows], soft[rows], even, focal=focal)
        return student if shares is None else _moved(student, offset(student.scores(features), shares))

    known = heard.copy()
    known[list(gold)] = True
    student = taught(said, np.flatnonzero(known))
    everything = np.arange(len(heard))
    for number in range(ROUNDS):
        scores = np.log(student.soft(features) + 1e-12)
        if number == 0 and shares is not None:
            scores = scores + np.where(heard[:, None], said, 0)
            scores += offset(scores, shares)
        student = taught(SHARPER * scores, everything)
    return Synthesis(student, functions)


def _moved(student: Student, by: Floats) -> Student:
    return Student(student.weights, student.bias + by)
