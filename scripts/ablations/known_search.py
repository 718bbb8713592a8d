"""What a search shows a shopper who is known: as the retrieval orders it, as the ranker's heads alone would, as served.

    python scripts/ablations/known_search.py --data GENERATED --port 7100

A stack serves the generated shop, with its events, at `--port` of loopback and those after it (`python -m demo --data
GENERATED` makes one). Every judged query in Latin letters is asked for a shopper of 20 events and more, drawn by
`--seed`. *Utility* is nDCG@10 with the true chance of a click as gain: what the generated shopper thinks of an item
that fits the query (training/data/behaviour.py), 0 of one that does not. *Relevance* is nDCG@10 of the
grades, whoever asks.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import polars as pl

from services.domain.text import scripts_of
from souk import SyncClient, filters
from souk.coldstart.v1 import coldstart_pb2, coldstart_pb2_grpc
from souk.embedder.v1 import embedder_pb2
from souk.ranker.v1 import ranker_pb2, ranker_pb2_grpc
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_vector
from training.evaluate.judged import read_dataset
from training.evaluate.metrics import ndcg

_EVENTS = 20
_CANDIDATES = 200
_SECONDS = 20.0
# What the generated shoppers add for an item that is all that they asked for, and the bar of a click.
_MATCH, _BAR = 1.2, 0.9
# Of an item of the right kind that is not what they asked for.
_KIND = 0.3


def main() -> None:
    """Prints a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, default=7100)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    judged = read_dataset(given.data)
    items = {row["item_id"]: row for row in pl.read_parquet(given.data / "truth/items.parquet").iter_rows(named=True)}
    counts = dict(pl.read_parquet(given.data / "events.parquet").group_by("shopper_id").len().iter_rows())
    truth = pl.read_parquet(given.data / "truth/shoppers.parquet").iter_rows(named=True)
    known = [row for row in truth if row["language"] == "en" and counts.get(row["shopper_id"], 0) >= _EVENTS]
    rng = np.random.default_rng(given.seed)
    reached: dict[str, list[tuple[float, float]]] = {"retrieval": [], "ranker alone": [], "as served": []}
    channels = {name: grpc.insecure_channel(f"127.0.0.1:{given.port + at}") for name, at in (("rank", 3), ("cold", 4))}
    ranker = ranker_pb2_grpc.RankerStub(channels["rank"])
    coldstart = coldstart_pb2_grpc.ColdstartStub(channels["cold"])
    at = {"embedder": f"127.0.0.1:{given.port + 1}", "retriever": f"127.0.0.1:{given.port + 2}"}
    with SyncClient(f"127.0.0.1:{given.port}", **at, timeout=_SECONDS) as shop:
        for query, grades in judged.grades.items():
            if scripts_of(query).get("latin", 0) < 0.5:
                continue
            shopper = known[int(rng.integers(len(known)))]
            found = shop.retrieve(_request(query, shop.embed([query], role=embedder_pb2.ROLE_QUERY).vectors[0]))
            asked = coldstart_pb2.GetShopperContextRequest(shopper_id=shopper["shopper_id"])
            request = ranker_pb2.RankRequest(
                context=coldstart.GetShopperContext(asked, timeout=_SECONDS).context,
                query=query,
                scene=types_pb2.SCENE_SEARCH,
                candidates=found.candidates,
            )
            orders = {"retrieval": list(range(len(found.candidates.id)))}
            orders["as served"] = list(ranker.Rank(request, timeout=_SECONDS).order)
            # Where the retrieval finds all equally good the ranker alone decides.
            request.candidates.score[:] = [1.0] * len(found.candidates.id)
            orders["ranker alone"] = list(ranker.Rank(request, timeout=_SECONDS).order)
            gains = {one: _chance(items[one], shopper, grade) for one, grade in grades.items() if one in items}
            for name, order in orders.items():
                ids = [found.candidates.id[row] for row in order]
                reached[name].append((_ndcg(ids, gains), ndcg(ids, grades)))
    for name, values in reached.items():
        utility, relevance = np.nanmean(values, axis=0)
        print(f"{name:14} utility {utility:.4f}  relevance {relevance:.4f}  ({len(values)} queries)")


def _request(query: str, vector: Float32) -> retriever_pb2.SearchRequest:
    near = retriever_pb2.VectorLeg(space=types_pb2.SPACE_CONTENT, vector=pack_vector(vector))
    legs = [
        retriever_pb2.Leg(name="words", words=retriever_pb2.WordsLeg(query=query)),
        retriever_pb2.Leg(name="meaning", vector=near),
    ]
    return retriever_pb2.SearchRequest(legs=legs, k=_CANDIDATES, filter=filters.in_stock())


def _chance(item: Mapping[str, Any], shopper: Mapping[str, Any], grade: int) -> float:
    """The chance of a click by the world's own law (training/data/world.py, appeal)."""
    style = float(np.dot(item["style"], shopper["style"])) / math.sqrt(len(item["style"]))
    fit = 0.9 * style - 0.4 * (item["price_level"] - shopper["price_level"]) ** 2 + 0.4 * item["quality"]
    chance = 1 / (1 + math.exp(_BAR - fit - (_MATCH if grade == 3 else 0)))
    return chance * {0: 0.0, 1: _KIND}.get(grade, 1.0)


def _ndcg(ids: list[str], gains: Mapping[str, float]) -> float:
    """nDCG@10 of gains that need not be whole; NaN where there is none."""
    discounts = 1 / np.log2(np.arange(2, 12))
    best = sorted(gains.values(), reverse=True)[:10]
    ideal = float(np.dot(best, discounts[: len(best)]))
    held = [gains.get(one, 0.0) for one in ids[:10]]
    return float(np.dot(held, discounts[: len(held)])) / ideal if ideal else math.nan


if __name__ == "__main__":
    main()
