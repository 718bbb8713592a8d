"""Shoppers and items nobody knows: the cold start's strategies beside baselines, tuned equally often, tested once."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from services.domain.strategies import NAMES, Blend, Strategies
from souk.dataset import read_items
from souk.vectors import Float32
from training.coldstart.blend import Sample, fit_blend, sample
from training.coldstart.segments import Segments
from training.coldstart.strategies import Tuning, liked_items, strategies_of
from training.content import Encoder
from training.data.canonical import open_dataset
from training.evaluate.coldstart_baselines import (
    CONTENT_TRIALS,
    POPULARITY_TRIALS,
    SEGMENT_TRIALS,
    Scores,
    Settings,
    Told,
    content_scores,
    popularity_scores,
    segment_scores,
)
from training.evaluate.coldstart_dropoutnet import DROPOUTNET_TRIALS, dropoutnet_scores
from training.evaluate.coldstart_moments import Asked, fold_of, items_asked, shoppers_asked
from training.evaluate.ranker import split
from training.evaluate.ranking import Moment
from training.evaluate.runs import Run, Runs
from training.ranker.examples import session_examples
from training.ranker.log import Bools, Floats, Ints, Log, read_log
from training.ranker.measures import NOTHING, Measured, best, measure
from training.ranker.situations import Facts

SOUK = "souk"
SOUK_TRIALS: tuple[Settings, ...] = ({}, {"whiten": False}, {"likes": 5}, {"likes": 50})
Maker = Callable[[Asked, Told, Settings, int], Scores]
BASELINES: dict[str, tuple[tuple[Settings, ...], Maker]] = {
    "popularity": (POPULARITY_TRIALS, popularity_scores),
    "popularity by segment": (SEGMENT_TRIALS, segment_scores),
    "content similarity": (CONTENT_TRIALS, content_scores),
    "DropoutNet": (DROPOUTNET_TRIALS, dropoutnet_scores),
}
SYSTEMS = (SOUK, *BASELINES)
TRIALS = len(SOUK_TRIALS)
REVEALED: dict[str, int | None] = {"0": 0, "1": 1, "3": 3, "5": 5, "10": 10, "full": None}
"""Latest events of a held-out shopper that are shown, by name."""
SHOWN = (0, 1, 3, 5, None)
"""Latest events that are shown of each moment a blend is learned from; None for all."""
DEPTH = 10
MOST_SHARE = 2.0
"""Unknown items may have so many times their share of events of the first ten places."""
LEAST_WARM = 0.99
"""What must be left of warm recall@10 at the gentle operating point."""
SHARES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8)
"""Of the first ten places, what unknown items may be let have by adding one number to all their scores."""
# What may be found likeliest for how the chance of a known item fades with its rank.
_FADES = np.linspace(0, 3, 61)
_AT_ONCE = 64
EVERYBODY = 10**9


@dataclass(frozen=True)
class Trial:
    """What came of settings on the validation: what it is chosen by, and what the test takes over from it."""

    value: float
    bias: float
    gentle: float
    """The bias of the gentle operating point."""
    blend: Blend | None = None

    def run(self) -> Run:
        """As it is kept on disk."""
        values = {name: np.array([getattr(self, name)]) for name in ("value", "bias", "gentle")}
        if self.blend is not None:
            values |= {"blend": np.concatenate([self.blend.weights.ravel(), self.blend.bias.ravel()]).astype(float)}
        return Run({"trial": Measured(values, np.empty((0, 0), np.int64))})

    @classmethod
    def of(cls, run: Run) -> "Trial":
        """From what was kept."""
        values = run.measured["trial"].values
        blend = None
        if "blend" in values:
            numbers = values["blend"].astype(np.float32)
            size = 4 * len(NAMES)
            blend = Blend(numbers[:size].reshape(2, 2, len(NAMES)), numbers[size:].reshape(2, 2))
        value, bias, gentle = (float(values[name][0]) for name in ("value", "bias", "gentle"))
        return cls(value, bias, gentle, blend)


@dataclass(frozen=True)
class Tested:
    """One system, one seed: what it tried, what was chosen, and the measures by part of the test."""

    trials: list[tuple[Settings, float]]
    chosen: Settings
    bias: float
    measured: dict[str, Measured]
    seconds: float


@dataclass(frozen=True)
class Results:
    """All that came of it: for each system one Tested a seed, and by seed the share of events of unknown items and what
    each strategy does alone, of items and of shoppers."""

    facts: dict[str, Any]
    items: dict[str, list[Tested]]
    shoppers: dict[str, list[Tested]]
    event_share: list[float]
    alone_items: list[dict[str, Measured]]
    alone_shoppers: list[dict[str, Measured]]


def evaluate_coldstart(
    path: Path,
    bundle: Path,
    cache: Path,
    runs: Path,
    seeds: Sequence[int],
    trials: int,
    moments: int,
    minutes: float,
    told: Callable[[str], None],
    advanced: Callable[[int, int], None],
) -> Results:
    """Both comparisons on the canonical dataset `path`.

    `trials` (1 to TRIALS) are what each system may try on the validation, `moments` how many are asked at most in each
    validation and test, `minutes` what missing content vectors may take. `runs` is a directory for what is finished;
    `advanced` is told of the runs done and of all. Raises ValueError, BundleError.
    """
    if not 1 <= trials <= TRIALS:
        raise ValueError(f"trials: must be from 1 to {TRIALS}, not {trials}")
    dataset = open_dataset(path)
    dataset.require_events()
    log = read_log(dataset, dataset.events(), seeds[0])
    by = "time" if log.has_time else "leave-one-out"
    validation, test = split(dataset, log, by, seeds[0], EVERYBODY)
    told("content vectors")
    encoder = Encoder.open(bundle)
    by_id = {item.id: item for item in read_items(path)}
    often = np.argsort(-np.bincount(log.item, minlength=len(log.item_ids)), kind="stable")
    ordered = [by_id[item_id] for item_id in log.item_ids]
    content = np.empty((len(ordered), encoder.manifest.dim), np.float32)
    until = time.monotonic() + 60 * minutes
    content[often] = encoder.items([ordered[i] for i in often.tolist()], cache, lambda done, total: None, until)
    given = Told(Facts.of(ordered, content), Segments.read(dataset, log))
    facts: dict[str, Any] = {
        "data": dataset.info.name,
        "moments": "split by time, the next session" if log.has_time else "leave one out, the last event",
        "items_ranked": len(log.item_ids),
        "items_with_content": int(content.any(axis=1).sum()),
        "items_met_before": "left out" if test.new_only else "ranked",
        "segments": len(given.segments.names),
        "moments_at_most": moments,
        "trials": trials,
        "seeds": list(seeds),
        "space_version": encoder.manifest.space_version,
    }
    identity = {**facts, "events": len(log.item), "dataset": asdict(dataset.info), "names": NAMES}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    comparison = Comparison(
        log,
        given,
        moments_before(log, validation, seeds[0]),
        validation,
        test,
        list(seeds),
        trials,
        moments,
        Runs(runs, digest),
        told,
        advanced,
    )
    return comparison.results(facts)


@dataclass
class Comparison:
    """Tries as many settings of each system on the validation and tests the best of them once a seed."""

    log: Log
    given: Told
    earlier: Moment
    validation: Moment
    test: Moment
    seeds: list[int]
    trials: int
    moments: int
    runs: Runs
    told: Callable[[str], None]
    advanced: Callable[[int, int], None]
    _done: int = 0

    def results(self, facts: dict[str, Any]) -> Results:
        """Everything; what is finished is taken from disk."""
        found = Results(facts, {name: [] for name in SYSTEMS}, {name: [] for name in SYSTEMS}, [], [], [])
        for seed in self.seeds:
            share, asked = self._items_of(seed)
            found.event_share.append(share)
            for name in SYSTEMS:
                found.items[name].append(self._tested("items", name, seed, *asked, share))
            found.alone_items.append(self._alone("items", seed, asked, found.items[SOUK][-1].chosen))
            asked = self._shoppers_of(seed)
            for name in SYSTEMS:
                found.shoppers[name].append(self._tested("shoppers", name, seed, *asked, 0.0))
            found.alone_shoppers.append(self._alone("shoppers", seed, asked, found.shoppers[SOUK][-1].chosen))
        counts = {
            "moments_items": sum(len(one.measured["all"].first) for one in found.items[SOUK]),
            "moments_shoppers": sum(len(one.measured["0"].first) for one in found.shoppers[SOUK]),
        }
        self.runs.done()
        return replace(found, facts=facts | counts)

    def _items_of(self, seed: int) -> tuple[float, tuple[Asked, Asked, Asked]]:
        """The share of events of the items held out, and with a fifth of the items unknown what a blend is learned
        from, what settings are chosen by, and the test. The first two are halves of the validation."""
        fold = fold_of(len(self.log.item_ids), seed)
        nothing = np.zeros(len(fold), bool)
        both = items_asked(self.log, self.validation, fold == 1, fold == 0, self.moments, seed)
        test = items_asked(self.log, self.test, fold == 0, nothing, self.moments, seed)
        order = np.random.default_rng(seed).permutation(len(both))
        learn, validation = (both.take(np.sort(half)) for half in (order[::2], order[1::2]))
        _check(learn, validation, test)
        return float((fold == 0)[self.log.item[self.log.liked]].mean()), (learn, validation, test)

    def _shoppers_of(self, seed: int) -> tuple[Asked, Asked, Asked]:
        """Of one fifth of the shoppers earlier moments, to learn a blend from, and the validation, of another fifth the
        test; those alone of whom something is told where it is of any."""
        fold = fold_of(len(self.log.shopper_ids), seed)
        tells = np.array([len(codes) > 0 for codes in self.given.segments.of])
        able = tells if tells.any() else ~tells
        learn, validation = (
            shoppers_asked(self.log, moment, (fold == 1) & able, fold > 1, self.moments, seed)
            for moment in (self.earlier, self.validation)
        )
        test = shoppers_asked(self.log, self.test, (fold == 0) & able, fold > 0, self.moments, seed)
        _check(learn, validation, test)
        return learn, validation, test

    def _tested(
        self, part: str, name: str, seed: int, learn: Asked, validation: Asked, test: Asked, share: float
    ) -> Tested:
        given = SOUK_TRIALS if name == SOUK else BASELINES[name][0]
        tried, seconds = [], 0.0
        for number, settings in enumerate(given[: self.trials], 1):
            title = f"{part}, {name}, seed {seed}, trial {number}"
            run = self._run(title, partial(self._try, part, name, learn, validation, settings, seed, share))
            tried.append(Trial.of(run))
            seconds += run.seconds
        chosen = int(np.argmax([one.value for one in tried]))
        make = partial(self._test, part, name, test, given[chosen], seed, tried[chosen])
        run = self._run(f"{part}, {name}, seed {seed}", make)
        values = [(settings, one.value) for settings, one in zip(given, tried, strict=False)]
        return Tested(values, given[chosen], tried[chosen].bias, run.measured, seconds + run.seconds)

    def _alone(
        self, part: str, seed: int, asked: tuple[Asked, Asked, Asked], settings: Settings
    ) -> dict[str, Measured]:
        """Each strategy by itself on the test, in the settings that were chosen for their blend."""
        test = asked[2]

        def make() -> Run:
            strategies = self._strategies(test, settings)
            if part == "shoppers":
                everything = np.ones(len(test.able), bool)
                groups = [(key, most, everything) for key, most in REVEALED.items()]
            else:
                groups = [("cold", None, test.unknown), ("warm", None, ~test.unknown)]
            found: dict[str, Measured] = {}
            for key, most, group in groups:
                judged = judge_alone(self.given, strategies, test, most, group)
                found |= {f"{name} {key}": one for name, one in judged.items()}
            return Run(found)

        return self._run(f"{part}, strategies alone, seed {seed}", make).measured

    def _run(self, name: str, make: Callable[[], Run]) -> Run:
        def timed(checkpoints: Path) -> Run:
            started = time.monotonic()
            return replace(make(), seconds=time.monotonic() - started)

        self.told(name)
        run = self.runs.once(name, timed)
        self._done += 1
        self.advanced(self._done, 2 * len(self.seeds) * (len(SYSTEMS) * (self.trials + 1) + 1))
        return run

    def _try(
        self, part: str, name: str, learn: Asked, asked: Asked, settings: Settings, seed: int, share: float
    ) -> Run:
        """Settings on the validation, where a shopper shows as many events as the seed draws."""
        blend = None
        if name == SOUK:
            strategies = self._strategies(asked, settings)
            blend = learn_blend(self.given, strategies, learn, seed)
            scores = souk_scores(self.given, strategies, asked, blend)
        else:
            scores = BASELINES[name][1](asked, self.given, settings, seed)
        if part == "shoppers":
            reveal = draw_revealed(len(asked), np.random.default_rng(seed))
            return Trial(float(judge_shoppers(asked, scores, reveal).ndcg.mean()), 0.0, 0.0, blend).run()
        tops = find_tops(asked, scores)
        value, bias = choose_bias(asked, tops, share)
        return Trial(value, bias, choose_gentle_bias(asked, tops), blend).run()

    def _strategies(self, asked: Asked, settings: Settings) -> Strategies:
        given, tuning = self.given, {name: value for name, value in settings.items() if name != "whiten"}
        content = given.content(settings.get("whiten", True))
        return strategies_of(asked.known, given.facts, content, given.segments, asked.until, Tuning(**tuning))

    def _test(self, part: str, name: str, asked: Asked, settings: Settings, seed: int, trial: Trial) -> Run:
        if trial.blend is not None:
            strategies = self._strategies(asked, settings)
            scores = souk_scores(self.given, strategies, asked, trial.blend)
        else:
            scores = BASELINES[name][1](asked, self.given, settings, seed)
        if part == "shoppers":
            return Run({key: judge_shoppers(asked, scores, [most] * len(asked)) for key, most in REVEALED.items()})
        tops = find_tops(asked, scores)
        found = judge_items(asked, tops, trial.bias)
        alone = judge_items(asked, tops, -math.inf)
        gentle = {f"gentle {key}": one for key, one in judge_items(asked, tops, trial.gentle).items()}
        curve = [judge_items(asked, tops, one) for one in biases(asked, tops, SHARES)]
        lines = {key: np.array([mean_of(one, key) for one in curve]) for key in ("cold", "warm")}
        lines["share"] = np.array([share_of(one) for one in curve])
        return Run({**found, **gentle, "alone": alone["warm"], "curve": Measured(lines, np.empty((0, 0), np.int64))})


def moments_before(log: Log, validation: Moment, seed: int) -> Moment:
    """One moment before each session that the validation may learn from."""
    examples = session_examples(log, seed, within=False)
    return replace(validation, examples=examples.take(np.flatnonzero(validation.seen[examples.end])))


def draw_revealed(n: int, rng: np.random.Generator) -> list[int | None]:
    """Of each of n histories how many of the latest events are shown."""
    numbers = list(REVEALED.values())
    return [numbers[int(one)] for one in rng.integers(len(numbers), size=n)]


def souk_scores(given: Told, strategies: Strategies, asked: Asked, blend: Blend) -> Scores:
    """The strategies blended by confidence."""

    def scores(number: int, rows: slice) -> Float32:
        features = strategies.features(liked_items(asked.log, rows), given.segments.of[int(asked.shopper[number])])
        return blend.scores(features, strategies.unknown, rows.stop - rows.start)

    return scores


def learn_blend(given: Told, strategies: Strategies, asked: Asked, seed: int) -> Blend:
    """Learned from every moment once with each of SHOWN: so many weigh on what is said of those of whom little is known
    as of those of whom much is."""
    rng = np.random.default_rng(seed)
    samples = [
        sample_of(given, strategies, asked, number, reveal, rng) for reveal in SHOWN for number in range(len(asked))
    ]
    return fit_blend([one for one in samples if one is not None])


def sample_of(
    given: Told, strategies: Strategies, asked: Asked, number: int, reveal: int | None, rng: np.random.Generator
) -> Sample | None:
    """One moment to learn a blend from, so many of the latest events of its history shown; as `sample`."""
    rows = asked.history(number, reveal)
    features = strategies.features(liked_items(asked.log, rows), given.segments.of[int(asked.shopper[number])])
    able = asked.able.copy()
    if asked.new_only:
        able[asked.log.item[rows]] = False
    return sample(features, strategies.unknown, able, asked.wanted[number], rows.stop - rows.start, rng)


@dataclass(frozen=True)
class Tops:
    """Of each moment the ten best known and the ten best unknown items with their scores: (m, 20) both."""

    items: Ints
    scores: Float32


def find_tops(asked: Asked, scores: Scores) -> Tops:
    """Of rankings of the whole catalogue."""
    items, values = [], []
    for begin in range(0, len(asked), _AT_ONCE):
        table = _table(asked, scores, range(begin, min(begin + _AT_ONCE, len(asked))), None)
        first = [best(np.where(group, table, np.nan), DEPTH) for group in (~asked.unknown, asked.unknown)]
        found = np.concatenate(first, axis=1)
        items.append(found)
        values.append(np.where(found == NOTHING, -np.inf, np.take_along_axis(table, np.maximum(found, 0), 1)))
    return Tops(np.concatenate(items), np.concatenate(values))


def biases(asked: Asked, tops: Tops, shares: Sequence[float]) -> list[float]:
    """What must be added to unknown items' scores for each share of the first ten; none are shown for a share of 0."""
    needed = _needed(tops)
    order = np.argsort(needed, axis=None)
    reached = np.cumsum(np.repeat(asked.counts, DEPTH)[order])
    places = np.searchsorted(reached / reached[-1], shares)
    # Just above, so that the last of them is ahead and not level.
    ahead = [float(needed.flat[order[min(place, len(order) - 1)]]) for place in places]
    return [one + 1e-6 * max(abs(one), 1.0) if share else -math.inf for one, share in zip(ahead, shares, strict=True)]


