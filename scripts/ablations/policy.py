"""Heads that learn from clicks as they come, and heads corrected for places, on generated shops whose truth is known.

    python scripts/ablations/policy.py --encoder DIR --work DIR --seeds 31 41 42 43

Of each seed: a shop with impressions, a ranker on all but the last 15% of its answers, the heads learned twice, both
orders judged on what comes after: by off-policy evaluation, and by the chance of a click that the generator knows.
With --without-ranker the estimators alone, on all answers and orders that need no training. Seeds that the results in
WORK hold already are left out: stopped and run again it goes on with the next one.
"""

import argparse
import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from services.domain.features import SCENES
from souk.dataset import read_items
from souk.vectors import Float32
from training.content import Encoder
from training.data.behaviour import EXAMINED
from training.data.canonical import open_dataset
from training.data.generate import TRUTH, generate
from training.evaluate.bootstrap import paired_bootstrap
from training.evaluate.ranking import rows_before
from training.policy.estimators import Logged
from training.policy.evaluate import judge
from training.policy.targets import ordered, popularity_scores, uniform
from training.ranker.answers import Answers, read_answers
from training.ranker.config import OBJECTIVES, RankerConfig
from training.ranker.examination import at_place, examination
from training.ranker.heads import features_of_answer
from training.ranker.log import Floats, Log, read_log
from training.ranker.pipeline import Shop, fit_ranker, make_teller

