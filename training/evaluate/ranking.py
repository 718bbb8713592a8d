"""How well the ranker orders all items, beside popularity and item-kNN that were tuned as often: offline, on a log."""

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from souk.dataset import read_items
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.content import Encoder
from training.data.canonical import open_dataset
from training.data.splits import by_time
from training.ranker.config import RankerConfig
from training.ranker.examples import Examples, session_examples
from training.ranker.log import Bools, Ints, Log, read_log
from training.ranker.measures import Measured, measure
from training.ranker.neighbours import Neighbours, find_neighbours, latest
from training.ranker.pipeline import Fitted, Shop, fit_ranker, make_teller, shopper_vectors
from training.ranker.situations import popularity

# What each may try on the validation; all as often, each in the order given.
POPULARITY_TRIALS: tuple[float, ...] = (7, 30, 90, 365)
"""Half-life in days."""
KNN_TRIALS: tuple[tuple[str, int, float], ...] = (
    ("session", 100, 0.7),
    ("session", 30, 0.9),
    ("shopper", 100, 0.9),
    ("shopper", 30, 0.7),
)
"""Met together by whom, items of the history, and the weight of each session against the next."""
RANKER_TRIALS: tuple[dict[str, float], ...] = (
    {},
    {"learning_rate": 1e-3},
    {"max_history": 32},
    {"id_dropout": 0.1, "dropout": 0.1},
)
_PARTNERS, _WINDOW = 300, 100
_AT_ONCE = 64

Scores = Callable[[int], Float32]


@dataclass(frozen=True)
class Moment:
    """The next basket of shoppers after a split, and the rows of the log that lie before it."""

    examples: Examples
    seen: Bools
    until: float


@dataclass(frozen=True)
class Result:
    """What a system reached: measures of each seed on the test, and what the trials found best."""

    name: str
    chosen: str
    measured: list[Measured]
    seconds: float


@dataclass(frozen=True)
class Report:
    """Results with what they are of."""

    protocol: str
    results: list[Result]


def evaluate_dataset(
    path: Path,
    bundle: Path,
    cache: Path,
    minutes: float,
    seeds: int,
    shoppers: int,
    told: Callable[[str], None],
) -> Report:
    """The whole comparison on a dataset: split by time where it has time, else each shopper's last event."""
    dataset = open_dataset(path)
    config = RankerConfig(minutes=minutes)
    log = read_log(dataset, dataset.events(), config.seed)
    told("content vectors")
    shop = Shop.of(log, list(read_items(path)), Encoder.open(bundle), cache, lambda done, total: None)
    if log.has_time:
        split = by_time(dataset)
        moments = [float(part["time"].dt.epoch("us").min()) / 1e6 for part in (split.validation, split.test)]  # type: ignore[arg-type]
        bounds = [(moments[0], moments[1]), (moments[1], math.inf)]
        how = "split by time, the first session after it"
    else:
        bounds = [(0.0, 0.0), (0.0, math.inf)]
        how = "leave one out, the last event"
    validation, test = (next_baskets(log, *bound, config.seed, shoppers) for bound in bounds)
    met = "items met before may be wanted again" if has_repeats(log) else "items met before are left out"
    protocol = (
        f"{dataset.info.name}: {how}; {len(test.examples)} shoppers with a history, all {len(log.item_ids)} items "
        f"ranked; {met}"
    )
    told(protocol)
    with tempfile.TemporaryDirectory() as checkpoints:
        seeds_given = [config.seed + number for number in range(seeds)]
        results = evaluate_ranking(shop, validation, test, config, seeds_given, Path(checkpoints), told)
    return Report(protocol, results)


def figure(result: Result, name: str) -> str:
    """Mean over seeds, and the spread between them; with one run, the standard error over shoppers."""
    means = [float(getattr(one, name).mean()) for one in result.measured]
    if len(means) > 1:
        return f"{np.mean(means):.4f} ({min(means):.4f} to {max(means):.4f})"
    values = getattr(result.measured[0], name)
    return f"{means[0]:.4f} ± {values.std() / math.sqrt(max(len(values), 1)):.4f}"