def _needed(tops: Tops) -> Floats:
    """What must be added to the k-th unknown item for it to be as good as the known one that is the k-th from the end,
    whose place among the first ten it takes: (m, 10), growing with k."""
    with np.errstate(invalid="ignore"):
        needed = tops.scores[:, DEPTH - 1 :: -1].astype(np.float64) - tops.scores[:, DEPTH:]
    needed[tops.items[:, DEPTH:] == NOTHING] = np.inf
    return needed


def judge_items(asked: Asked, tops: Tops, bias: float) -> dict[str, Measured]:
    """With `bias` added to unknown items: "cold", of moments that want one, and "warm", of those that want a known
    one, and of "all" the share of unknown items in the first ten, "unknown", with how many moments each stands for."""
    scores = tops.scores.copy()
    scores[:, DEPTH:] += bias
    first, hits = [], {"cold": asked.unknown, "warm": ~asked.unknown}
    parts: dict[str, list[Measured]] = {"cold": [], "warm": []}
    for begin in range(0, len(asked), _AT_ONCE):
        rows = np.arange(begin, min(begin + _AT_ONCE, len(asked)))
        table = np.full((len(rows), len(asked.unknown)), np.nan, np.float32)
        line, place = np.nonzero(tops.items[rows] != NOTHING)
        table[line, tops.items[rows][line, place]] = scores[rows][line, place]
        first.append(best(table, DEPTH))
        for name, group in hits.items():
            wanted = [one[group[one]] for one in (asked.wanted[row] for row in rows.tolist())]
            some = np.flatnonzero([len(one) > 0 for one in wanted])
            if len(some):
                counts = [len(wanted[row]) for row in some.tolist()]
                columns = np.concatenate([wanted[row] for row in some.tolist()])
                parts[name].append(measure(table[some], np.repeat(np.arange(len(some)), counts), columns))
    shown = np.concatenate(first)
    unknown = (asked.unknown[np.maximum(shown, 0)] & (shown != NOTHING)).mean(axis=1)
    found = {name: Measured.joined(measured) for name, measured in parts.items() if measured}
    return {**found, "all": Measured({"unknown": unknown, "counts": asked.counts}, shown)}