HELD_OUT = 0.15
# The same epochs for all, however busy the machine is.
CONFIG = RankerConfig(epochs=2, minutes=60)


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="What `encoder export` wrote, or a bundle.")
    parser.add_argument("--work", type=Path, required=True, help="Directory for shops and results.")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--shoppers", type=int, default=700)
    parser.add_argument("--answers", type=int, default=1_500, help="At most so many of those held out are judged.")
    parser.add_argument("--without-ranker", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    results = given.work / ("orders.jsonl" if given.without_ranker else "results.jsonl")
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for seed in given.seeds:
        if all(line["seed"] != seed for line in lines):
            lines.append(judge_orders(given, seed) if given.without_ranker else run(given, seed))
            with results.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
    show(lines)


def open_shop(given: argparse.Namespace, seed: int) -> tuple[Path, Log, Answers, Floats]:
    """The shop of a seed, its answers, and the true chance of each of their items."""
    path = given.work / f"shop-{seed}"
    if not path.exists():
        generate(path, given.items, given.shoppers, seed, impressions=True)
    dataset = open_dataset(path)
    log = read_log(dataset, dataset.events(), CONFIG.seed)
    return path, log, read_answers(dataset, log, everybody=True), true_chance(path)


def judge_orders(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One shop: by popularity, and in the best order there is."""
    _, log, answers, chance = open_shop(given, seed)
    return judged(seed, answers, chance, {"popularity": popularity_scores(answers, log), "best": chance})


def run(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One shop: both rankers, on what comes after what they learned from."""
    path, log, everything, chance = open_shop(given, seed)
    cut = float(everything.time[int(len(everything) * (1 - HELD_OUT))])
    held_out = np.flatnonzero(everything.time >= cut)
    chosen = np.sort(np.random.default_rng(seed).permutation(held_out)[: given.answers])
    chance = chance[np.isin(everything.answer, chosen)]
    late = everything.take(chosen)
    seen = log.time < cut
    shop = Shop.of(log, list(read_items(path)), Encoder.open(given.encoder), given.work / "content", lambda n, of: None)
    past = rows_before(log, seen)
    before = replace(shop, log=past, answers=read_answers(open_dataset(path), past).until(cut))
    scores: dict[str, Floats] = {"popularity": popularity_scores(late, log)}
    features: list[Float32] = []
    for objective in OBJECTIVES:
        config = replace(CONFIG, objective=objective)
        checkpoints = given.work / f"checkpoints-{seed}"
        checkpoints.mkdir(exist_ok=True)
        fitted = fit_ranker(before, config, time.monotonic(), checkpoints, lambda what: None, lambda epoch: None)
        # Both have learned the same Transformer: the second takes it from the checkpoint of the first.
        if not features:
            teller = make_teller(shop, fitted.trained, cut, seen)
            features = [features_of_answer(teller, late, n, np.flatnonzero(late.answer == n)) for n in range(len(late))]
        parts = [
            fitted.heads.score(rows, SCENES[scene - 1])
            for rows, scene in zip(features, late.scene.tolist(), strict=True)
        ]
        scores[objective] = np.concatenate(parts).astype(np.float64)
    shutil.rmtree(checkpoints)
    policy, plain = (page_clicks(late, chance, scores[name]) for name in ("policy", "plain"))
    gain = paired_bootstrap(policy, plain)
    return judged(seed, late, chance, scores | {"best": chance}) | {"gain": asdict(gain)}


def judged(seed: int, answers: Answers, chance: Floats, scores: dict[str, Floats]) -> dict[str, Any]:
    """The truth of every order, and what off-policy evaluation says of it."""
    curve = examination(answers)
    targets = {name: ordered(answers, score, curve) for name, score in scores.items()}
    targets["uniform"] = uniform(answers, curve)
    truth = {name: page_clicks(answers, chance, score) for name, score in scores.items()}
    truth["logged"] = np.bincount(answers.answer, EXAMINED[answers.position] * chance).astype(np.float64)
    truth["uniform"] = np.bincount(answers.answer, uniform(answers, EXAMINED).looked_at * chance).astype(np.float64)
    logged = Logged(
        answers.answer, answers.position, answers.propensity, answers.labels[:, 0].astype(np.float64), answers.shopper
    )
    return {
        "seed": seed,
        "answers": len(answers),
        "curve_error": float(np.abs(curve - at_place(EXAMINED, np.arange(len(curve)))).max()),
        "truth": {name: float(values.mean()) for name, values in truth.items()},
        "found": {name: asdict(judge(logged, target, answers, curve, True)) for name, target in targets.items()},
    }


def true_chance(path: Path) -> Floats:
    """The chance of a click once looked at of every row, in the order of the answers."""
    shown = open_dataset(path).impressions().sort("time", "request_id", "position")
    truth = pl.read_parquet(path / TRUTH / "impressions.parquet")
    return shown.join(truth, on=("request_id", "item_id"), how="left", maintain_order="left")["chance"].to_numpy()


def page_clicks(answers: Answers, chance: Floats, scores: Floats) -> Floats:
    """Expected clicks of each answer in the order of the scores: (answers,)."""
    looked_at = ordered(answers, scores, EXAMINED).looked_at
    clicks: Floats = np.bincount(answers.answer, looked_at * chance).astype(np.float64)
    return clicks


def show(lines: list[dict[str, Any]]) -> None:
    """Tables of what was found."""
    for line in lines:
        print(f"seed {line['seed']}, {line['answers']} answers, examination wrong by {line['curve_error']:.3f} at most")
        for name, truth in line["truth"].items():
            told = line["found"].get(name, {"estimates": {}})["estimates"].items()
            cells = [f"{how} {one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})" for how, one in told]
            print(f"  {name:12}{truth:8.4f}   " + ", ".join(cells))
        if gain := line.get("gain"):
            low, high = gain["low"], gain["high"]
            print(f"  policy - plain: {gain['mean']:+.4f} ({low:+.4f} to {high:+.4f}), p = {gain['p_value']:.4f}")
    for how in ("ips", "snips", "dr", "position"):
        told = [
            (found["estimates"][how], line["truth"][name])
            for line in lines
            for name, found in line["found"].items()
            if found["estimates"]
        ]
        inside = sum(one["low"] <= truth <= one["high"] for one, truth in told)
        error = np.mean([abs(one["value"] - truth) for one, truth in told])
        width = np.mean([one["high"] - one["low"] for one, _ in told])
        print(
            f"{how:10}error {error:.4f}, width {width:.4f}, the interval holds the truth {inside} times of {len(told)}"
        )


if __name__ == "__main__":
    main()
