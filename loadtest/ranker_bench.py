"""What ordering candidates costs in one process, against the same model in eager PyTorch, in turns in one run.

    python -m loadtest.ranker_bench --candidates 200 --history 50

The networks are the ranker's own, of its default sizes and with random weights: what they cost does not depend on what
they learned. Item vectors come from the cache's memory level, as those of a busy shop do.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
import numpy as np
import torch

from loadtest.bench_rows import Row, write_rows
from services.domain.blended import BLEND
from services.domain.features import FEATURES, features
from services.domain.neighbours import Neighbours
from services.domain.signals import Signals
from services.ranker.handover import handover
from services.ranker.model import History, Model
from services.ranker.ranking import Ranking
from services.ranker.settings import RankerSettings
from services.ranker.signals import ItemSignals
from services.ranker.vectors import ItemVectors
from services.runtime import threads
from services.runtime.channels import connect
from services.runtime.telemetry import StageClock
from souk.coldstart.v1 import coldstart_pb2
from souk.ranker.v1 import ranker_pb2
from souk.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_matrix
from training.ranker.config import RankerConfig
from training.ranker.export import export_ranker
from training.ranker.heads import OBJECTIVES, Heads
from training.ranker.model import Ranker
from training.ranker.train import Trained

CONTENT_DIM = 384
_SCENE = types_pb2.SCENE_HOME
# Scores of both must be equal to this.
_EQUAL = 1e-4

Answer = Callable[[], Awaitable[Float32]]


class _Retriever(retriever_pb2_grpc.RetrieverServicer):
    """Holds the items' vectors; asked once for each, then the cache has it."""

    def __init__(self, vectors: dict[str, Float32]) -> None:
        self._vectors = vectors

    async def GetVectors(  # noqa: N802
        self,
        request: retriever_pb2.GetVectorsRequest,
        context: "grpc.aio.ServicerContext[retriever_pb2.GetVectorsRequest, retriever_pb2.GetVectorsResponse]",
    ) -> retriever_pb2.GetVectorsResponse:
        found = np.stack([self._vectors[item_id] for item_id in request.item_ids])
        return retriever_pb2.GetVectorsResponse(
            vectors=pack_matrix(found),
            presence=[retriever_pb2.PRESENCE_PRESENT] * len(found),
            revisions=[1] * len(found),
            space_version=request.space_version,
        )