def judge_shoppers(asked: Asked, scores: Scores, reveal: Sequence[int | None]) -> Measured:
    """With so many of the latest events of each shown, full ranking."""
    parts = []
    for begin in range(0, len(asked), _AT_ONCE):
        rows = range(begin, min(begin + _AT_ONCE, len(asked)))
        table = _table(asked, scores, rows, reveal)
        counts = [len(asked.wanted[row]) for row in rows]
        columns = np.concatenate([asked.wanted[row] for row in rows])
        parts.append(measure(table, np.repeat(np.arange(len(rows)), counts), columns))
    return Measured.joined(parts)


def judge_alone(
    given: Told, strategies: Strategies, asked: Asked, most: int | None, group: Bools
) -> dict[str, Measured]:
    """By strategy, of moments with so many of the latest events shown (None: all): a `group` of the items (items,)
    ranked by what the strategy says, and what is wanted of it. Nothing for moments that want none."""
    parts: dict[str, list[Measured]] = {name: [] for name in NAMES}
    some = [number for number, wanted in enumerate(asked.wanted) if group[wanted].any()]
    for begin in range(0, len(some), _AT_ONCE):
        rows = some[begin : begin + _AT_ONCE]
        histories = [asked.history(number, most) for number in rows]
        said = {
            number: strategies.features(liked_items(asked.log, rows), given.segments.of[int(asked.shopper[number])])
            for number, rows in zip(rows, histories, strict=True)
        }
        wanted = [asked.wanted[number][group[asked.wanted[number]]] for number in rows]
        line = np.repeat(np.arange(len(rows)), [len(one) for one in wanted])
        for column, name in enumerate(NAMES):
            table = _table(asked, partial(_column, said, column), rows, [most] * len(asked))
            table[:, ~group] = np.nan
            parts[name].append(measure(table, line, np.concatenate(wanted)))
    return {name: Measured.joined(measured) for name, measured in parts.items() if measured}


