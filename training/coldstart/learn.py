"""Learns the blend that coldstart serves from the end of a log, then reads the strategies from all of it."""

from dataclasses import dataclass, replace

import numpy as np

from services.domain.blended import Blended, compared
from services.domain.strategies import Blend
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.coldstart.segments import Segments
from training.coldstart.strategies import Tuning, strategies_of
from training.data.canonical import Dataset
from training.evaluate.coldstart import (
    EVERYBODY,
    choose_bias,
    find_tops,
    judge_items,
    learn_blend,
    mean_of,
    share_of,
    souk_scores,
)
from training.evaluate.coldstart_baselines import Told
from training.evaluate.coldstart_moments import fold_of, items_asked
from training.evaluate.ranker import split
from training.evaluate.ranking import Moment, rows_before
from training.ranker.log import Bools, Log, read_log
from training.ranker.situations import Facts
from training.whitening import whitening

MOST_ITEMS = 20_000
"""Those that most events speak for: a request of coldstart compares all of them."""
MOMENTS = 600
_FEWEST_MOMENTS = 40


class TooLittle(Exception):
    """A log says too little for a blend; the message says what is missing."""


@dataclass(frozen=True)
class Learned:
    """A blend with how it did on moments that it was not fitted to, while a fifth of the items was unknown."""

    blended: Blended
    metrics: dict[str, float]


def learn(dataset: Dataset, items: dict[str, types_pb2.Item], content: dict[str, Float32], seed: int) -> Learned:
    """The blend of what shoppers did last: one half of the moments fits it, the other chooses what is added to unknown
    items.

    `content`: vectors (dim,) by item, of length 1, or zeros; what has none is left out. Two at least are not zeros.
    Raises TooLittle.
    """
    log = read_log(dataset, dataset.events(), seed)
    log = _of_most_liked(log, np.array([item in content for item in log.item_ids]))
    if not len(log.item):
        raise TooLittle("no event with an item")
    try:
        _, moment = split(dataset, log, "time" if log.has_time else "leave-one-out", seed, EVERYBODY)
    except ValueError as error:
        raise TooLittle(str(error)) from None
    ordered = [items[item] for item in log.item_ids]
    vectors = np.stack([content[item] for item in log.item_ids])
    readable = vectors.any(axis=1)
    mean, directions = whitening(vectors[readable])
    given = Told(Facts.of(ordered, compared(vectors, mean, directions)), Segments.read(dataset, log))
    blend, bias, metrics = _fitted(log, moment, given, seed)
    facts = given.facts
    whole = strategies_of(log, facts, facts.content, given.segments, float(log.time.max()), Tuning())
    _, category_lifts = given.segments.lifts(log, facts.category)
    brands = dict.fromkeys(["", *(item.brand for item in ordered)])
    blended = Blended(
        item_ids=tuple(log.item_ids),
        strategies=whole,
        blend=blend,
        bias=bias,
        segments=given.segments.names,
        brands=tuple(brands),
        categories=tuple(facts.categories),
        category_lifts=category_lifts,
        mean=mean,
        directions=directions,
    )
    return Learned(blended, metrics)


def _fitted(log: Log, moment: Moment, given: Told, seed: int) -> tuple[Blend, float, dict[str, float]]:
    fold = fold_of(len(log.item_ids), seed)
    hidden = fold == 0
    asked = items_asked(log, moment, hidden, np.zeros(len(fold), bool), MOMENTS, seed)
    if len(asked) < _FEWEST_MOMENTS:
        raise TooLittle(f"{len(asked)} moments at the end of the log; a blend needs {_FEWEST_MOMENTS} at least")
    order = np.random.default_rng(seed).permutation(len(asked))
    fitting, choosing = (asked.take(np.sort(half)) for half in (order[::2], order[1::2]))
    facts = given.facts
    strategies = strategies_of(asked.known, facts, facts.content, given.segments, asked.until, Tuning())
    blend = learn_blend(given, strategies, fitting, seed)
    tops = find_tops(choosing, souk_scores(given, strategies, choosing, blend))
    _, bias = choose_bias(choosing, tops, float(hidden[log.item[log.liked]].mean()))
    judged = judge_items(choosing, tops, bias)
    metrics = {
        "coldstart.blend_moments": float(len(asked)),
        "coldstart.blend_recall@10_cold": mean_of(judged, "cold"),
        "coldstart.blend_recall@10_warm": mean_of(judged, "warm"),
        "coldstart.blend_cold_share": share_of(judged),
    }
    return blend, bias, metrics


def _of_most_liked(log: Log, able: Bools) -> Log:
    """The log of the items that most events speak for, of those `able` (items,)."""
    counts = np.bincount(log.item[log.liked], minlength=len(log.item_ids))
    order = np.argsort(-counts, kind="stable")
    chosen = np.sort(order[able[order]][:MOST_ITEMS])
    place = np.full(len(able), -1)
    place[chosen] = np.arange(len(chosen))
    part = rows_before(log, place[log.item] >= 0)
    return replace(part, item_ids=[log.item_ids[row] for row in chosen.tolist()], item=place[part.item])
