"""Who should order the page of a shopper of few events: the blend of the cold start, the ranker, or both.

    python scripts/ablations/handover.py --data DATASET --bundle BUNDLE --seed 5 --minutes 4

Shoppers are held out as `evaluate coldstart` holds them out: one fifth for the test, another for the validation, each
with its latest 0, 1, 3, 5, 10 or all events shown, all items ranked. Both learn from the same shoppers. What serves is
score ^ c * blend ^ (1 - c) with c = e / (e + 3) for e events (services/ranker/handover.py); other numbers than 3 are
tried on the validation, and all of them are shown on the test. With --sequences also the ranker of `train ranker
--sequences`, learned with texts from the same shoppers: what the blend reaches after few events is a share of what the
best ranker reaches with the whole history.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.domain.strategies import confidence
from souk.dataset import read_items
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.coldstart.segments import Segments
from training.coldstart.strategies import Tuning, liked_items, strategies_of
from training.content import Encoder
from training.data.canonical import open_dataset
from training.evaluate.bootstrap import paired_bootstrap
from training.evaluate.coldstart import EVERYBODY, REVEALED, judge_shoppers, learn_blend, moments_before, souk_scores
from training.evaluate.coldstart_baselines import Told
from training.evaluate.coldstart_moments import Asked, fold_of, shoppers_asked
from training.evaluate.ranker import split
from training.evaluate.ranking import Moment
from training.ranker.config import RankerConfig
from training.ranker.examples import Examples
from training.ranker.log import read_log
from training.ranker.pipeline import Shop, fit_ranker, make_teller, shopper_vectors
from training.ranker.sequences.config import fitted
from training.ranker.sequences.export import Served
from training.ranker.sequences.files import MIN_ITEMS, attributes_of, read_sequences
from training.ranker.sequences.pipeline import fit
from training.ranker.sequences.texts import Texts
from training.ranker.situations import Facts

HALF_KNOWN = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_LISTED = 300
"""Items that the list of the blend holds: others count as its last."""

Scores = Callable[[int, slice], Float32]


def main() -> None:
    """Prints NDCG@10 by events shown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Canonical dataset with events.")
    parser.add_argument("--bundle", type=Path, required=True, help="What `encoder export` wrote, or a bundle.")
    parser.add_argument("--cache", type=Path, default=Path(".souk/content"))
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=4.0, help="What one training of the ranker may take.")
    parser.add_argument("--shoppers", type=int, default=500)
    parser.add_argument("--sequences", action="store_true", help="Also the ranker of plain sequences, on the test.")
    given = parser.parse_args()
    dataset = open_dataset(given.data)
    log = read_log(dataset, dataset.events(), given.seed)
    shop = Shop.of(log, list(read_items(given.data)), Encoder.open(given.bundle), given.cache, lambda done, total: None)
    told = Told(Facts.of(shop.items, shop.content), Segments.read(dataset, log))
    validation, test = split(dataset, log, "time" if log.has_time else "leave-one-out", given.seed, EVERYBODY)
    fold = fold_of(len(log.shopper_ids), given.seed)

    def asked(moment: Moment, held: int, learned: NDArray[np.bool_]) -> Asked:
        return shoppers_asked(log, moment, fold == held, learned, given.shoppers, given.seed)

    learn = asked(moments_before(log, validation, given.seed), 1, fold > 1)
    blend = None
    for name, moments in (("validation", asked(validation, 1, fold > 1)), ("test", asked(test, 0, fold > 0))):
        strategies = strategies_of(
            moments.known, told.facts, told.content(True), told.segments, moments.until, Tuning()
        )
        if blend is None:
            blend = learn_blend(told, strategies, learn, given.seed)
        started = time.monotonic()
        ranker = ranker_of(shop, moments, RankerConfig(minutes=given.minutes, seed=given.seed))
        print(
            f"\n{name}: {len(moments)} shoppers, the ranker learned in {time.monotonic() - started:.0f} s", flush=True
        )
        others = {"sequence ranker": sequence_ranker_of(shop, moments)} if given.sequences and name == "test" else {}
        show(moments, souk_scores(told, strategies, moments, blend), ranker, others)


