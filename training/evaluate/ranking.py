"""What is asked of a ranking and how it is judged, and the scores of every system but SASRec: offline, on a log."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from services.domain.neighbours import Neighbours, latest
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.ranker.examples import Examples, session_examples
from training.ranker.log import Bools, Ints, Log
from training.ranker.measures import Measured, auc, measure
from training.ranker.neighbours import find_neighbours
from training.ranker.pipeline import Fitted, Shop, make_teller, shopper_vectors
from training.ranker.situations import popularity

_PARTNERS, _WINDOW = 300, 100
_AT_ONCE = 64

Scores = Callable[[int], Float32]


@dataclass(frozen=True)
class Moment:
    """What shoppers are asked about, and the rows of the log that lie before it, up to the time `until`.

    `new_only`: items met before are left out, since nobody had liked an item again by then.
    """

    examples: Examples
    seen: Bools
    until: float
    new_only: bool


def next_baskets(log: Log, after: float, before: float, seed: int, most: int) -> Moment:
    """The first session of each shopper from `after` to `before` (times of the log), at most so many drawn by seed."""
    examples = session_examples(log, seed, within=False)
    inside = np.flatnonzero((examples.now >= after) & (examples.now < before))
    _, first = np.unique(log.shopper[examples.end[inside]], return_index=True)
    return _moment(log, examples, inside[first], log.time < after, after, seed, most)


def last_events(log: Log, back: int, seed: int, most: int) -> Moment:
    """The last event (`back` 1) or the last but one (2) of each shopper of three or more, where it speaks for its item
    (Kang and McAuley 2018, section 4.1); at most so many drawn by seed.

    Where there is time, other shoppers' later events are among what was seen: the protocol has it so.
    """
    many = np.flatnonzero(np.diff(log.starts) > 2)
    end = log.starts[many + 1] - back
    many, end = many[log.liked[end]], end[log.liked[end]]
    examples = Examples(
        log.starts[many],
        end,
        log.time[end],
        np.arange(len(end) + 1),
        log.item[end],
        np.ones(len(end)),
        log.type[end],
    )
    # The row counted from the shopper's end; those of fewer than three events all stay.
    left = log.starts[log.shopper + 1] - np.arange(len(log.item))
    seen = (left > back) | (np.diff(log.starts) <= 2)[log.shopper]
    until = float(log.time[seen].max(initial=0.0))
    return _moment(log, examples, np.arange(len(end)), seen, until, seed, most)


def _moment(log: Log, examples: Examples, chosen: Ints, seen: Bools, until: float, seed: int, most: int) -> Moment:
    chosen = np.sort(np.random.default_rng(seed).permutation(chosen)[:most])
    return Moment(examples.take(chosen), seen, until, not has_repeats(rows_before(log, seen)))


def judge(moment: Moment, log: Log, scores: Scores) -> Measured:
    """Full ranking of all items, with "auc" among the values."""
    examples, parts = moment.examples, []
    for begin in range(0, len(examples), _AT_ONCE):
        some = np.arange(begin, min(begin + _AT_ONCE, len(examples)))
        table = np.stack([scores(int(number)) for number in some]).astype(np.float32)
        part = examples.take(some)
        rows = np.repeat(np.arange(len(some)), np.diff(part.starts))
        if moment.new_only:
            for row, number in enumerate(some):
                table[row, log.item[examples.begin[number] : examples.end[number]]] = np.nan
        measured = measure(table, rows, part.items)
        parts.append(Measured({**measured.values, "auc": auc(table, rows, part.items)}, measured.first))
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
    teller = make_teller(shop, fitted.trained, moment.until, moment.seen, moment.seen)
    log = histories or shop.log
    teller = replace(teller, situations=replace(teller.situations, log=log))
    examples = moment.examples
    vectors = shopper_vectors(fitted.trained, teller.table, log, examples, np.arange(len(examples)))
    everything = np.arange(len(shop.log.item_ids))

    def scores(number: int) -> Float32:
        rows = teller.situations.history(int(examples.begin[number]), int(examples.end[number]))
        now = float(examples.now[number])
        legs = teller.legs(rows, now, vectors[number], types_pb2.SCENE_HOME, "")
        known = teller.situations.known(rows, now, everything, legs)
        return fitted.heads.score(known.features(types_pb2.SCENE_HOME), "HOME")

    return scores


def affinity_scores(shop: Shop, moment: Moment, fitted: Fitted) -> Scores:
    """The Transformer alone."""
    table = fitted.trained.table(shop.content)
    examples = moment.examples
    vectors = shopper_vectors(fitted.trained, table, shop.log, examples, np.arange(len(examples)))
    return lambda number: table @ vectors[number]


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
