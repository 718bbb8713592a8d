"""What the reviews of a shop's rich categories bring to the sentiment of a poor one that has few labels of its own.

    python scripts/ablations/category_transfer.py --data reviews.csv.gz --own 32 128 --seeds 0 1 2

Each category of the Chinese reviews is in turn the poor one: half of its texts, drawn by seed, is the test, and so many
labels are drawn from the other half. `rich`: the student of all other categories, without an own label. `own`: the own
labels from scratch. `both`: one student of both, an own label counting as many texts as a person's.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score

from training.labels.student import fit_student, vectoriser
from training.labels.synthesis import GOLD_COUNTS
from training.labels.task import UNLABELLED, Ints, Texts, read_rows, read_task, read_texts

TASK, CATEGORY = "sentiment_zh", "cat"


def main() -> None:
    """Prints macro-F1 of each category and the mean over all, by way and by labels of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CSV of the reviews, with the columns cat and label.")
    parser.add_argument("--own", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--rows", type=int, default=1000, help="Texts of each category at most.")
    given = parser.parse_args()
    texts = read_texts(given.data, read_task(TASK))
    rows = read_rows(given.data)
    category = np.array([rows[row - 1][CATEGORY] for row in texts.row.tolist()])
    kinds = sorted(set(category.tolist()))
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in kinds}
    for seed in given.seeds:
        rng = np.random.default_rng(seed)
        drawn = np.concatenate([_some(rng, texts, category == kind, given.rows) for kind in kinds])
        features = vectoriser("zh").fit_transform([texts.text[row] for row in drawn])
        labels, of = texts.label[drawn], category[drawn]
        for kind in kinds:
            poor, rich = rng.permutation(np.flatnonzero(of == kind)), np.flatnonzero(of != kind)
            test, pool = np.split(poor, [len(poor) // 2])
            if len(np.unique(labels[test])) < 2:
                continue
            taught = np.eye(2)[labels]
            said = {"rich": fit_student(features[rich], taught[rich])}
            for own in given.own:
                few = pool[:own]
                said[f"own {own}"] = fit_student(features[few], taught[few])
                both = np.concatenate([rich, few])
                counted = np.where(np.arange(len(both)) < len(rich), 1.0, GOLD_COUNTS)
                said[f"both {own}"] = fit_student(features[both], taught[both], counted)
            for way, student in said.items():
                right = f1_score(labels[test], student.scores(features[test]).argmax(axis=1), average="macro")
                found[kind].setdefault(way, []).append(float(right))
    told = {kind: by_way for kind, by_way in found.items() if by_way}
    ways = list(next(iter(told.values())))
    print(f"{'poor category':10}" + "".join(f"{way:>12}" for way in ways))
    for kind, by_way in told.items():
        print(f"{kind:10}" + "".join(f"{np.mean(by_way[name]):12.3f}" for name in ways))
    means = {name: np.mean([by_way[name] for by_way in told.values()], axis=0) for name in ways}
    print(f"{'mean':10}" + "".join(f"{means[name].mean():12.3f}" for name in ways))
    print(f"{'sd, seeds':10}" + "".join(f"{means[name].std():12.3f}" for name in ways))


def _some(rng: np.random.Generator, texts: Texts, chosen: np.ndarray, most: int) -> Ints:
    """At most so many labelled texts of those chosen."""
    return rng.permutation(np.flatnonzero(chosen & (texts.label != UNLABELLED)))[:most]


if __name__ == "__main__":
    main()
