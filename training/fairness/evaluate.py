"""Exposure and quality by group, of lists as they are ranked and of lists that share exposure out, on held-out time.

The strength of the sharing is chosen on the validation: the most equal exposure that costs at most `LOSS` of NDCG@10,
of all shoppers and in every group of them. It is tested once, and beside it the least strength that reached `GOAL` on
the validation, whatever it cost.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache as cache_once
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from souk.dataset import read_items
from souk.vectors import Float32
from training.coldstart.segments import Segments
from training.content import Encoder
from training.data.canonical import open_dataset
from training.evaluate.bootstrap import DRAWS, Difference, paired_bootstrap
from training.evaluate.lists import DEPTH
from training.evaluate.ranker import PROTOCOLS, split
from training.evaluate.ranking import Moment, Scores, knn_scores, popularity_scores, ranker_scores, rows_before
from training.fairness.chance import cross_fitted, fitted
from training.fairness.groups import facets, shopper_groups, wanted_share
from training.fairness.lists import GAINS, as_ranked, exposure_of, gini, limited, shared_out
from training.ranker.config import RankerConfig
from training.ranker.log import Bools, Floats, Ints, Log, read_log
from training.ranker.measures import best
from training.ranker.pipeline import Shop, fit_ranker
from training.ranker.suppliers import Facet, suppliers

LOSS, GOAL = 0.01, -0.3
"""Share of NDCG@10 that may be lost, and change of the Gini coefficient aimed at."""
STRENGTHS = tuple(float(f"{one:.2g}") for one in np.geomspace(0.03, 2.4, 36))
"""What is tried, each 13% more than the one before, in units of the mean chance of what stands in lists as they are
ranked."""
AS_RANKED, LIMITED, SHARED, TO_GOAL = "as ranked", "at most 2 a list", "shared out", "shared out to -30%"
CANDIDATES = 1500
"""Of a shopper: a small brand's best places are often beyond the first hundreds."""
_PASSES = 2
_MOST = 2
# Popularity beside the neighbours, each divided by its best.
_POPULARITY = (0.003, 0.03, 0.3, 3.0)
_HALF_LIFE_DAYS = 30.0
_LEAST = 1e-9
# Resamplings where each takes a count of all places.
_FEWER_DRAWS = DRAWS // 10


@dataclass(frozen=True)
class Asked:
    """A moment with the candidates of its shoppers, (n, CANDIDATES), the best first; `met`: the length of histories."""

    at: Moment
    items: Ints
    scores: Floats
    wanted: Bools
    met: Ints

    @classmethod
    def of(cls, at: Moment, items: Ints, scores: Floats) -> "Asked":
        """Of candidates and their scores."""
        examples = at.examples
        spans = zip(examples.starts[:-1].tolist(), examples.starts[1:].tolist(), strict=True)
        wanted = np.array([np.isin(row, examples.items[a:b]) for row, (a, b) in zip(items, spans, strict=True)])
        return cls(at, items, scores, wanted, examples.end - examples.begin)

    def ndcg(self, lists: Ints) -> Floats:
        """NDCG@10 of lists of columns (n, DEPTH), as training.ranker.measures has it: (n,)."""
        found = (np.take_along_axis(self.wanted, lists, axis=1) * GAINS).sum(axis=1)
        sizes = np.minimum(np.diff(self.at.examples.starts), DEPTH)
        ndcg: Floats = found / np.cumsum(GAINS)[sizes - 1]
        return ndcg


@dataclass(frozen=True)
class Tried:
    """A strength on the validation: change of the Gini coefficient, and of NDCG@10 by group of shoppers."""

    strength: float
    gini: float
    ndcg: dict[str, float]


@dataclass(frozen=True)
class System:
    """Lists on the test. `ndcg` (mean by group of shoppers), `change` against the lists as ranked, as a share of their
    mean; `gini_change` with its 95% interval; `exposure` and `found` (share of what is wanted that stands in lists) by
    facet and group of items, each with its 95% interval."""

    gini: float
    gini_change: tuple[float, float, float]
    shown: int
    ndcg: dict[str, float]
    change: dict[str, Difference]
    exposure: dict[str, dict[str, float]]
    found: dict[str, dict[str, tuple[float, float, float]]]


