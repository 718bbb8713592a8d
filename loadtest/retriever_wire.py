"""What the wire costs a vector search: a retriever process beside its own index in process, and beside a FAISS graph.

    python -m loadtest.retriever_wire                  # 100,000 items, of the growth bench's catalogue
    python -m loadtest.retriever_wire --items 200000

In turns, k = 10, all allowed: one search at a time by RPC, four at once, sixteen a call (SearchBatch), a call that
searches nothing, the same index in process with one thread, and FAISS's HNSW with the narrowest walk that reaches the
recall. The catalogue is that of `loadtest.growth_bench`, made here where it is not there yet.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import faiss as faiss_module
import numpy as np
import typer
import uvloop
from rich.console import Console
from rich.progress import Progress

from loadtest.bench_rows import Row, write_rows
from loadtest.gateway_bench import show
from loadtest.growth_bench import Home, Retriever, fill
from loadtest.growth_shop import GrowthShop, serve_vectors
from loadtest.retriever_bench import build
from services.domain.bundle import BundleError, EncoderManifest, read_bundle
from services.retriever.dense import EF_CONSTRUCTION, NEIGHBOURS
from services.runtime.threads import cpu_limit
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_vector
from training.data.wording import item_id

# FAISS's type stubs know little of what its Python wrappers do.
faiss: Any = faiss_module

K, RECALL = 10, 0.99
_TO_CHOOSE_BY, _QUERIES = 100, 400
_EFFORTS = (16, 32, 64, 128, 256, 512, 1_024)
_IN_A_BATCH = 16
ALONE, FOUR, BATCHES, NOTHING = "by RPC, one at a time", "by RPC, 4 callers", "SearchBatch of 16", "a call for nothing"
ENGINE, GRAPH = "the same index in process, one thread", "FAISS HNSW32 in process, one thread"
_GOALS = ((ALONE, 0.8), (FOUR, None), (BATCHES, 0.9))

Way = Callable[[float], Awaitable[float]]
"""Seconds -> searches a second."""


def in_process(search: Callable[[Float32], object], queries: Float32) -> Way:
    """One after another in this thread; the event loop has nothing else to do."""

    async def rate(seconds: float) -> float:
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            search(queries[done % len(queries)])
            done += 1
        return done / (time.perf_counter() - began)

    return rate


def over_the_wire(call: Callable[[int], Awaitable[object]], callers: int, of_a_call: int = 1) -> Way:
    """So many callers, each asking again when answered."""

    async def rate(seconds: float) -> float:
        began, done = time.perf_counter(), 0

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() - began < seconds:
                await call(done)
                done += of_a_call

        await asyncio.gather(*(caller() for _ in range(callers)))
        return done / (time.perf_counter() - began)

    return rate


def graph_of(vectors: Float32, queries: Float32, nearest: list[set[int]]) -> tuple[Any, int, float]:
    """FAISS's graph, the least breadth that reaches RECALL (else the largest tried), and the recall."""
    graph = faiss.IndexHNSWFlat(vectors.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = EF_CONSTRUCTION
    faiss.omp_set_num_threads(cpu_limit())
    graph.add(vectors)
    faiss.omp_set_num_threads(1)
    for effort in _EFFORTS:
        graph.hnsw.efSearch = effort
        found = graph.search(queries, K)[1]
        recall = sum(len(set(row) & near) for row, near in zip(found.tolist(), nearest, strict=True)) / (
            K * len(queries)
        )
        if recall >= RECALL:
            break
    return graph, effort, recall


async def measure(
    items: int, home: Home, bundle: Path, encoder: EncoderManifest, rounds: int, seconds: float
) -> list[Row]:
    """Every row."""
    shop = GrowthShop(items, encoder.dim)
    server, address = await serve_vectors(shop, encoder)
    retriever = Retriever(home, bundle, address)
    console = Console()
    try:
        await retriever.start()
        with Progress(console=console) as progress:
            await fill(retriever, shop, home, progress)
        vectors = shop.vectors(range(items))
        with console.status("the same index, and a graph"):
            view, table, _ = build(vectors, np.random.default_rng(1), cpu_limit())
            queries = shop.queries(_QUERIES)
            chosen = shop.nearest(queries[:_TO_CHOOSE_BY], [1.0], K)[1.0]
            number = {item_id(n): n for n in range(items)}
            graph, effort, recall = graph_of(
                vectors, queries[:_TO_CHOOSE_BY], [{number[one] for one in near} for near in chosen]
            )
        requests = [
            retriever_pb2.SearchRequest(
                legs=[
                    retriever_pb2.Leg(
                        name="v",
                        vector=retriever_pb2.VectorLeg(space=types_pb2.SPACE_CONTENT, vector=pack_vector(query)),
                    )
                ],
                k=K,
            )
            for query in queries
        ]
        served = 0
        for request, near in zip(requests, chosen, strict=False):
            served += len(near & set((await retriever.reads.Search(request, timeout=60)).candidates.id))

        def search(turn: int) -> Awaitable[object]:
            answer: Awaitable[object] = retriever.reads.Search(requests[turn % _QUERIES], timeout=60)
            return answer

        def batch(turn: int) -> Awaitable[object]:
            some = [requests[(turn + n) % _QUERIES] for n in range(_IN_A_BATCH)]
            answer: Awaitable[object] = retriever.reads.SearchBatch(
                retriever_pb2.SearchBatchRequest(requests=some), timeout=60
            )
            return answer

        def nothing(_turn: int) -> Awaitable[object]:
            answer: Awaitable[object] = retriever.reads.GetInfo(retriever_pb2.GetInfoRequest(), timeout=60)
            return answer

        shown = table.shown
        ways = {
            ALONE: over_the_wire(search, 1),
            FOUR: over_the_wire(search, 4),
            BATCHES: over_the_wire(batch, 1, _IN_A_BATCH),
            NOTHING: over_the_wire(nothing, 1),
            ENGINE: in_process(lambda query: view.search(query, shown, table, K), queries),
            GRAPH: in_process(lambda query: graph.search(query[None], K), queries),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        with console.status("in turns"):
            for round_ in range(rounds + 1):
                for name, way in ways.items():
                    rate = await way(seconds if round_ else 0.5)
                    if round_:
                        rates[name].append(rate)
    finally:
        await retriever.stop()
        await server.stop(0)
    return rows_of(items, rates, served / (K * _TO_CHOOSE_BY), f"{GRAPH}, ef {effort} (recall {recall:.3f})")


def rows_of(items: int, rates: dict[str, list[float]], recall: float, graph: str) -> list[Row]:
    """Medians of the turns, each beside the two in process; the ratio is the median of those within a turn."""
    rows = [Row(f"recall@{K} by RPC, {items:,} items", recall, "", None, None, f">= {RECALL}", recall >= RECALL)]
    for name, goal in _GOALS:
        for baseline in (ENGINE, GRAPH):
            told = f"{graph if baseline == GRAPH else baseline}, {np.median(rates[baseline]):.0f}/s"
            ratio = float(np.median(np.divide(rates[name], rates[baseline])))
            wanted = f">= {goal} x" if goal and baseline == ENGINE else None
            reached = ratio >= goal if goal and wanted else None
            rows.append(Row(name, float(np.median(rates[name])), "/s", told, ratio, wanted, reached))
    return [*rows, Row(NOTHING, float(np.median(rates[NOTHING])), "/s")]


def main(
    items: Annotated[int, typer.Option(min=10_000, help="Size of the catalogue.")] = 100_000,
    bundle: Annotated[Path, typer.Option(help="A bundle: its vectors' length is measured.")] = Path(".souk/bundle"),
    home: Annotated[Path, typer.Option(help="Folder of the growth bench's catalogues.")] = Path(".souk/growth"),
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="A turn.")] = 2.0,
) -> None:
    """Measures; writes reports/bench-retriever-wire.json."""
    try:
        encoder = read_bundle(bundle).manifest.encoder
        rows = uvloop.run(measure(items, Home(home / str(items)), bundle, encoder, rounds, seconds))
    except (BundleError, RuntimeError) as error:
        Console().print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    show(rows)
    Console().print(f"next: read {write_rows('retriever-wire', rows)}", highlight=False)


if __name__ == "__main__":
    typer.run(main)