def choose_bias(asked: Asked, tops: Tops, share: float) -> tuple[float, float]:
    """The highest harmonic mean of cold and warm recall@10 where unknown items get at most twice their share of events
    of the first ten, and the bias that reaches it; of equals the smallest."""
    tried = [one for one in SHARES[1:] if one <= MOST_SHARE * share] or [SHARES[1]]
    found = []
    for bias in biases(asked, tops, tried):
        judged = judge_items(asked, tops, bias)
        found.append((harmonic(mean_of(judged, "cold"), mean_of(judged, "warm")), bias))
    return max(found, key=lambda one: one[0])


def choose_gentle_bias(asked: Asked, tops: Tops) -> float:
    """The largest bias at which unknown items are expected to take 1% of warm recall@10; minus infinity, with which
    none is shown, where the first would take more.

    What is taken is not counted but expected, as few hits are lost at 1%: where what is wanted is among the ten best
    known items, it is the r-th of them with a chance of r ** -fade over the sum, of the likeliest fade (Zipf's law).
    """
    warm = np.flatnonzero([bool((~asked.unknown[one]).any()) for one in asked.wanted])
    hits = np.zeros(DEPTH)
    for number in warm.tolist():
        wanted = asked.wanted[number][~asked.unknown[asked.wanted[number]]]
        hits += np.isin(tops.items[number, :DEPTH], wanted) / len(wanted)
    fading = np.log(np.arange(1, DEPTH + 1)) * -_FADES[:, None]
    fading -= special.logsumexp(fading, axis=1, keepdims=True)
    chances = np.exp(fading[(fading @ hits).argmax()])
    needed = _needed(tops)[warm]
    # The others never come, or take the place of nothing.
    some = np.isfinite(needed)
    order = np.argsort(needed[some], kind="stable")
    lost = np.cumsum(np.broadcast_to(chances[::-1], needed.shape)[some][order])
    reached = int(np.searchsorted(lost, (1 - LEAST_WARM) * len(warm), side="right"))
    if reached == len(order):
        return float(needed[some].max(initial=0)) + 1
    bias = float(needed[some][order[reached]])
    # Just below what the next one needs.
    return bias - 1e-6 * max(abs(bias), 1.0) if reached else -math.inf