@dataclass(frozen=True)
class Tested:
    """One seed: what was tried, the strengths chosen (None where nothing tried will do) and every system."""

    seed: int
    tried: list[Tried]
    chosen: dict[str, float | None]
    systems: dict[str, System]
    sizes: dict[str, int]
    shares: dict[str, dict[str, tuple[float, float]]]
    """By facet and group of items: share of the items, share of what is wanted."""

    @property
    def reached(self) -> bool:
        """Whether the goal is: by the means, not their intervals."""
        return any(
            one.gini_change[0] <= GOAL and min(change.mean for change in one.change.values()) >= -LOSS
            for one in self.systems.values()
        )


def evaluate_fairness(
    path: Path,
    bundle: Path | None,
    cache: Path,
    runs: Path,
    config: RankerConfig,
    seeds: int,
    shoppers: int,
    told: Callable[[str], None],
    advanced: Callable[[int, int], None],
) -> tuple[dict[str, Any], list[Tested]]:
    """What was measured, and every seed from `config.seed` on, on the canonical dataset `path`.

    Scored by the ranker, trained for `config.minutes` with the encoder of `bundle`, or without one by item-kNN and
    popularity. At most `shoppers` are asked. `runs` is a directory where candidates are kept until all is done; `told`
    and `advanced` hear how far it is. Raises NoTime, TooLittle, ValueError, BundleError.
    """
    dataset = open_dataset(path)
    dataset.require_events()
    items = {item.id: item for item in read_items(path)}
    facts: dict[str, Any] = {}
    tested: list[Tested] = []
    for number in range(seeds):
        seed = config.seed + number
        log = read_log(dataset, dataset.events(), seed)
        if len(log.item_ids) <= DEPTH:
            raise ValueError(f"{path}: {len(log.item_ids)} items; lists of {DEPTH} are made of more than {DEPTH}")
        ordered = [items[one] for one in log.item_ids]
        by = suppliers(ordered)
        protocol = "time" if log.has_time else "leave-one-out"
        validation, test = split(dataset, log, protocol, seed, shoppers)
        facts = {
            "data": dataset.info.name,
            "protocol": PROTOCOLS[protocol],
            "scored_by": "the ranker" if bundle else "item-kNN and popularity",
            "suppliers_told_by": by.name,
            "suppliers": len(by.names),
            "items": len(ordered),
            "shoppers_validation": len(validation.examples),
            "shoppers_test": len(test.examples),
            "candidates": CANDIDATES,
            "minutes_a_training": config.minutes if bundle else 0,
            "supplier_weight": config.supplier_weight if bundle else 0,
        }
        settings = replace(config, seed=seed)
        identity = json.dumps([facts, asdict(settings), str(bundle), asdict(dataset.info), len(log.item)])
        kept = runs / hashlib.sha256(identity.encode()).hexdigest()[:16]
        if bundle:
            shop = partial(Shop.of, log, ordered, Encoder.open(bundle), cache, lambda done, total: None)
            scored = partial(_by_ranker, cache_once(shop), settings)
        else:
            scored = partial(_by_neighbours, log, cache_once(partial(_popularity_weight, log, validation)))
        asked = []
        for name, at in (("validation", validation), ("test", test)):
            told(f"seed {seed}: candidates of the {name}")
            asked.append(Asked.of(at, *_candidates(kept / f"{name}.npz", scored, log, at)))
            advanced(len(tested) * 2 + len(asked), 2 * seeds)
        groups = [shopper_groups(Segments.read(dataset, log), log, at) for at in (validation, test)]
        chances = _chances(asked[0], asked[1])
        tested.append(
            judge_seed(seed, asked[0], asked[1], chances, groups[0], groups[1], by, facets(ordered, log, test))
        )
    shutil.rmtree(runs, ignore_errors=True)
    return facts, tested


