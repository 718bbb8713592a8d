"""The ranker beside popularity, item-kNN and SASRec: tuned equally often on the validation, tested once, in one run."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from souk.dataset import read_items
from training.content import Encoder
from training.data.canonical import Dataset, open_dataset
from training.data.splits import by_time
from training.evaluate.lists import Before, judge_lists, wanted_shares
from training.evaluate.ranking import (
    Moment,
    affinity_scores,
    judge,
    knn_scores,
    last_events,
    next_baskets,
    popularity_scores,
    ranker_scores,
    rows_before,
)
from training.evaluate.results import Outcome, Report, Result
from training.evaluate.runs import Run, Runs
from training.evaluate.sasrec import SasrecConfig, Steps, fit_sasrec, refit_sasrec, sasrec_ndcg, sasrec_scores
from training.ranker.config import RankerConfig
from training.ranker.log import Log, read_log
from training.ranker.measures import Measured
from training.ranker.pipeline import Shop, fit_ranker

PROTOCOLS = {"time": "split by time, the next session", "leave-one-out": "leave one out, the last event"}
Settings = Mapping[str, Any]
# Trained on what lies before a moment with settings and a seed, and judged at it. On the test: for the steps given.
System = Callable[[Moment, Settings, int, Steps | None, Path], Run]

# What each may try on the validation, in the order given.
POPULARITY_TRIALS: tuple[Settings, ...] = tuple({"half_life": days} for days in (7, 30, 90, 365))
KNN_TRIALS: tuple[Settings, ...] = (
    {"by": "session", "keep": 100, "decay": 0.7},
    {"by": "shopper", "keep": 100, "decay": 0.9},
    {"by": "session", "keep": 30, "decay": 0.9},
    {"by": "shopper", "keep": 30, "decay": 0.7},
)
SASREC_TRIALS: tuple[Settings, ...] = (
    {},
    {"next_session": True, "learning_rate": 3e-3},
    {"dropout": 0.5},
    {"next_session": True, "learning_rate": 3e-3, "max_history": 200},
)
RANKER_TRIALS: tuple[Settings, ...] = (
    {},
    {"max_history": 32},
    {"learning_rate": 1e-3},
    {"id_dropout": 0.1, "dropout": 0.1},
)
TRIALS = len(RANKER_TRIALS)


def knn_trials(log: Log) -> tuple[Settings, ...]:
    """The settings of item-kNN in the order in which they are tried.

    By shopper first where most sessions hold one event: nothing is met together in these, and by session alone, as with
    one trial, nothing would be found.
    """
    _, events = np.unique(log.session[log.liked], return_counts=True)
    return KNN_TRIALS if np.median(events) > 1 else tuple(KNN_TRIALS[number] for number in (1, 0, 3, 2))


def evaluate_ranker(
    path: Path,
    bundle: Path,
    cache: Path,
    runs: Path,
    protocol: str | None,
    config: RankerConfig,
    seeds: int,
    trials: int,
    shoppers: int,
    told: Callable[[str], None],
    advanced: Callable[[int, int], None],
) -> Report:
    """The whole comparison on the canonical dataset `path`.

    protocol: split by time where the dataset has time, else leave-one-out, unless given. `config.minutes` is what one
    training may take, `config.seed` the first seed; `trials` (1 to TRIALS) what each system may try on the validation;
    `shoppers` how many are asked at most. `runs` is a directory for what is finished, `advanced` is told of the runs
    done and of all. Raises NoTime, TooLittle, ValueError, BundleError.
    """
    if not 1 <= trials <= TRIALS:
        raise ValueError(f"trials: must be from 1 to {TRIALS}, not {trials}")
    if protocol is not None and protocol not in PROTOCOLS:
        raise ValueError(f"protocol: must be {' or '.join(PROTOCOLS)}, not {protocol}")
    dataset = open_dataset(path)
    dataset.require_events()
    log = read_log(dataset, dataset.events(), config.seed)
    by = protocol or ("time" if log.has_time else "leave-one-out")
    validation, test = split(dataset, log, by, config.seed, shoppers)
    told("content vectors")
    encoder = Encoder.open(bundle)
    shop = Shop.of(log, list(read_items(path)), encoder, cache, lambda done, total: None)
    before = Before.of(shop.items, shop.content, log, test.seen)
    facts: dict[str, Any] = {
        "data": dataset.info.name,
        "protocol": PROTOCOLS[by],
        "items_ranked": len(log.item_ids),
        "items_met_before": "left out" if test.new_only else "ranked",
        "shoppers_validation": len(validation.examples),
        "shoppers_test": len(test.examples),
        "groups": before.grouped_by or "none: most items have neither a brand nor a category",
        "trials": trials,
        "seeds": [config.seed + number for number in range(seeds)],
        "minutes_a_training": config.minutes,
        "space_version": encoder.manifest.space_version,
    }
    told(", ".join(f"{name}: {facts[name]}" for name in ("data", "protocol", "shoppers_test", "items_ranked")))
    identity = {**facts, **asdict(config), "events": len(log.item), "dataset": asdict(dataset.info)}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    kept = Runs(runs, digest)
    results = Comparison(shop, before, validation, test, config, facts["seeds"], trials, kept, told, advanced).results()
    kept.done()
    shares = wanted_shares(test.examples, before) if before.grouped_by else np.empty(0)
    return Report(facts, results, dict(zip(before.groups, shares.tolist(), strict=False)))


def split(dataset: Dataset, log: Log, protocol: str, seed: int, shoppers: int) -> tuple[Moment, Moment]:
    """Validation and test. Raises NoTime for a split by time of events without it, ValueError for nobody to ask."""
    if protocol == "time":
        parts = by_time(dataset)
        first, second = (
            float(part["time"].dt.epoch("us").min()) / 1e6  # type: ignore[arg-type]
            for part in (parts.validation, parts.test)
        )
        validation = next_baskets(log, first, second, seed, shoppers)
        test = next_baskets(log, second, math.inf, seed, shoppers)
    else:
        validation, test = (last_events(log, back, seed, shoppers) for back in (2, 1))
    for name, moment in (("validation", validation), ("test", test)):
        if not len(moment.examples):
            raise ValueError(f"{dataset.path}: no shopper with a history likes anything in the {name}; 1 at least must")
    return validation, test


@dataclass
class Comparison:
    """Tunes each system on the validation with as many trials, in a given time each, and tests the best of them once.

    `seeds` are those of the test; trials have the first. Popularity and item-kNN draw nothing, and are tested once.
    """

    shop: Shop
    before: Before
    validation: Moment
    test: Moment
    config: RankerConfig
    seeds: Sequence[int]
    trials: int
    runs: Runs
    told: Callable[[str], None]
    advanced: Callable[[int, int], None]
    _done: int = 0

    def results(self) -> list[Result]:
        """Popularity, item-kNN, SASRec, the ranker's Transformer alone, the ranker."""
        return [
            *self._tuned("popularity", POPULARITY_TRIALS, self._popularity, self.seeds[:1]),
            *self._tuned("item-kNN", knn_trials(self.shop.log), self._knn, self.seeds[:1]),
            *self._tuned("SASRec", SASREC_TRIALS, self._sasrec, self.seeds),
            *self._tuned("ranker", RANKER_TRIALS, self._ranker, self.seeds),
        ]

    def _tuned(self, name: str, trials: Sequence[Settings], system: System, seeds: Sequence[int]) -> list[Result]:
        """The results of a system, and of its part where it is judged alone, too: with what is best for the whole."""
        trials = trials[: self.trials]
        tried = [
            self._run(f"{name}, trial {number}", partial(system, self.validation, settings, self.seeds[0], None))
            for number, settings in enumerate(trials, 1)
        ]
        best = int(np.argmax([one.measured[name].ndcg.mean() for one in tried]))
        tested = [
            self._run(f"{name}, seed {seed}", partial(system, self.test, trials[best], seed, tried[best].steps))
            for seed in seeds
        ]
        return [
            Result(
                part,
                [
                    (dict(given), float(one.measured[part].ndcg.mean()))
                    for given, one in zip(trials, tried, strict=True)
                ],
                dict(trials[best]),
                [self._tested(one.measured[part]) for one in tested],
                sum(one.seconds for one in (*tried, *tested)),
                # Of the whole; a part of it has no heads.
                [one.metrics for one in tested] if part == name else [],
            )
            for part in tested[0].measured
        ]

    def _run(self, name: str, make: Callable[[Path], Run]) -> Run:
        def timed(checkpoints: Path) -> Run:
            started = time.monotonic()
            made = make(checkpoints)
            return replace(made, seconds=time.monotonic() - started)

        run = self.runs.once(name, timed)
        self._done += 1
        self.advanced(self._done, 4 * self.trials + 2 + 2 * len(self.seeds))
        self.told(
            f"{name}: NDCG@10 " + ", ".join(f"{one.ndcg.mean():.4f} ({part})" for part, one in run.measured.items())
        )
        return run

    def _tested(self, measured: Measured) -> Outcome:
        lists = judge_lists(measured.first, self.test.examples, self.shop.log, self.before)
        return Outcome({**measured.values, **lists.values}, lists.totals, lists.exposure)

    def _popularity(self, at: Moment, settings: Settings, seed: int, steps: Steps | None, checkpoints: Path) -> Run:
        log = self.shop.log
        return Run({"popularity": judge(at, log, popularity_scores(log, at, **settings))})

    def _knn(self, at: Moment, settings: Settings, seed: int, steps: Steps | None, checkpoints: Path) -> Run:
        log = self.shop.log
        return Run({"item-kNN": judge(at, log, knn_scores(log, at, **settings))})

    def _sasrec(self, at: Moment, settings: Settings, seed: int, steps: Steps | None, checkpoints: Path) -> Run:
        log, config = self.shop.log, SasrecConfig(**settings)
        part = rows_before(log, at.seen)
        if steps is None:
            until = time.monotonic() + 60 * self.config.minutes
            model, steps = fit_sasrec(part, config, seed, until, sasrec_ndcg(log, at))
        else:
            # The test has nothing to stop it by: as long as was best on the validation.
            model = refit_sasrec(part, config, seed, steps)
        return Run({"SASRec": judge(at, log, sasrec_scores(log, at, model))}, steps)

    def _ranker(self, at: Moment, settings: Settings, seed: int, steps: Steps | None, checkpoints: Path) -> Run:
        shop = self.shop
        part = Shop(rows_before(shop.log, at.seen), shop.items, shop.content, shop.queries)
        config = replace(self.config, seed=seed, **settings)
        fitted = fit_ranker(part, config, time.monotonic(), checkpoints, lambda what: None, lambda epoch: None)
        alone = judge(at, shop.log, affinity_scores(shop, at, fitted))
        whole = judge(at, shop.log, ranker_scores(shop, at, fitted))
        return Run({"Transformer alone": alone, "ranker": whole}, metrics=fitted.metrics)
