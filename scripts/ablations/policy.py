"""Heads that learn from clicks as they come, and heads corrected for places, on generated shops whose truth is known.

    python scripts/ablations/policy.py --encoder DIR --work DIR --seeds 31 41 42 43

Of each seed: a shop with impressions, a ranker on all but the last 15% of its answers, the heads learned twice, both
orders judged on what comes after: by off-policy evaluation, and by the chance of a click that the generator knows.
Seeds that WORK/results.jsonl holds already are left out: stopped and run again it goes on with the next one.
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
from training.evaluate.bootstrap import interval, paired_bootstrap
from training.evaluate.ranking import rows_before
from training.policy.estimators import Logged
from training.policy.evaluate import judge
from training.policy.targets import ordered, popularity_scores, uniform
from training.ranker.answers import Answers, read_answers
from training.ranker.config import OBJECTIVES, RankerConfig
from training.ranker.examination import at_place, examination
from training.ranker.heads import features_of_answer
from training.ranker.log import Floats, read_log
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
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    results = given.work / "results.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for seed in given.seeds:
        if all(line["seed"] != seed for line in lines):
            lines.append(run(given, seed))
            with results.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
    show(lines)


def run(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One shop: the truth of every order, and what off-policy evaluation says of it."""
    started = time.monotonic()
    path = given.work / f"shop-{seed}"
    if not path.exists():
        generate(path, given.items, given.shoppers, seed, impressions=True)
    dataset = open_dataset(path)
    log = read_log(dataset, dataset.events(), CONFIG.seed)
    everything = read_answers(dataset, log, everybody=True)
    chance = true_chance(path)
    cut = float(everything.time[int(len(everything) * (1 - HELD_OUT))])
    held_out = np.flatnonzero(everything.time >= cut)
    chosen = np.sort(np.random.default_rng(seed).permutation(held_out)[: given.answers])
    chance = chance[np.isin(everything.answer, chosen)]
    late = everything.take(chosen)
    seen = log.time < cut
    shop = Shop.of(log, list(read_items(path)), Encoder.open(given.encoder), given.work / "content", lambda n, of: None)
    past = rows_before(log, seen)
    before = replace(shop, log=past, answers=read_answers(dataset, past).until(cut))
    curve = examination(everything.until(cut))
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
            features = [features_of_answer(teller, late, n, late.items[late.answer == n]) for n in range(len(late))]
        parts = [
            fitted.heads.score(rows, SCENES[scene - 1])
            for rows, scene in zip(features, late.scene.tolist(), strict=True)
        ]
        scores[objective] = np.concatenate(parts).astype(np.float64)
    shutil.rmtree(checkpoints)
    truth = {name: page_clicks(late, chance, score) for name, score in scores.items()}
    truth["best"] = page_clicks(late, chance, chance)
    truth["logged"] = np.bincount(late.answer, EXAMINED[late.position] * chance).astype(np.float64)
    shares = np.bincount(late.answer, EXAMINED[late.position]) / np.diff(late.starts)
    truth["uniform"] = shares * np.bincount(late.answer, chance)
    logged = Logged(late.answer, late.position, late.propensity, late.labels[:, 0].astype(np.float64), late.shopper)
    told = examination(late)
    targets = {name: ordered(late, score, told) for name, score in scores.items()} | {"uniform": uniform(late, told)}
    found = {name: asdict(judge(logged, target, late, told, True)) for name, target in targets.items()}
    gain = paired_bootstrap(truth["policy"], truth["plain"])
    return {
        "seed": seed,
        "answers": len(late),
        "curve_error": float(np.abs(curve - at_place(EXAMINED, np.arange(len(curve)))).max()),
        "truth": {name: float(values.mean()) for name, values in truth.items()},
        "truth_interval": {name: interval(values) for name, values in truth.items()},
        "gain": asdict(gain),
        "found": found,
        "seconds": time.monotonic() - started,
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
    orders = ("uniform", "logged", "popularity", "plain", "policy", "best")
    print(f"{'true clicks per answer':24}" + "".join(f"{name:>12}" for name in orders) + "      policy - plain")
    for line in lines:
        gain = line["gain"]
        print(
            f"{'seed ' + str(line['seed']):24}"
            + "".join(f"{line['truth'][name]:12.4f}" for name in orders)
            + f"     {gain['mean']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f}), p {gain['p_value']:.4f}"
        )
    print()
    print(f"{'off-policy, all seeds':24}{'policy':>12}{'mean error':>12}{'mean width':>12}{'truth inside':>14}")
    for estimator in ("ips", "snips", "dr", "position"):
        for name in ("uniform", "popularity", "plain", "policy"):
            told = [
                (line["found"][name]["estimates"][estimator], line["truth"][name])
                for line in lines
                if line["found"][name]["estimates"]
            ]
            if told:
                error = np.mean([abs(one["value"] - truth) for one, truth in told])
                width = np.mean([one["high"] - one["low"] for one, _ in told])
                inside = sum(one["low"] <= truth <= one["high"] for one, truth in told)
                print(f"{estimator:24}{name:>12}{error:12.4f}{width:12.4f}{inside:>10} of {len(told)}")


if __name__ == "__main__":
    main()