def judge_seed(
    seed: int,
    validation: Asked,
    test: Asked,
    chances: tuple[Floats, Floats],
    groups: Mapping[str, Bools],
    test_groups: Mapping[str, Bools],
    by: Facet,
    others: list[Facet],
) -> Tested:
    """Chooses strengths on the validation, tests once. Groups of shoppers that are in both are judged.

    `chances` of the candidates of both, made without what the test wants. Lists are made together, in two passes
    (shared_out).
    """
    names = [name for name in test_groups if name in groups]
    chance, test_chance = chances
    count = len(by.names)
    plain = as_ranked(chance)
    unit = float(np.take_along_axis(chance, plain, axis=1).mean())
    before, unequal = validation.ndcg(plain), _gini(validation, plain, by)
    tried = []
    for strength in STRENGTHS:
        lists = shared_out(
            chance, by.group[validation.items], count, strength * unit, turns(validation.at, seed), _PASSES
        )
        after = validation.ndcg(lists)
        change = {name: float(after[those].mean() / before[those].mean() - 1) for name, those in groups.items()}
        tried.append(
            Tried(strength, _gini(validation, lists, by) / unequal - 1, {name: change[name] for name in names})
        )
    allowed = [one for one in tried if min(one.ndcg.values()) >= -LOSS]
    far = [one for one in tried if one.gini <= GOAL]
    chosen = {
        SHARED: min(allowed, key=lambda one: one.gini).strength if allowed else None,
        TO_GOAL: min(far, key=lambda one: one.strength).strength if far else None,
    }
    supplier = by.group[test.items]
    lists_of = {AS_RANKED: as_ranked(test_chance), LIMITED: limited(test_chance, supplier, _MOST)}
    for name, found in chosen.items():
        if found is not None:
            lists_of[name] = shared_out(test_chance, supplier, count, found * unit, turns(test.at, seed), _PASSES)
    plain = lists_of[AS_RANKED]
    systems = {name: _judged(test, lists, plain, by, others, test_groups, names) for name, lists in lists_of.items()}
    shares = {
        one.name: dict(
            zip(
                one.names,
                zip(
                    (np.bincount(one.group, minlength=len(one.names)) / len(one.group)).tolist(),
                    wanted_share(one, test.at).tolist(),
                    strict=True,
                ),
                strict=True,
            )
        )
        for one in others
    }
    return Tested(seed, tried, chosen, systems, {name: int(test_groups[name].sum()) for name in names}, shares)


def _chances(validation: Asked, test: Asked) -> tuple[Floats, Floats]:
    """Chances of the candidates of both, told by what the validation wants."""
    told = validation.scores, validation.met, validation.wanted
    return cross_fitted(*told), fitted(*told, test.scores, test.met)


def turns(at: Moment, seed: int) -> list[int]:
    """Shoppers in the order in which they came; those of one time by chance."""
    now = at.examples.now
    order: list[int] = np.lexsort((np.random.default_rng(seed).random(len(now)), now)).tolist()
    return order


def _judged(
    test: Asked, lists: Ints, plain: Ints, by: Facet, others: list[Facet], groups: Mapping[str, Bools], names: list[str]
) -> System:
    ndcg, before = test.ndcg(lists), test.ndcg(plain)
    shown = np.take_along_axis(test.items, lists, axis=1)
    change = {}
    for name in names:
        those = groups[name]
        base = before[those].mean() or 1.0
        change[name] = paired_bootstrap(ndcg[those] / base, before[those] / base)
    return System(
        gini(exposure_of(by.group[shown], len(by.names))),
        _gini_change(by, shown, np.take_along_axis(test.items, plain, axis=1)),
        len(np.unique(by.group[shown])),
        {name: float(ndcg[groups[name]].mean()) for name in names},
        change,
        {one.name: _exposure(one, shown) for one in others},
        {one.name: _found(one, test, lists) for one in others},
    )


def _gini(asked: Asked, lists: Ints, by: Facet) -> float:
    return gini(exposure_of(by.group[np.take_along_axis(asked.items, lists, axis=1)], len(by.names)))


def _gini_change(by: Facet, shown: Ints, plain: Ints) -> tuple[float, float, float]:
    """By how much the Gini coefficient differs, as a share, and its 95% normal interval, with the standard error over
    drawn shoppers (Efron and Tibshirani 1993, section 13.3: shoppers drawn twice expose fewer suppliers, so that the
    percentiles of the draws lie beside the value)."""

    def change(weights: Floats | None) -> float:
        after, before = (gini(exposure_of(by.group[one], len(by.names), weights)) for one in (shown, plain))
        return after / before - 1

    n, random = len(shown), np.random.default_rng(0)
    drawn = [change(random.multinomial(n, np.full(n, 1 / n)).astype(np.float64)) for _ in range(_FEWER_DRAWS)]
    value, beyond = change(None), 1.96 * float(np.std(drawn))
    return value, value - beyond, value + beyond


def _exposure(facet: Facet, shown: Ints) -> dict[str, float]:
    exposure = exposure_of(facet.group[shown], len(facet.names))
    return dict(zip(facet.names, (exposure / exposure.sum()).tolist(), strict=True))


