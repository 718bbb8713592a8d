"""How right pairs from behaviour are on generated shops, whose truth is known, beside clicks as they are.

    python scripts/ablations/behaviour_pairs.py --work DIR --seeds 41 42 43

A pair of query and item is right where its chance of a click once looked at lies above that of all that searches
showed; a pair of items where both are of one kind and language. Beside the confidence of `synthesize-pairs`: the same
without correction, clicks a showing, clicks.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from training.data.canonical import open_dataset
from training.data.generate import TRUTH, generate
from training.labels.behaviour import SURE_OF_ITEMS, Counted, clicked_together, searched
from training.labels.task import Bools, Floats
from training.ranker.answers import read_answers
from training.ranker.examination import examination
from training.ranker.log import read_log

LEAST = 0.6
# By pairs and method.
Measured = dict[tuple[str, str], list[float]]


def main() -> None:
    """Prints mean and standard deviation over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="Directory for the shops.")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--shoppers", type=int, default=2000)
    given = parser.parse_args()
    runs = [judged(given, seed) for seed in given.seeds]
    print(f"{'pairs':14} {'by':26} {'n':>14} {'right':>14} {'AUC':>14} {'precision':>14} {'recall':>14} {'ECE':>14}")
    for key in runs[0]:
        columns = np.array([run[key] for run in runs])
        cells = (
            f"{mean:.3f} ± {sd:.3f}" if number > 0 else f"{mean:,.0f}"
            for number, (mean, sd) in enumerate(zip(columns.mean(axis=0), columns.std(axis=0), strict=True))
        )
        print(f"{key[0]:14} {key[1]:26} " + " ".join(f"{cell:>14}" for cell in cells))


def judged(given: argparse.Namespace, seed: int) -> Measured:
    """By pairs and method: how many pairs, the share that is right, AUC, precision and recall of the pairs that the
    command writes (of as many by the other methods), ECE (NaN where a score is no probability)."""
    path = given.work / f"shop-{seed}"
    if not path.exists():
        generate(path, given.items, given.shoppers, seed, impressions=True)
    data = open_dataset(path)
    log = read_log(data, data.events(), 0)
    answers = read_answers(data, log, everybody=True)
    curve = examination(answers)
    as_shown = np.ones_like(curve)
    found: Measured = {}

    pairs, plain = searched(answers, curve), searched(answers, as_shown).counted
    counted = pairs.counted
    truth = pl.read_parquet(path / TRUTH / "impressions.parquet")
    shown = data.impressions().filter(pl.col("scene") == "SEARCH").join(truth, on=["request_id", "item_id"])
    chances = {
        (query, item): chance
        for query, item, chance in shown.group_by("query", "item_id").agg(pl.col("chance").mean()).iter_rows()
    }
    names = zip(counted.one.tolist(), counted.two.tolist(), strict=True)
    chance = np.array([chances[pairs.queries[query], log.item_ids[item]] for query, item in names])
    right = chance > shown["chance"].mean()
    found |= compared("query, item", LEAST, right, counted, plain, counted.clicks / plain.expected)

    kinds = pl.read_parquet(path / TRUTH / "items.parquet")
    kind = {item: (leaf, language) for item, leaf, language in kinds.select("item_id", "leaf", "language").iter_rows()}
    for name, label in (("clicked", 0), ("bought", 2)):
        counted, plain = (clicked_together(answers, one, label) for one in (curve, as_shown))
        both = zip(counted.one.tolist(), counted.two.tolist(), strict=True)
        right = np.array([kind[log.item_ids[one]] == kind[log.item_ids[two]] for one, two in both])
        found |= compared(f"items {name}", SURE_OF_ITEMS, right, counted, plain, plain.clicks / plain.expected)
    return found


def compared(pairs: str, least: float, right: Bools, counted: Counted, plain: Counted, rate: Floats) -> Measured:
    """The four methods on the same pairs."""
    sure = counted.confidence()
    wanted = int((sure >= least).sum())
    scores = {
        "confidence, corrected": sure,
        "confidence, not corrected": plain.confidence(),
        "clicks over showings": rate,
        "clicks": plain.clicks,
    }
    result = {}
    for name, score in scores.items():
        chosen = np.zeros(len(right), np.bool_)
        chosen[np.argsort(-score, kind="stable")[:wanted]] = True
        told = [float(len(right)), float(right.mean()), float(roc_auc_score(right, score))]
        told += [float(right[chosen].mean()), float(right[chosen].sum() / right.sum())]
        result[pairs, name] = [*told, ece(score, right) if name.startswith("confidence") else float("nan")]
    return result


def ece(sure: Floats, right: Bools) -> float:
    """Expected calibration error of probabilities (pairs,), in 15 bins."""
    bins = np.minimum((sure * 15).astype(int), 14)
    return float(sum(abs(right[bins == one].sum() - sure[bins == one].sum()) for one in range(15)) / len(right))


if __name__ == "__main__":
    main()
