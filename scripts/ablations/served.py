"""What a ranker of `train ranker --sequences` does once it is served: the same measures, asked of real processes.

    python scripts/ablations/served.py --sequences FILE --items FILE --ranker DIR --encoder DIR --work DIR

The ranker goes into a bundle, the items into a shop that serves it. Of shoppers drawn at random the last item is asked
for by all before it: of `Rank`, which is given every item of the catalogue in parts (a candidate's probability does not
depend on its company), and of HOME, after the shopper's history was recorded, through retrieval, list making and all.
Beside both what the files themselves say of the same shoppers.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from souk.coldstart.v1 import coldstart_pb2
from souk.ranker.v1 import ranker_pb2, ranker_pb2_grpc
from souk.types.v1 import types_pb2
from training.bundle.bundle import assemble
from training.evaluate.stack import Stack
from training.ranker.log import Ints
from training.ranker.sequences.export import Served
from training.ranker.sequences.files import read_items, read_sequences
from training.ranker.sequences.judging import moments, ranks_of

_AT_ONCE = 1000
_RANKER = 3
"""Its port, counted from the gateway's."""
BOUGHT = types_pb2.EVENT_TYPE_PURCHASE


def main() -> None:
    """Prints HR@10 and NDCG@10 of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("sequences", "items", "ranker", "encoder", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--shoppers", type=int, default=1000)
    given = parser.parse_args()
    # What exploration shows is nothing that the ranker chose.
    os.environ["SOUK_COLDSTART_EXPLORE"] = "false"
    table = read_items(given.items)
    sequences = read_sequences(given.sequences, seed=1)
    items = [table.get(item_id, types_pb2.Item(id=item_id, title=item_id)) for item_id in sequences.item_ids]
    for item in items:
        item.visible, item.currency = True, "USD"
    if not (given.work / "bundle").exists():
        assemble(given.encoder, given.work / "bundle", given.ranker)
    served = Served.open(given.ranker)
    masked = not sequences.repeats()
    some = np.random.default_rng(0).permutation(sequences.shoppers)[: given.shoppers]
    place = {item_id: row for row, item_id in enumerate(served.item_ids)}
    to_served = np.array([place[item_id] for item_id in sequences.item_ids])

    def by_files(histories: list[Ints]) -> NDArray[np.float32]:
        return served.scores([to_served[history] for history in histories])[:, to_served]

    show("the files", ranks_of(sequences, 1, some, by_files, masked))
    with Stack(items, given.work / "bundle", given.work) as stack, Progress() as progress:
        stack.fill(progress)
        shop = stack.client
        until(lambda: not any(index.pending for index in shop.catalogue_info().indexes))
        pairs = [
            ([sequences.item_ids[row] for row in history], sequences.item_ids[wanted])
            for histories, items_wanted in moments(sequences, 1, some)
            for history, wanted in zip(histories, items_wanted.tolist(), strict=True)
        ]
        with grpc.insecure_channel(f"127.0.0.1:{stack.port + _RANKER}") as channel:
            stub = ranker_pb2_grpc.RankerStub(channel)
            told = progress.add_task("Rank", total=len(pairs))
            ranks = []
            for history, wanted in pairs:
                ranks.append(rank(stub, history, wanted, sequences.item_ids, masked))
                progress.advance(told)
            show("Rank, every item", np.array(ranks))
        told = progress.add_task("HOME", total=len(pairs))
        ranks = []
        for number, (history, wanted) in enumerate(pairs):
            name = f"shopper-{number}-{time.time_ns()}"
            events = [
                types_pb2.Event(event_id=f"{name}-{at}", shopper_id=name, type=BOUGHT, item_id=item_id, quantity=1)
                for at, item_id in enumerate(history)
            ]
            shop.record_events(events[-200:])
            answer = shop.recommend(types_pb2.SCENE_HOME, shopper_id=name, page_size=10)
            shown = [hit.item_id for hit in answer.hits]
            ranks.append(shown.index(wanted) if wanted in shown else len(sequences.item_ids))
            progress.advance(told)
        show("HOME, as a shopper sees it", np.array(ranks))


def rank(stub: ranker_pb2_grpc.RankerStub, history: list[str], wanted: str, items: list[str], masked: bool) -> float:
    """How many items stand before the wanted one: of those that score the same, half do."""
    met = set(history) if masked else set()
    entries = [coldstart_pb2.HistoryEntry(item_id=item_id, type=BOUGHT, quantity=1) for item_id in history[-256:]]
    context = coldstart_pb2.ShopperContext(history=entries)
    scores: dict[str, float] = {}
    for begin in range(0, len(items), _AT_ONCE):
        part = items[begin : begin + _AT_ONCE]
        request = ranker_pb2.RankRequest(context=context, scene=types_pb2.SCENE_SEARCH, candidates=columns(part))
        answer = stub.Rank(request, timeout=30)
        scores |= {
            part[row]: chance for row, chance in zip(answer.order, answer.objectives[0].probability, strict=True)
        }
    own = scores[wanted]
    others = np.array([score for item_id, score in scores.items() if item_id != wanted and item_id not in met])
    return float((others > own).sum() + (others == own).sum() / 2)


def columns(ids: list[str]) -> types_pb2.CandidateColumns:
    """Candidates of which nothing but the id is told; all are in their first revision."""
    n = len(ids)
    given: dict[str, Any] = {name: [0] * n for name in ("currency", "brand", "category", "created_at")}
    given |= {name: [0.0] * n for name in ("popularity", "score")}
    given |= {name: [""] for name in ("currencies", "brands", "categories")}
    nan = [float("nan")] * n
    return types_pb2.CandidateColumns(id=ids, revision=[1] * n, title=[""] * n, price=nan, stock=[-1] * n, **given)


def show(what: str, ranks: NDArray[np.float64]) -> None:
    """HR@10 and NDCG@10 of places counted from 0."""
    inside = ranks < 10
    gain = np.where(inside, 1 / np.log2(ranks + 2), 0)
    error = gain.std() / np.sqrt(len(gain))
    told = f"HR@10 {inside.mean():.4f}  NDCG@10 {gain.mean():.4f} ± {error:.4f}"
    print(f"{what:28} {told}  {len(ranks)} shoppers", flush=True)


def until(holds: Callable[[], bool]) -> None:
    """Waits for what the background workers do."""
    while not holds():
        time.sleep(1)


if __name__ == "__main__":
    main()