def _found(facet: Facet, test: Asked, lists: Ints) -> dict[str, tuple[float, float, float]]:
    """Of what is wanted of each group the share that stands in lists, with its 95% interval over drawn shoppers; groups
    of which nothing is wanted are left out."""
    examples, count = test.at.examples, len(facet.names)
    shown = np.take_along_axis(test.items, lists, axis=1)
    owner = np.repeat(np.arange(len(examples)), np.diff(examples.starts))
    hit = (shown[owner] == examples.items[:, None]).any(axis=1)
    group = facet.group[examples.items]
    cell = owner * count + group
    asked = np.bincount(cell, minlength=len(examples) * count).reshape(-1, count)
    met = np.bincount(cell, hit, len(examples) * count).reshape(-1, count)
    random = np.random.default_rng(0)
    n = len(examples)
    weights = random.multinomial(n, np.full(n, 1 / n), _FEWER_DRAWS)
    out = {}
    for i in np.flatnonzero(asked.any(axis=0)).tolist():
        with np.errstate(invalid="ignore"):
            low, high = np.nanpercentile((weights @ met[:, i]) / (weights @ asked[:, i]), [2.5, 97.5])
        out[facet.names[i]] = (float(met[:, i].sum() / asked[:, i].sum()), float(low), float(high))
    return out


def _candidates(file: Path, scored: Callable[[Moment, Path], Scores], log: Log, at: Moment) -> tuple[Ints, Floats]:
    """The best of each shopper and their scores; kept in the file for when the command is run again after a kill."""
    if not file.is_file():
        checkpoints = file.with_suffix(".checkpoints")
        checkpoints.mkdir(parents=True, exist_ok=True)
        scores = scored(at, checkpoints)
        count = min(CANDIDATES, len(log.item_ids))
        items = np.empty((len(at.examples), count), np.int64)
        values = np.empty(items.shape)
        for number in range(len(items)):
            line = _unmet(scores(number), log, at, number)
            items[number] = best(line[None], count)[0]
            values[number] = line[items[number]]
        draft = file.with_suffix(".draft.npz")
        np.savez(draft, items=items, scores=values)
        draft.replace(file)
    with np.load(file) as kept:
        return kept["items"], kept["scores"]


def _unmet(line: Float32, log: Log, at: Moment, number: int) -> Float32:
    """Scores (items,), which are 0 or more, of one shopper; what was met stands behind all where nobody likes an item
    again."""
    line = line.astype(np.float32)
    if at.new_only:
        line[log.item[at.examples.begin[number] : at.examples.end[number]]] = -1.0
    return line


def _by_neighbours(log: Log, weight: Callable[[], float], at: Moment, checkpoints: Path) -> Scores:
    """Neighbours of what was met, and popularity with a weight, each divided by its best."""
    popular = popularity_scores(log, at, _HALF_LIFE_DAYS)(0)
    share = weight() * popular / max(float(popular.max()), _LEAST)
    near = knn_scores(log, at, by="session", keep=100, decay=0.9)

    def scores(number: int) -> Float32:
        line = near(number)
        mixed: Float32 = line / max(float(line.max()), _LEAST) + share
        return mixed

    return scores


def _popularity_weight(log: Log, at: Moment) -> float:
    """What finds most in the first ten."""
    examples = at.examples
    reached = {}
    for weight in _POPULARITY:
        scores = _by_neighbours(log, lambda weight=weight: weight, at, Path())  # type: ignore[misc]
        found = 0.0
        for number in range(len(examples)):
            first = best(_unmet(scores(number), log, at, number)[None], DEPTH)[0]
            found += float((np.isin(first, examples.items[examples.wanted(number)]) * GAINS).sum())
        reached[weight] = found
    return max(reached, key=lambda one: reached[one])


def _by_ranker(shop_of: Callable[[], Shop], config: RankerConfig, at: Moment, checkpoints: Path) -> Scores:
    """The heads over all items, as HOME is ordered; trained on what lies before the moment."""
    shop = shop_of()
    part = Shop(rows_before(shop.log, at.seen), shop.items, shop.content, shop.queries)
    made = fit_ranker(part, config, time.monotonic(), checkpoints, lambda what: None, lambda epoch: None)
    return ranker_scores(shop, at, made)
