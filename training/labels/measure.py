"""How good labels are: against those of people, and how far their confidence can be believed."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from scipy import sparse
from sklearn.metrics import cohen_kappa_score, f1_score, precision_recall_fscore_support

from training.labels.calibration import expected_calibration_error, fit_temperature, tempered
from training.labels.functions import Votes
from training.labels.student import Student, balanced, fit_student
from training.labels.synthesis import synthesise
from training.labels.task import UNLABELLED, Floats, Ints

TEST, GOLD = 0.2, 32


@dataclass(frozen=True, slots=True)
class Measures:
    """`ece`: expected_calibration_error. `head_f1`, `tail_f1`: mean F1 of the classes with at least as many texts as a
    class has in the mean, and of those with fewer; of all, where none has.
    """

    accuracy: float
    macro_f1: float
    ece: float
    head_f1: float
    tail_f1: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Against a gold set: means over the classes, and Cohen's kappa (1960)."""

    precision: float
    recall: float
    f1: float
    kappa: float
    texts: int


def measure(soft: Floats, labels: Ints) -> Measures:
    """Probabilities (texts, classes) against labels (texts,)."""
    said = soft.argmax(axis=1)
    counts = np.bincount(labels, minlength=soft.shape[1])
    each = f1_score(labels, said, labels=np.arange(len(counts)), average=None, zero_division=0)
    head = counts >= counts.mean()
    tail = ~head & (counts > 0) if (~head & (counts > 0)).any() else head
    of_classes = agreement(said, labels).f1, expected_calibration_error(soft, labels)
    return Measures(float((said == labels).mean()), *of_classes, float(each[head].mean()), float(each[tail].mean()))


def agreement(said: Ints, labels: Ints) -> Agreement:
    """What was said (texts,) against labels (texts,)."""
    precision, recall, f1, _ = precision_recall_fscore_support(labels, said, average="macro", zero_division=0)
    same = len(np.unique(np.concatenate([labels, said]))) == 1
    kappa = 1.0 if same else float(cohen_kappa_score(labels, said))
    return Agreement(float(precision), float(recall), float(f1), kappa, len(said))


def protocol(
    features: sparse.csr_matrix,
    votes: Votes,
    labels: Ints,
    classes: int,
    shares: Floats | None,
    balance: float,
    focal: float,
    alone: Mapping[str, Floats],
    seed: int,
    step: Callable[[], None],
) -> dict[str, Measures]:
    """The same split for three: no gold label, 32 drawn by seed, and every label of the same student.

    A fifth of the labelled texts, drawn by seed, is the test; of the rest only `gold_32` and `full` see labels.
    `written` is gold_32 on the other texts of the rest, which it learned from without labels, as from those of
    labels.csv; `calibrated` the same with the temperature that the 32 answers give the student that has not seen them.
    With `balance` or `focal`, `unbalanced` is zero_gold without. `alone`: probabilities (texts, classes) by name, of
    methods that are measured as they are.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(labels != UNLABELLED))
    test, pool = np.split(order, [int(TEST * len(order))])
    found = {name: measure(soft[test], labels[test]) for name, soft in alone.items()}
    few = rng.choice(len(pool), min(GOLD, len(pool)), replace=False)
    gold = dict(zip(few.tolist(), labels[pool[few]].tolist(), strict=True))

    def student(gold: Mapping[int, int] | None, balance: float, focal: float) -> Student:
        made = synthesise(features[pool], votes.take(pool), classes, shares, gold, balance, focal)
        step()
        return made.student

    if balance or focal:
        found["unbalanced"] = measure(student(None, 0.0, 0.0).soft(features[test]), labels[test])
    blind = student(None, balance, focal)
    found["zero_gold"] = measure(blind.soft(features[test]), labels[test])
    taught_few = student(gold, balance, focal)
    found[f"gold_{GOLD}"] = measure(taught_few.soft(features[test]), labels[test])
    others = np.delete(pool, few)
    written = taught_few.soft(features[others])
    temperature = fit_temperature(blind.soft(features[pool[few]]), labels[pool[few]])
    found["written"] = measure(written, labels[others])
    found["calibrated"] = measure(tempered(written, temperature), labels[others])
    taught = np.eye(classes)[labels[pool]]
    full = fit_student(features[pool], taught, balanced(taught, balance), focal=focal)
    found["full"] = measure(full.soft(features[test]), labels[test])
    step()
    return found


def over_seeds(runs: list[dict[str, Measures]]) -> dict[str, dict[str, float]]:
    """Mean over the seeds of each measure, and its standard deviation as `…_sd`."""
    result: dict[str, dict[str, float]] = {}
    for name in runs[0]:
        rows = [asdict(run[name]) for run in runs]
        result[name] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        result[name] |= {f"{key}_sd": float(np.std([row[key] for row in rows])) for key in rows[0]}
    return result