def made(config: RankerConfig, items: int) -> tuple[Trained, Heads]:
    """Networks with random weights over so many items."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    content = rng.standard_normal((items, CONTENT_DIM)).astype(np.float32)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    model = Ranker(config, torch.from_numpy(content)).eval()
    weights = rng.normal(0, 0.5, (len(FEATURES), len(OBJECTIVES))).astype(np.float32)
    bias = np.full(len(OBJECTIVES), -2, np.float32)
    doubt = np.zeros((len(OBJECTIVES), len(FEATURES) + 1, len(FEATURES) + 1), np.float32)
    return Trained(model, np.arange(items), 0.0, 0), Heads(weights, bias, doubt)


def made_signals(ids: list[str], rng: np.random.Generator) -> ItemSignals:
    """As large as those of a real shop: 100 and 200 partners an item, 192 directions of content, 128 of the graph."""
    n = len(ids)

    def table(partners: int) -> Neighbours:
        items = rng.integers(0, n, n * partners)
        return Neighbours(np.arange(n + 1) * partners, items, rng.random(n * partners, np.float32))

    vectors = {
        name: rng.standard_normal((n, width)).astype(np.float32) for name, width in (("graph", 128), ("content", 192))
    }
    popularity = rng.random(n, np.float32)
    return ItemSignals(ids, Signals(table(100), table(200), table(100), popularity, vectors, 20, 0.7, repeats=True))


def request_of(ids: list[str], candidates: int, history: int, rng: np.random.Generator) -> ranker_pb2.RankRequest:
    """A shopper of so many events who is shown so many candidates."""
    now = time.time()
    entries = [
        coldstart_pb2.HistoryEntry(
            item_id=ids[row], type=types_pb2.EVENT_TYPE_VIEW, time_ms=int(1000 * (now - 3600 * (history - place)))
        )
        for place, row in enumerate(rng.choice(len(ids), history, replace=False).tolist())
    ]
    context = coldstart_pb2.ShopperContext(shopper_id="s", stage=types_pb2.STAGE_HOT, history=entries)
    rows = rng.choice(len(ids), candidates, replace=False).tolist()
    columns = types_pb2.CandidateColumns(
        id=[ids[row] for row in rows],
        revision=[1] * candidates,
        title=[f"a thing of its own {row}" for row in rows],
        price=[10.0 + row % 90 for row in rows],
        currency=[0] * candidates,
        currencies=["EUR"],
        brand=[row % 40 for row in rows],
        brands=[f"brand {number}" for number in range(40)],
        category=[row % 25 for row in rows],
        categories=[f"shop > shelf {number}" for number in range(25)],
        stock=[-1] * candidates,
        created_at=[int(now) - 86_400] * candidates,
        popularity=[float(row % 7) for row in rows],
        score=rng.random(candidates).tolist(),
        legs=[
            types_pb2.LegScores(leg="profile", score=rng.random(candidates).tolist()),
            types_pb2.LegScores(leg=BLEND, score=(1 - rng.random(candidates)).tolist()),
        ],
    )
    return ranker_pb2.RankRequest(context=context, scene=_SCENE, candidates=columns)


async def run(
    candidates: int, history: int, rounds: int, torch_threads: int
) -> list[tuple[str, list[tuple[float, float]]]]:
    """Milliseconds of each round, by the clock and of processor, by way of answering; raises RuntimeError where the
    scores differ."""
    torch.set_num_threads(torch_threads)
    rng = np.random.default_rng(1)
    config = RankerConfig()
    trained, heads = made(config, 20 * candidates)
    ids = [f"i{row}" for row in range(20 * candidates)]
    with tempfile.TemporaryDirectory() as folder:
        card = export_ranker(trained, heads, ids, "0" * 64, {}, Path(folder) / "ranker")
        model = Model(Path(folder), card.manifest, "CPUExecutionProvider")
    with torch.inference_mode():
        vectors = trained.model.items().numpy()
    held = dict(zip(ids, vectors, strict=True))
    server = grpc.aio.server()
    retriever_pb2_grpc.add_RetrieverServicer_to_server(_Retriever(held), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    workers = threads.pool("rank", 1)
    async with connect(f"127.0.0.1:{port}") as channel:
        stub = retriever_pb2_grpc.RetrieverStub(channel)
        cache = ItemVectors(stub, card.manifest.space_version, card.manifest.dim, RankerSettings(vector_seconds=10))
        ranking = Ranking("bench", card.manifest, model, cache, cache.close, workers, RankerSettings())
        signals = made_signals(ids, rng)
        taken: dict[str, list[tuple[float, float]]] = {}
        for number in range(rounds + 3):
            request = request_of(ids, candidates, history, rng)
            # Warms the cache of item vectors, which is not what is measured.
            await cache.get([*[one.item_id for one in request.context.history]], [0] * history)
            await cache.get(list(request.candidates.id), [1] * candidates)
            scores: dict[str, Float32] = {}
            for name, way in ways(request, ranking, model, trained, heads, held).items():
                began, spent = time.perf_counter(), time.process_time()
                scores[name] = await way()
                if number >= 3:
                    both = 1000 * (time.perf_counter() - began), 1000 * (time.process_time() - spent)
                    taken.setdefault(name, []).append(both)
            worst = max(float(np.abs(one - scores["network, eager PyTorch"]).max()) for one in scores.values())
            if not worst <= _EQUAL:
                raise RuntimeError(f"scores differ by {worst:.1e}, more than {_EQUAL}")
            began, spent = time.perf_counter(), time.process_time()
            signals.of(request.context.history, request.candidates.id)
            if number >= 3:
                both = 1000 * (time.perf_counter() - began), 1000 * (time.process_time() - spent)
                taken.setdefault("signals of a ranker of sequences, beside", []).append(both)
        await ranking.close()
    await server.stop(None)
    workers.shutdown()
    return list(taken.items())


def ways(
    request: ranker_pb2.RankRequest,
    ranking: Ranking,
    model: Model,
    trained: Trained,
    heads: Heads,
    held: dict[str, Float32],
) -> dict[str, Answer]:
    """The ways of answering, each giving the score of every candidate in the request's order, float32 (n,)."""
    entries, ids = list(request.context.history), list(request.candidates.id)
    met = np.stack([held[one.item_id] for one in entries])
    shown = np.stack([held[one] for one in ids])
    weights = np.array(ranking.manifest.scene_weights["HOME"], np.float32)
    now = time.time()
    history = History.of(entries, met, np.ones(len(entries), np.bool_), model.max_history, now)
    rows = features(request.context, "", _SCENE, request.candidates, np.zeros(len(ids)), now)

    async def eager() -> Float32:
        with torch.inference_mode():
            shopper = trained.model.shopper(
                torch.from_numpy(history.items)[None],
                torch.from_numpy(history.types)[None],
                torch.from_numpy(history.gaps)[None],
                torch.ones(1, len(history), dtype=torch.bool),
            )[0]
            inputs = torch.from_numpy(rows).clone()
            inputs[:, 0] = torch.from_numpy(shown) @ shopper
            told = torch.sigmoid(inputs @ torch.from_numpy(heads.weights) + torch.from_numpy(heads.bias))
            found = (told @ torch.from_numpy(weights)).numpy()
        return mixed(found)

    async def engine(shopper: Float32 | None = None) -> Float32:
        inputs = rows.copy()
        inputs[:, 0] = (shown * (model.shopper(history) if shopper is None else shopper)).sum(axis=1)
        return mixed(model.probabilities(inputs) @ weights)

    def mixed(score: Float32) -> Float32:
        # From the blend of the cold start to the ranker, as HOME has it.
        return handover(request, score.astype(np.float64))[0].astype(np.float32)

    encoded = model.shopper(history)

    async def served() -> Float32:
        answer = await ranking.rank(request, StageClock())
        found = np.empty(len(ids), np.float32)
        found[list(answer.order)] = answer.score
        return found

    return {
        "network, eager PyTorch": eager,
        "network": engine,
        "network, shopper encoded before": lambda: engine(encoded),
        "Rank in process, new shopper": served,
        "Rank in process, shopper encoded before": served,
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--history", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--torch-threads", type=int, default=2)
    given = parser.parse_args()
    taken = asyncio.run(run(given.candidates, given.history, given.rounds, given.torch_threads))
    eager = np.array(taken[0][1])[:, 0]
    print(f"{given.candidates} candidates, history of {given.history}; ms over {given.rounds} rounds, in turns")
    # Processor time is what is left of it on a machine that others use, too.
    print(f"{'':42} {'p50':>7} {'p99':>7} {'processor':>10} {'eager / it':>11}")
    rows = []
    for name, each in taken:
        clock, processor = np.array(each).T
        ratio = np.median(eager / clock)
        middle, worst, spent = np.median(clock), np.percentile(clock, 99), np.median(processor)
        print(f"{name:42} {middle:7.2f} {worst:7.2f} {spent:10.2f} {ratio:11.1f}")
        what = f"{name}, {given.candidates} candidates, history of {given.history}"
        rows.append(Row(what, float(middle), "ms", taken[0][0], float(ratio)))
    print(f"next: read {write_rows('ranker', rows)}")


if __name__ == "__main__":
    main()