def next_baskets(log: Log, after: float, before: float, seed: int, most: int) -> Moment:
    """The first session of each shopper from `after` to `before`, at most so many drawn by seed.

    Without time: each shopper's last event (`before` infinite) or the last but one.
    """
    examples = session_examples(log, seed, within=False)
    shopper = log.shopper[examples.end]
    if log.has_time:
        inside = np.flatnonzero((examples.now >= after) & (examples.now < before))
        _, first = np.unique(shopper[inside], return_index=True)
        chosen, seen = inside[first], log.time < after
    else:
        back = 1 if np.isinf(before) else 2
        last = log.starts[shopper + 1]
        chosen = np.flatnonzero(examples.end == last - back)
        seen = np.arange(len(log.item)) < log.starts[log.shopper + 1] - back
    chosen = np.sort(np.random.default_rng(seed).permutation(chosen)[:most])
    return Moment(examples.take(chosen), seen, after)


def judge(moment: Moment, log: Log, scores: Scores) -> Measured:
    """Full ranking of all items. Where no shopper ever likes an item again, what was met is left out."""
    mask = not has_repeats(log)
    examples, parts = moment.examples, []
    for begin in range(0, len(examples), _AT_ONCE):
        some = np.arange(begin, min(begin + _AT_ONCE, len(examples)))
        table = np.stack([scores(int(number)) for number in some]).astype(np.float32)
        part = examples.take(some)
        rows = np.repeat(np.arange(len(some)), np.diff(part.starts))
        if mask:
            for row, number in enumerate(some):
                table[row, log.item[examples.begin[number] : examples.end[number]]] = np.nan
        parts.append(measure(table, rows, part.items))
    return Measured.joined(parts)


def has_repeats(log: Log) -> bool:
    """Whether some shopper likes an item in two sessions."""
    n = len(log.item_ids)
    sessions = np.unique(np.stack([log.session[log.liked], log.item[log.liked]]), axis=1)
    owner = np.zeros(int(log.session.max(initial=0)) + 1, np.int64)
    owner[log.session] = log.shopper
    pairs = owner[sessions[0]] * n + sessions[1]
    return len(np.unique(pairs)) < len(pairs)


def popularity_scores(log: Log, moment: Moment, half_life: float) -> Scores:
    """Events that speak for an item, decayed."""
    counts = popularity(log, moment.seen, moment.until, half_life).astype(np.float32)
    return lambda number: counts


def knn_scores(log: Log, moment: Moment, by: str, keep: int, decay: float) -> Scores:
    """Item-kNN; an item is its own nearest, so that what is bought again is found."""
    rows = moment.seen & log.liked
    group = log.session if by == "session" and log.has_time else log.shopper
    found: Neighbours = find_neighbours(group[rows], log.item[rows], len(log.item_ids), _PARTNERS, _WINDOW)
    examples = moment.examples

    def scores(number: int) -> Float32:
        history = np.arange(examples.begin[number], examples.end[number])
        history = history[log.liked[history]]
        items, _ = latest(log.item[history], keep, 1.0)
        # The weight falls from session to session, not from item to item of one basket.
        last = dict(zip(log.item[history].tolist(), log.session[history].tolist(), strict=True))
        sessions = np.unique(log.session[history])
        back = len(sessions) - 1 - np.searchsorted(sessions, [last[item] for item in items.tolist()])
        return found.of(items, decay ** back.astype(np.float64), own=1.0)

    return scores


