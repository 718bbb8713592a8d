"""What a log of impressions says of policies: what the logged one earned, and what others would have."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from souk.dataset import DatasetError, read_items
from training.content import Encoder
from training.data.canonical import Dataset, open_dataset
from training.policy.estimators import Estimate, Logged, Support, doubly_robust, ips, mean, snips, support
from training.policy.served import Served
from training.policy.slots import NoExploration, Slots, ask_slots
from training.policy.targets import Target, ordered, popularity_scores, ranker_scores, uniform
from training.ranker.answers import Answers, read_answers
from training.ranker.examination import Unrandomised, at_place, examination
from training.ranker.log import Floats, Log, read_log
from training.ranker.pipeline import Shop, make_teller

_SEED = 7
# What an item's click rate is drawn towards the mean by, in places looked at.
_PRIOR = 10.0

Told = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is, and of how much."""


@dataclass(frozen=True)
class Judged:
    """What a policy would have earned, in clicks per answer, by estimator; none where `support` has a problem."""

    support: Support
    estimates: dict[str, Estimate]


@dataclass(frozen=True)
class Report:
    """What was found; `unrandomised` and `unexplored` say why a question has no answer."""

    name: str
    answers: int
    places: int
    shoppers: int
    earned: Estimate
    examination: list[float]
    unrandomised: str
    policies: dict[str, Judged]
    slots: Slots | None
    unexplored: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        values = asdict(self)
        for name, judged in self.policies.items():
            values["policies"][name]["refused"] = judged.support.problem
        return values


def evaluate_policy(
    path: Path, bundle: Path | None, cache: Path, since: datetime | None, slots: int | None, told: Told
) -> Report:
    """Asks a dataset's impressions, those since a moment alone where one is given. Raises DatasetError, ValueError.

    With a bundle also what its ranker's order would have earned. What all shoppers together say (popularity, items met
    together) is then counted from before `since`, and the bundle must not have learned from what came after.
    """
    if bundle is not None and since is None:
        raise ValueError(
            "since: must be given with a bundle: it is not judged by answers that it may have learned from"
        )
    dataset = open_dataset(path)
    moment = since.timestamp() if since is not None else -math.inf
    log, answers = _read(dataset)
    answers = answers.since(moment)
    if not len(answers):
        raise DatasetError(f"{path}: no impression with a time{f' since {since}' if since else ''}")
    clicked = answers.labels[:, 0].astype(np.float64)
    logged = Logged(answers.answer, answers.position, answers.propensity, clicked, answers.shopper)
    try:
        curve, unrandomised = examination(answers), ""
    except Unrandomised as problem:
        curve, unrandomised = np.ones(int(answers.position.max()) + 1), str(problem)
    targets = {
        "uniform": uniform(answers, curve),
        "popularity": ordered(answers, popularity_scores(answers, log), curve),
    }
    if bundle is not None:
        encoder = Encoder.open(bundle)
        items = list(read_items(path))
        shop = Shop.of(log, items, encoder, cache, lambda n, of: told("content vectors", n, of), answers=answers)
        served = Served(bundle, log.item_ids)
        teller = make_teller(shop, served, moment, log.time < moment)
        scores = ranker_scores(teller, served.score, answers, lambda n, of: told("answers ranked", n, of))
        targets["ranker"] = ordered(answers, scores, curve)
    policies = {name: judge(logged, target, answers, curve, moved=not unrandomised) for name, target in targets.items()}
    asked, unexplored = None, ""
    if slots is not None:
        try:
            asked = ask_slots(answers, slots)
        except NoExploration as problem:
            unexplored = str(problem)
    return Report(
        dataset.info.name,
        len(answers),
        len(answers.items),
        len(np.unique(answers.shopper)),
        mean(logged, clicked),
        curve.tolist() if not unrandomised else [],
        unrandomised,
        policies,
        asked,
        unexplored,
    )


def judge(logged: Logged, target: Target, answers: Answers, curve: Floats, moved: bool) -> Judged:
    """One policy by every estimator. `moved`: also each click carried from where it was to where the policy puts its
    item, by how much either place is looked at (the position-based estimator of Li et al. 2018), which needs no draw of
    that very place but the `curve` (places,) to be right."""
    weights = logged.weights(target.probability)
    found = support(logged, weights)
    if found.problem:
        return Judged(found, {})
    place = at_place(curve, logged.place)
    wanted = _wanted(logged, answers, place)
    estimates = {
        "ips": ips(logged, weights),
        "snips": snips(logged, weights),
        "dr": doubly_robust(logged, weights, wanted * place, wanted * target.looked_at),
    }
    if moved:
        estimates["position"] = mean(logged, logged.reward * target.looked_at / place)
    return Judged(found, estimates)


def _wanted(logged: Logged, answers: Answers, looked_at: Floats) -> Floats:
    """A simple model of rewards: clicks of each item over how often it was looked at, (n,); told by the other half of
    the shoppers, so that no row says its own reward."""
    half = logged.shopper[logged.answer] % 2
    out = np.empty(len(half))
    for side in (0, 1):
        there = half != side
        size = int(answers.items.max()) + 1
        clicks = np.bincount(answers.items[there], logged.reward[there], size)
        seen = np.bincount(answers.items[there], looked_at[there], size)
        base = clicks.sum() / max(seen.sum(), 1e-12)
        out[~there] = ((clicks + _PRIOR * base) / (seen + _PRIOR))[answers.items[~there]]
    return out


def _read(dataset: Dataset) -> tuple[Log, Answers]:
    shown = dataset.impressions()
    if not len(shown):
        raise DatasetError(f"{dataset.path}: no impressions table, or an empty one")
    if all(shown[name].null_count() == len(shown) for name in ("clicked", "carted", "purchased")):
        raise DatasetError(f"{dataset.path}: impressions: no clicked, carted or purchased: nothing says what followed")
    dataset.require_time("off-policy evaluation")
    log = read_log(dataset, dataset.events(), _SEED)
    return log, read_answers(dataset, log, everybody=True)
