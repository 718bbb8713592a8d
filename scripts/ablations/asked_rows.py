"""What labels of the rows that ask.csv asks for bring over labels of rows drawn at random.

    python scripts/ablations/asked_rows.py --data reviews.csv.gz --task sentiment_zh --seeds 0 1 2

A fifth of the texts, drawn by seed, is the test. The rest is learned from without labels; then so many labels are
added, of the rows that `training.labels.ask` names (`asked`), of those whose two likeliest classes are nearest
(`margin`) or of rows drawn by seed (`random`, the mean of several draws).
"""

import argparse
from pathlib import Path

import numpy as np

from training.labels.ask import ask
from training.labels.functions import vote
from training.labels.measure import TEST, Measures, measure, over_seeds
from training.labels.student import vectoriser
from training.labels.synthesis import synthesise
from training.labels.task import UNLABELLED, Ints, read_task, read_texts

_DRAWS = 3
_KEYS = tuple(Measures.__dataclass_fields__)


def main() -> None:
    """Prints accuracy, macro-F1 and ECE of each way, means and deviations over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CSV of the reviews, with labels.")
    parser.add_argument("--task", required=True)
    parser.add_argument("--budgets", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--rows", type=int, default=8000, help="Texts at most.")
    given = parser.parse_args()
    task = read_task(given.task)
    everything = read_texts(given.data, task)
    labelled = np.flatnonzero(everything.label != UNLABELLED)
    runs = []
    for seed in given.seeds:
        rng = np.random.default_rng(seed)
        texts = everything.take(rng.permutation(labelled)[: given.rows])
        features, votes = vectoriser(task.language).fit_transform(texts.text), vote(task, texts.text)
        test, pool = np.split(np.arange(len(texts)), [int(TEST * len(texts))])
        learned, heard, labels = features[pool], votes.take(pool), texts.label[pool]

        def taught(rows: Ints) -> Measures:
            gold = dict(zip(rows.tolist(), labels[rows].tolist(), strict=True))  # noqa: B023
            made = synthesise(learned, heard, len(task.classes), task.shares, gold)  # noqa: B023
            return measure(made.student.soft(features[test]), texts.label[test])  # noqa: B023

        blind = synthesise(learned, heard, len(task.classes), task.shares)
        soft = blind.student.soft(learned)
        best = -np.sort(-soft, axis=1)
        found = {"no label": measure(blind.student.soft(features[test]), texts.label[test])}
        for budget in given.budgets:
            found[f"asked {budget}"] = taught(ask(learned, soft, budget))
            found[f"margin {budget}"] = taught(np.argsort(best[:, 0] - best[:, 1], kind="stable")[:budget])
            draws = [{"": taught(rng.permutation(len(pool))[:budget])} for _ in range(_DRAWS)]
            found[f"random {budget}"] = Measures(**{key: over_seeds(draws)[""][key] for key in _KEYS})
        runs.append(found)
        print(seed, {name: f"{one.accuracy:.3f} {one.macro_f1:.3f}" for name, one in found.items()}, flush=True)
    for name, one in over_seeds(runs).items():
        told = (f"{one[key]:.3f} ± {one[f'{key}_sd']:.3f}" for key in ("accuracy", "macro_f1", "ece"))
        print(f"{name:12}", *told, sep="  ")


if __name__ == "__main__":
    main()