def mean_of(judged: dict[str, Measured], part: str) -> float:
    """Mean recall@10 of a part; 0 where no moment wants any."""
    return float(judged[part].values["recall@10"].mean()) if part in judged else 0.0


def share_of(judged: dict[str, Measured]) -> float:
    """The share of unknown items in the first ten of all moments that there are."""
    values = judged["all"].values
    return float(np.average(values["unknown"], weights=values["counts"]))


def harmonic(one: float, two: float) -> float:
    """The harmonic mean; 0 where either is."""
    return 2 * one * two / (one + two) if one > 0 and two > 0 else 0.0


def _column(said: dict[int, Float32], column: int, number: int, history: slice) -> Float32:
    return said[number][:, column]


def _table(asked: Asked, scores: Scores, rows: Sequence[int], reveal: Sequence[int | None] | None) -> Float32:
    """Scores of moments, NaN for what is not ranked: (rows, items)."""
    table = np.empty((len(rows), len(asked.able)), np.float32)
    for line, number in enumerate(rows):
        history = asked.history(number, reveal[number] if reveal is not None else None)
        table[line] = scores(number, history)
        if asked.new_only:
            table[line, asked.log.item[history]] = np.nan
    table[:, ~asked.able] = np.nan
    return table


def _check(*asked: Asked) -> None:
    for purpose, one in zip(("learn from", "choose by", "test by"), asked, strict=True):
        if len(one) < 2:
            raise ValueError(f"the log is too short: it leaves {len(one)} moments to {purpose}, and 2 are needed")
