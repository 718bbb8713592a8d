"""From a log to a ranker: content, Transformer, heads, and at last what happened since, within a budget of minutes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.content import Encoder
from training.ranker.answers import Answers
from training.ranker.config import RankerConfig
from training.ranker.examination import examination
from training.ranker.examples import Examples, batches, hold_out, session_examples
from training.ranker.heads import (
    OBJECTIVES,
    BehaviourModel,
    Heads,
    Rows,
    Teller,
    calibration,
    fit,
    rows_of,
    rows_of_answers,
)
from training.ranker.log import Bools, Floats, Ints, Log
from training.ranker.neighbours import find_neighbours
from training.ranker.situations import Facts, Situations, Trends, popularity
from training.ranker.suppliers import suppliers, worth
from training.ranker.train import Epoch, Trained, Training
from training.ranker.words import Words

# How the time is shared out: until when each part may go on.
CONTENT, _TRANSFORMER, _ROWS, _LATEST = 0.4, 0.65, (0.78, 0.82), 0.95
_EXPORT_SECONDS = 12.0
_HALF_LIFE_DAYS = 30.0
_HEAD_EXAMPLES = 2_000
_MIN_EXAMPLES = 20
# Answers of which something was clicked, from which the heads rather learn than from what retrieval might have shown.
_MIN_ANSWERS = 200


class TooLittle(ValueError):
    """The log holds too little to learn from; the message says what is missing."""


@dataclass(frozen=True)
class Shop:
    """A log with what its items are, in the numbers of the log."""

    log: Log
    items: list[types_pb2.Item]
    content: Float32
    queries: dict[str, Float32]
    answers: Answers | None = None
    """What shoppers were shown, where the dataset tells."""

    @classmethod
    def of(
        cls,
        log: Log,
        items: Sequence[types_pb2.Item],
        encoder: Encoder,
        cache: Path,
        told: Callable[[int, int], None],
        until: float = math.inf,
        answers: Answers | None = None,
    ) -> "Shop":
        """Embeds the queries of the log and of the answers, and the items, given in any order.

        From time.monotonic() `until` on no more are embedded: those that the log holds least stand by their id alone.
        """
        by_id = {item.id: item for item in items}
        ordered = [by_id[item_id] for item_id in log.item_ids]
        texts = sorted({*log.query.tolist(), *(answers.query if answers else ())} - {""})
        vectors = encoder.queries(texts, cache, told, until)
        often = np.argsort(-np.bincount(log.item, minlength=len(ordered)), kind="stable")
        content = np.empty((len(ordered), encoder.manifest.dim), np.float32)
        content[often] = encoder.items([ordered[number] for number in often.tolist()], cache, told, until)
        queries = {text: vector for text, vector in zip(texts, vectors, strict=True) if vector.any()}
        return cls(log, ordered, content, queries, answers)


@dataclass(frozen=True)
class Fitted:
    """A ranker: the model over all that happened, the heads, and how they did on what was held out."""

    trained: Trained
    heads: Heads
    metrics: dict[str, float]


def fit_ranker(
    shop: Shop,
    config: RankerConfig,
    started: float,
    checkpoints: Path,
    told: Callable[[str], None],
    epoch_told: Callable[[Epoch], None],
) -> Fitted:
    """Trains within config.minutes since `started` (time.monotonic()). Raises TooLittle, Unrandomised, and
    ValueError where suppliers are to be weighed and there are none.

    The Transformer learns on all but the latest examples, the heads on those, so that they meet affinities of moments
    that it has not learned. Then it goes on for a little over everything.
    """
    log, seconds = shop.log, working_seconds(config)
    examples = session_examples(log, config.seed)
    learn, late = hold_out(log, examples, config.held_out)
    if len(learn) < _MIN_EXAMPLES or len(late) < _MIN_EXAMPLES:
        raise TooLittle(
            f"{len(examples)} moments at which shoppers with a history liked something: at least "
            f"{_MIN_EXAMPLES} to learn from and {_MIN_EXAMPLES} held out are needed"
        )
    until = float(examples.now[late].min()) if log.has_time else 0.0
    shown = _late_answers(shop.answers, until)
    curve = _curve(shop.answers, shown, config)
    rng = np.random.default_rng(config.seed)
    choose = rng.permutation(late)[: config.validation_examples]
    counts = worth_of(shop, examples.take(learn), config)
    told("Transformer")
    trained = Training(
        log,
        examples,
        learn,
        choose,
        shop.content,
        config,
        started + _TRANSFORMER * seconds,
        checkpoints / "transformer.pt",
        epoch_told,
        worth=counts,
    ).run()
    told("heads")
    teller = make_teller(shop, trained, until, _before(log, examples, learn, until))
    pool = late if shown is None else shown
    chosen = rng.permutation(pool)[:_HEAD_EXAMPLES]
    cut = int(len(chosen) * 0.75)
    parts = []
    for part, share in zip((chosen[:cut], chosen[cut:]), _ROWS, strict=True):
        enough = started + share * seconds
        if shown is not None and shop.answers is not None:
            parts.append(rows_of_answers(teller, shop.answers, part, enough, curve))
        else:
            vectors = shopper_vectors(trained, teller.table, log, examples, part)
            parts.append(rows_of(teller, examples.take(part), vectors, enough))
    heads = fit(parts[0])
    metrics = {
        "ranker.heads_from_answers": float(shown is not None),
        "ranker.items_read": float(shop.content.any(axis=1).mean()),
        "ranker.affinity_ndcg_at_10": trained.ndcg,
        **judge(heads, parts[1]),
    }
    told("what happened since")
    everything = np.concatenate([learn, late])
    latest = replace(config, learning_rate=config.learning_rate / 4, epochs=2)
    again = Training(
        log,
        examples,
        everything,
        everything[:0],
        shop.content,
        latest,
        started + _LATEST * seconds,
        checkpoints / "latest.pt",
        epoch_told,
        trained,
        counts,
    ).run()
    return Fitted(again, heads, metrics)


def worth_of(shop: Shop, examples: Examples, config: RankerConfig) -> Floats | None:
    """What it counts that each item is wanted, where suppliers are to be weighed by the examples, else None. Raises
    ValueError where there are no suppliers."""
    return worth(suppliers(shop.items), examples, config.supplier_weight) if config.supplier_weight else None


def judge(heads: Heads, rows: Rows) -> dict[str, float]:
    """Calibration of each head, and NDCG@10 of the order among the candidates of each moment."""
    if not len(rows.features):
        return {}
    probability = heads.probability(rows.features)
    metrics = {
        f"ranker.{objective}_{name}": value
        for column, objective in enumerate(OBJECTIVES)
        for name, value in calibration(probability[:, column] * rows.looked_at, rows.labels[:, column]).items()
    }
    metrics["ranker.ndcg_at_10_among_candidates"] = rows.ndcg(probability[:, 0])
    return metrics


def working_seconds(config: RankerConfig) -> float:
    """What is left of the budget when the time that the export takes is kept for it."""
    return config.minutes * 60 - min(_EXPORT_SECONDS, config.minutes * 30)


def make_teller(shop: Shop, trained: BehaviourModel, until: float, seen: Bools, heard: Bools | None = None) -> Teller:
    """What retrieval would say had it been filled with the rows `seen` of the log, all before `until`.

    `heard`: rows from which coldstart, which goes on listening, knows at each moment of the days before whose demand
    rises; all where left out.
    """
    log = shop.log
    rows = seen & log.liked
    n = len(log.item_ids)
    neighbours = find_neighbours(log.shopper[rows], log.item[rows], n)
    facts = Facts.of(shop.items, shop.content)
    trends = Trends(log, np.ones(len(log.item), np.bool_) if heard is None else heard)
    situations = Situations(log, facts, popularity(log, seen, until, _HALF_LIFE_DAYS), trends, neighbours)
    words = Words(shop.items) if shop.queries else None
    return Teller(situations, trained, trained.table(shop.content), words, shop.queries)


def shopper_vectors(trained: BehaviourModel, table: Float32, log: Log, examples: Examples, chosen: Ints) -> Float32:
    """The vector of each chosen example, in their order: (n, dim)."""
    out = np.empty((len(chosen), table.shape[1]), np.float32)
    place = {int(example): number for number, example in enumerate(chosen)}
    for part, batch in batches(log, examples, chosen, 512, trained.max_history, None):
        out[[place[int(example)] for example in part]] = trained.shoppers(table, batch)
    return out


def _before(log: Log, examples: Examples, learn: Ints, until: float) -> Bools:
    """Rows that were there when the first held-out moment came."""
    if log.has_time:
        return log.time < until
    # Without time: the longest history of each shopper that was learned from.
    seen = np.zeros(len(log.item), bool)
    last = np.zeros(len(log.item) + 1, np.int64)
    np.maximum.at(last, examples.begin[learn], examples.end[learn])
    for begin in np.flatnonzero(last):
        seen[begin : last[begin]] = True
    return seen


def _late_answers(answers: Answers | None, until: float) -> Ints | None:
    """Answers from `until` on, where enough of them came to something to learn from; else None."""
    if answers is None:
        return None
    late = np.flatnonzero(answers.time >= until)
    useful = np.add.reduceat(answers.labels[:, 0], answers.starts[:-1])[late] > 0 if len(late) else late
    return late if np.count_nonzero(useful) >= _MIN_ANSWERS else None


def _curve(answers: Answers | None, shown: Ints | None, config: RankerConfig) -> Floats | None:
    """How much each place is looked at, where the heads are to be corrected for it. Raises TooLittle, Unrandomised."""
    if config.objective == "plain":
        return None
    if answers is None or shown is None:
        raise TooLittle(f"objective {config.objective}: needs impressions, {_MIN_ANSWERS} of the latest with a click")
    return examination(answers)