def ranker_scores(shop: Shop, moment: Moment, fitted: Fitted, histories: Log | None = None) -> Scores:
    """The heads over the features of all items, as the ranker orders them on the home page.

    `histories`: a log of as many rows from which the shoppers' histories are read instead; what all shoppers together
    say stays that of the shop's own.
    """
    teller = make_teller(shop, fitted.trained, moment.until, moment.seen)
    log = histories or shop.log
    teller = replace(teller, situations=replace(teller.situations, log=log))
    examples = moment.examples
    vectors = shopper_vectors(fitted.trained, teller.table, log, examples, np.arange(len(examples)))
    everything = np.arange(len(shop.log.item_ids))

    def scores(number: int) -> Float32:
        rows = teller.situations.history(int(examples.begin[number]), int(examples.end[number]))
        legs = teller.legs(rows, vectors[number], types_pb2.SCENE_HOME, "")
        known = teller.situations.known(rows, float(examples.now[number]), everything, legs)
        return fitted.heads.score(known.features(types_pb2.SCENE_HOME), "HOME")

    return scores


def affinity_scores(shop: Shop, moment: Moment, fitted: Fitted) -> Scores:
    """The Transformer alone."""
    table = fitted.trained.table(shop.content)
    examples = moment.examples
    vectors = shopper_vectors(fitted.trained, table, shop.log, examples, np.arange(len(examples)))
    return lambda number: table @ vectors[number]


def evaluate_ranking(
    shop: Shop,
    validation: Moment,
    test: Moment,
    config: RankerConfig,
    seeds: Sequence[int],
    checkpoints: Path,
    told: Callable[[str], None],
) -> list[Result]:
    """Tunes each system on the validation with as many trials, tests it on what comes after.

    `config.minutes` is what one training may take; `seeds` are those of the ranker (the others draw nothing).
    """
    log = shop.log

    def tuned(name: str, trials: Sequence[object], scores: Callable[[Moment, int], Scores]) -> Result:
        started = time.monotonic()
        found = []
        for number, trial in enumerate(trials):
            found.append(float(judge(validation, log, scores(validation, number)).ndcg.mean()))
            told(f"{name}, {trial}: {found[-1]:.4f} on the validation")
        best = int(np.argmax(found))
        measured = [judge(test, log, scores(test, best))]
        return Result(name, str(trials[best]), measured, time.monotonic() - started)

    results = [
        tuned("popularity", POPULARITY_TRIALS, lambda at, i: popularity_scores(log, at, POPULARITY_TRIALS[i])),
        tuned("item-kNN", KNN_TRIALS, lambda at, i: knn_scores(log, at, *KNN_TRIALS[i])),
    ]
    started = time.monotonic()

    def trained(at: Moment, settings: dict[str, float], seed: int) -> Fitted:
        part = Shop(rows_before(log, at.seen), shop.items, shop.content, shop.queries)
        chosen = replace(config, seed=seed, **settings)  # type: ignore[arg-type]
        checkpoints.mkdir(parents=True, exist_ok=True)
        return fit_ranker(part, chosen, time.monotonic(), checkpoints, lambda what: None, lambda epoch: None)

    found = []
    for settings in RANKER_TRIALS:
        fitted = trained(validation, settings, seeds[0])
        found.append(float(judge(validation, log, ranker_scores(shop, validation, fitted)).ndcg.mean()))
        told(f"ranker, {settings}: {found[-1]:.4f} on the validation")
    best = RANKER_TRIALS[int(np.argmax(found))]
    whole, alone = [], []
    for seed in seeds:
        fitted = trained(test, best, seed)
        whole.append(judge(test, log, ranker_scores(shop, test, fitted)))
        alone.append(judge(test, log, affinity_scores(shop, test, fitted)))
        told(f"ranker, seed {seed}: {whole[-1].ndcg.mean():.4f} on the test")
    seconds = time.monotonic() - started
    results.append(Result("Transformer alone", str(best), alone, seconds))
    results.append(Result("ranker", str(best), whole, seconds))
    return results


def rows_before(log: Log, seen: Bools) -> Log:
    """The log with these rows alone, its items and shoppers numbered as before."""
    chosen: Ints = np.flatnonzero(seen)
    session = np.unique(log.session[chosen], return_inverse=True)[1]
    return Log(
        log.item_ids,
        log.shopper_ids,
        log.has_time,
        log.shopper[chosen],
        log.item[chosen],
        log.type[chosen],
        log.time[chosen],
        session,
        log.scene[chosen],
        log.query[chosen],
    )