def ranker_of(shop: Shop, asked: Asked, config: RankerConfig) -> Scores:
    """Learned from what is known; the sum of its probabilities for HOME."""
    part = Shop(asked.known, shop.items, shop.content, shop.queries)
    with tempfile.TemporaryDirectory() as checkpoints:
        made = fit_ranker(part, config, time.monotonic(), Path(checkpoints), lambda what: None, lambda epoch: None)
    seen = np.ones(len(asked.known.item), np.bool_)
    teller = make_teller(part, made.trained, asked.until, seen)
    teller = replace(teller, situations=replace(teller.situations, log=asked.log))
    everything, one = np.arange(len(shop.items)), np.zeros(1, np.int64)

    def scores(number: int, history: slice) -> Float32:
        ends = (np.array([history.start]), np.array([history.stop]), np.array([asked.until]))
        moment = Examples(*ends, np.array([0, 1]), one, np.ones(1), one)
        vector = shopper_vectors(made.trained, teller.table, asked.log, moment, one)[0]
        rows = teller.situations.history(history.start, history.stop)
        legs = teller.legs(rows, asked.until, vector, types_pb2.SCENE_HOME, "")
        known = teller.situations.known(rows, asked.until, everything, legs)
        return made.heads.score(known.features(types_pb2.SCENE_HOME), "HOME")

    return scores


def sequence_ranker_of(shop: Shop, asked: Asked) -> Scores:
    """Learned from the items that known shoppers liked, in order; zeros where nothing was liked."""
    log = asked.known
    liked = np.flatnonzero(log.liked)
    lines = [
        " ".join([f"s{number}", *(log.item_ids[item] for item in log.item[rows].tolist())])
        for number, rows in enumerate(np.split(liked, np.flatnonzero(np.diff(log.shopper[liked])) + 1))
        if len(rows) >= MIN_ITEMS
    ]
    content = dict(zip(log.item_ids, shop.content, strict=True))
    known = {item.id: attributes_of(item) for item in shop.items}
    with tempfile.TemporaryDirectory() as work:
        file, out = Path(work) / "sequences.txt", Path(work) / "out"
        file.write_text("\n".join(lines) + "\n")
        sequences = read_sequences(file, seed=1)
        texts = Texts.of(sequences.item_ids, content, "")
        config = fitted(sequences, seed=1)
        fit(sequences, texts, known, config, out, Path(work) / "checkpoint", lambda what: None, lambda epoch: None)
        served = Served.open(out)
    place = {item_id: row for row, item_id in enumerate(served.item_ids)}
    there = np.array([place.get(item_id, -1) for item_id in log.item_ids])

    def scores(number: int, history: slice) -> Float32:
        met = there[liked_items(asked.log, history)]
        found = np.full(len(there), -np.inf if (met >= 0).any() else 0.0, np.float32)
        if (met >= 0).any():
            found[there >= 0] = served.scores([met[met >= 0]])[0][there[there >= 0]]
            # What it does not know stands last.
            found[there < 0] = found[there >= 0].min()
        return found

    return scores


def show(asked: Asked, blend: Scores, ranker: Scores, others: dict[str, Scores]) -> None:
    """A row for each way of ordering, with its gain over the ranker alone."""
    kept: dict[tuple[int, int, int], tuple[Float32, Float32]] = {}

    def both(number: int, history: slice) -> tuple[Float32, Float32]:
        key = (number, history.start, history.stop)
        if key not in kept:
            said = blend(number, history).astype(np.float32)
            listed = np.partition(said, -_LISTED)[-_LISTED] if len(said) > _LISTED else said.min()
            kept[key] = np.log(np.maximum(ranker(number, history), 1e-12)), np.maximum(said, listed)
        return kept[key]

    def mixed(half_known: float) -> Scores:
        def scores(number: int, history: slice) -> Float32:
            own, said = both(number, history)
            events = history.stop - history.start
            share = events / (events + half_known)
            found: Float32 = share * own + (1 - share) * said
            return found

        return scores

    ways: dict[str, Scores] = {"ranker alone": lambda *of: both(*of)[0], "blend alone": lambda *of: both(*of)[1]}
    ways |= {f"both, half known {half:g}": mixed(half) for half in HALF_KNOWN}
    ways |= others
    assert confidence(3) == 0.5, "what serves is no longer among the ways"
    reveals = {name: [most] * len(asked) for name, most in REVEALED.items()}
    measured = {
        way: {name: judge_shoppers(asked, scores, reveal).ndcg for name, reveal in reveals.items()}
        for way, scores in ways.items()
    }
    print(f"{'NDCG@10 by events shown':26}" + "".join(f"{name:>9}" for name in REVEALED) + f"{'mean':>9}")
    for way, found in measured.items():
        values = [float(one.mean()) for one in found.values()]
        print(f"{way:26}" + "".join(f"{value:9.4f}" for value in [*values, float(np.mean(values))]), flush=True)
    for name in REVEALED:
        gain = paired_bootstrap(measured["both, half known 3"][name], measured["ranker alone"][name])
        print(
            f"served over ranker alone, {name:>4} events: {gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}), "
            f"p {gain.p_value:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
