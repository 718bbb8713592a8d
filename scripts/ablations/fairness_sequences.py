"""What it costs to share exposure out among brands where a ranker of `train ranker --sequences` scores.

    python scripts/ablations/fairness_sequences.py --sequences FILE --items FILE --ranker DIR --seed 1 --draw 7

`--ranker` and `--seed` are those of a finished training; `--draw` draws 4,000 shoppers. Choices on their last item but
one, the test on the last, as `evaluate fairness` has it (training.fairness.evaluate.judge_seed), but that chances are
those that the blend itself gives the items of the catalogue (softmax). The blend's weights were fitted to the
validation of 4,096 shoppers; the network learned nothing of it.
"""

import argparse
from pathlib import Path

import numpy as np

from souk.types.v1 import types_pb2
from training.coldstart.segments import Segments
from training.evaluate.ranking import Moment, last_events
from training.fairness.evaluate import CANDIDATES, Asked, Tested, judge_seed
from training.fairness.groups import shopper_groups
from training.ranker.log import Floats, Ints, Log
from training.ranker.sequences.export import Served
from training.ranker.sequences.files import Sequences, read_items, read_sequences
from training.ranker.sequences.judging import leave_out
from training.ranker.suppliers import suppliers

_SHOPPERS = 4000
_AT_ONCE = 250


def main() -> None:
    """Prints what was tried on the validation and what was tested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=Path, required=True)
    parser.add_argument("--items", type=Path, required=True)
    parser.add_argument("--ranker", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--draw", type=int, required=True)
    given = parser.parse_args()
    sequences = read_sequences(given.sequences, given.seed)
    served = Served.open(given.ranker)
    if served.item_ids != sequences.item_ids:
        raise SystemExit(f"{given.ranker}: was not trained on {given.sequences} with seed {given.seed}")
    items = read_items(given.items)
    log = log_of(sequences)
    moments = [last_events(log, back, given.draw, _SHOPPERS) for back in (2, 1)]
    validation, test = (asked(served, log, at) for at in moments)
    nothing = Segments((), [np.empty(0, np.int64)] * len(log.shopper_ids))
    groups, test_groups = (shopper_groups(nothing, log, at) for at in moments)
    by = suppliers([items.get(item, types_pb2.Item(id=item)) for item in log.item_ids])
    chances = validation.scores, test.scores
    show(judge_seed(given.draw, validation, test, chances, groups, test_groups, by, []))


def log_of(sequences: Sequences) -> Log:
    """Purchases in their order, without time."""
    n = len(sequences.item)
    place = np.arange(n) - sequences.starts[sequences.owner]
    return Log(
        sequences.item_ids,
        [str(number) for number in range(sequences.shoppers)],
        False,
        sequences.owner,
        sequences.item,
        np.full(n, types_pb2.EVENT_TYPE_PURCHASE),
        place.astype(np.float64),
        np.arange(n),
        np.zeros(n, np.int64),
        np.full(n, "", np.object_),
    )


def asked(served: Served, log: Log, at: Moment) -> Asked:
    """The likeliest items of each shopper and their probabilities among all that may be shown."""
    spans = zip(at.examples.begin.tolist(), at.examples.end.tolist(), strict=True)
    histories = [log.item[begin:end] for begin, end in spans]
    items: list[Ints] = []
    chances: list[Floats] = []
    for begin in range(0, len(histories), _AT_ONCE):
        some = histories[begin : begin + _AT_ONCE]
        scores = served.scores(some)
        if at.new_only:
            scores = leave_out(scores, some)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True)).astype(np.float64)
        scores /= scores.sum(axis=1, keepdims=True)
        chosen = np.argsort(-scores, axis=1, kind="stable")[:, :CANDIDATES]
        items.append(chosen)
        chances.append(np.take_along_axis(scores, chosen, axis=1))
    return Asked.of(at, np.concatenate(items), np.concatenate(chances))


def show(found: Tested) -> None:
    """A row for each strength on the validation, and for each system on the test: Gini and NDCG@10, with changes."""
    groups = list(found.sizes)
    print("validation, strength | Gini |", " | ".join(groups))
    for tried in found.tried:
        print(f"{tried.strength:4g} | {tried.gini:+.1%} |", " | ".join(f"{tried.ndcg[name]:+.1%}" for name in groups))
    print("test | strength | Gini | change | brands shown |", " | ".join(groups))
    for name, system in found.systems.items():
        changes = (f"{system.ndcg[group]:.4f} {system.change[group].mean:+.1%}" for group in groups)
        value, low, high = system.gini_change
        told = f"{system.gini:.3f} | {value:+.1%} ({low:+.1%} to {high:+.1%}) | {system.shown}"
        print(f"{name} | {found.chosen.get(name)} | {told} |", " | ".join(changes), flush=True)


if __name__ == "__main__":
    main()
