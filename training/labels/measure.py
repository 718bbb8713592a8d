"""How good labels are: against those of people, and how far their confidence can be believed."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from scipy import sparse
from sklearn.metrics import cohen_kappa_score, f1_score, precision_recall_fscore_support

from training.labels.functions import Votes
from training.labels.student import balanced, fit_student
from training.labels.synthesis import synthesise
from training.labels.task import UNLABELLED, Floats, Ints

TEST, GOLD, BINS = 0.2, 32, 15


@dataclass(frozen=True, slots=True)
class Measures:
    """`ece`: expected calibration error in 15 bins of equal width (Guo et al. 2017). `head_f1`, `tail_f1`: mean F1 of
    the classes with at least as many texts as a class has in the mean, and of those with fewer; of all, where none has.
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
    said, sure = soft.argmax(axis=1), soft.max(axis=1)
    right = said == labels
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs(right[bins == one].sum() - sure[bins == one].sum()) for one in range(BINS)]
    counts = np.bincount(labels, minlength=soft.shape[1])
    each = f1_score(labels, said, labels=np.arange(len(counts)), average=None, zero_division=0)
    head = counts >= counts.mean()
    tail = ~head & (counts > 0) if (~head & (counts > 0)).any() else head
    of_classes = agreement(said, labels).f1, float(sum(gaps) / len(right))
    return Measures(float(right.mean()), *of_classes, float(each[head].mean()), float(each[tail].mean()))


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
    alone: Mapping[str, Floats],
    seed: int,
    step: Callable[[], None],
) -> dict[str, Measures]:
    """The same split for three: no gold label, 32 drawn by seed, and every label of the same student.

    A fifth of the labelled texts, drawn by seed, is the test; of the rest only `gold_32` and `full` see labels. With a
    `balance`, `unbalanced` is zero_gold without it. `alone`: probabilities (texts, classes) by name, of methods that
    are measured as they are.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(labels != UNLABELLED))
    test, pool = np.split(order, [int(TEST * len(order))])
    found = {name: measure(soft[test], labels[test]) for name, soft in alone.items()}
    few = {int(row): int(labels[pool[row]]) for row in rng.choice(len(pool), min(GOLD, len(pool)), replace=False)}
    ways = [("zero_gold", None, balance), (f"gold_{GOLD}", few, balance)]
    ways += [("unbalanced", None, 0.0)] if balance else []
    for name, gold, even in ways:
        made = synthesise(features[pool], votes.take(pool), classes, shares, gold, even)
        found[name] = measure(made.student.soft(features[test]), labels[test])
        step()
    taught = np.eye(classes)[labels[pool]]
    full = fit_student(features[pool], taught, balanced(taught, balance))
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
