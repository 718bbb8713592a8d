"""What a retriever takes and gives as its catalogue grows: memory, files, build and restart, recall and latency with
and without filters, and new items during traffic.

    python -m loadtest.growth_bench                        # 10,000 and 100,000 items, part of `make bench`
    python -m loadtest.growth_bench --items 1000000        # about an hour, 8 GB of disk

Each size is a real retriever process with a home of its own, filled through its RPCs with the generated shop's items
and with clustered vectors in place of an encoder's. A run that was stopped goes on where it was; a finished size is
shown again without being measured again until its home is removed.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import grpc.aio
import numpy as np
import psutil
import typer
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtest.bench_rows import Row, write_rows
from loadtest.embedder_bench import free_port
from loadtest.growth_shop import GrowthShop, serve_vectors
from services.domain.bundle import BundleError, EncoderManifest, read_bundle
from services.retriever.planner import CODED_ROWS
from souk.retriever.v1 import admin_pb2, admin_pb2_grpc, retriever_pb2, retriever_pb2_grpc
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_vector
from training.evaluate.page import replace_file

console = Console(width=100)

K = 10
SHARES = (1.0, 0.5, 0.1, 0.01, 0.001)
_BATCH = 1_000
_AT_ONCE = 4
_BESIDE = 20.0
"""Searches a second while new items are written."""
_NEW = 10
_READY_SECONDS = 600.0
_MAX_BYTES, _RESTART_SECONDS, _VISIBLE_SECONDS, _RECALL = 6e9, 60.0, 1.0, 0.99

Figures = dict[str, float]


class Home:
    """The folder of one size: the retriever's data and the figures taken so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "figures.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.figures: Figures = json.loads(self._file.read_text()) if self._file.exists() else {}

    def note(self, figures: Figures) -> None:
        """Keeps figures, in place of older ones of the same names."""
        self.figures |= figures
        replace_file(self._file, json.dumps(self.figures, indent=1) + "\n")

    def add(self, name: str, seconds: float) -> None:
        """Adds to a time that may be taken in several runs."""
        self.note({name: self.figures.get(name, 0.0) + seconds})

    def bytes_of(self, pattern: str) -> float:
        """Size on disk of the retriever's files."""
        return float(sum(file.stat().st_size for file in self.folder.glob(pattern) if file.is_file()))


class Retriever:
    """A retriever process on the data of a home, and its stubs once it is `started`."""

    def __init__(self, home: Home, bundle: Path, embedder: str) -> None:
        self._home = home
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("SOUK_")}
        self._env |= {
            "SOUK_BUNDLE": str(bundle),
            "SOUK_RETRIEVER_DATA": str(home.folder / "catalogue"),
            "SOUK_RETRIEVER_SNAPSHOTS": str(home.folder / "snapshots"),
            "SOUK_RETRIEVER_EMBEDDER": embedder,
            "SOUK_RETRIEVER_METRICS_PORT": "0",
        }
        self._child: asyncio.subprocess.Process | None = None

    async def start(self) -> float:
        """Seconds from the start of the process until it serves. Raises RuntimeError where it ends before."""
        port = free_port()
        began = time.perf_counter()
        command = [sys.executable, "-m", "services.retriever"]
        env = self._env | {"SOUK_RETRIEVER_PORT": str(port)}
        with (self._home.folder / "retriever.log").open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *command, env=env, stdout=log, stderr=log, start_new_session=True
            )
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_reconnect_backoff_ms", 100)])
        health: Any = health_pb2_grpc.HealthStub(self._channel)
        while time.perf_counter() - began < _READY_SECONDS:
            if self._child.returncode is not None:
                raise RuntimeError(f"the retriever ended with {self._child.returncode}; see {log.name}")
            try:
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.aio.AioRpcError:
                answer = None
            if answer is not None and answer.status == health_pb2.HealthCheckResponse.SERVING:
                self.reads: Any = retriever_pb2_grpc.RetrieverStub(self._channel)
                self.writes: Any = admin_pb2_grpc.RetrieverAdminStub(self._channel)
                return time.perf_counter() - began
            await asyncio.sleep(0.05)
        raise RuntimeError(f"the retriever did not serve within {_READY_SECONDS:.0f} s; see {log.name}")

    async def stop(self, number: int = signal.SIGTERM) -> float:
        """Seconds from the signal to the end of the process; it saves its indexes unless it is SIGKILL."""
        if self._child is None or self._child.returncode is not None:
            return 0.0
        began = time.perf_counter()
        await self._channel.close()
        self._child.send_signal(number)
        await self._child.wait()
        return time.perf_counter() - began

    async def info(self) -> tuple[int, Any]:
        """Items held, and what the index of the content vectors says of itself."""
        info = await self.reads.GetInfo(retriever_pb2.GetInfoRequest(), timeout=60)
        return info.items, info.indexes[0]

    def memory(self) -> Figures:
        """Resident bytes now and at most since the start."""
        assert self._child is not None
        status = Path(f"/proc/{self._child.pid}/status").read_text().splitlines()
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        return {"resident": float(psutil.Process(self._child.pid).memory_info().rss), "peak": peak * 1024.0}

    async def near(self, query: Float32, share: float = 1.0, exact: bool = False) -> list[str]:
        """Ids of the nearest items to a vector, among those of prices up to `share`."""
        vector = retriever_pb2.VectorLeg(space=types_pb2.SPACE_CONTENT, vector=pack_vector(query))
        request = retriever_pb2.SearchRequest(legs=[retriever_pb2.Leg(name="v", vector=vector)], k=K, exact=exact)
        if share < 1:
            request.filter.price.max = share
        return list((await self.reads.Search(request, timeout=60)).candidates.id)

    async def words(self, query: str) -> list[str]:
        """Ids found by words."""
        leg = retriever_pb2.Leg(name="w", words=retriever_pb2.WordsLeg(query=query))
        return list((await self.reads.Search(retriever_pb2.SearchRequest(legs=[leg], k=K), timeout=60)).candidates.id)


async def fill(retriever: Retriever, shop: GrowthShop, home: Home, progress: Progress) -> None:
    """Writes the items that are not held yet, and waits for all vectors and for the index of them."""
    held, _ = await retriever.info()
    task = progress.add_task("items", total=shop.items, completed=held)

    async def batches() -> AsyncIterator[admin_pb2.UpsertRequest]:
        for items in shop.batches(held, _BATCH):
            yield admin_pb2.UpsertRequest(items=items)

    began = time.perf_counter()
    async for answer in retriever.writes.Upsert(batches()):
        now = time.perf_counter()
        home.add("write seconds", now - began)
        began = now
        progress.advance(task, len(answer.results))
    vectors = progress.add_task("vectors, after the items", total=shop.items)
    indexed = progress.add_task("index, after the vectors", total=shop.items)
    while True:
        _, index = await retriever.info()
        progress.update(vectors, completed=shop.items - index.pending)
        progress.update(indexed, completed=index.base)
        settled = not index.pending and index.delta <= max(2_000, 0.02 * index.base)
        if settled:
            return
        began = time.perf_counter()
        await asyncio.sleep(0.5)
        home.add("vectors seconds" if index.pending else "index seconds", time.perf_counter() - began)


async def timed(calls: Sequence[Callable[[], Awaitable[list[str]]]]) -> tuple[list[list[str]], Float32]:
    """One after another: the answers, and the milliseconds that each took."""
    answers, taken = [], []
    for call in calls:
        began = time.perf_counter()
        answers.append(await call())
        taken.append(1000 * (time.perf_counter() - began))
    return answers, np.array(taken, dtype=np.float32)


async def searches(retriever: Retriever, shop: GrowthShop, count: int) -> Figures:
    """Recall and latency by share allowed, one at a time; answers a second of several callers."""
    queries = shop.queries(count)
    expected = shop.nearest(queries, SHARES, K)
    figures: Figures = {}
    for share in SHARES:
        calls = [partial(retriever.near, query, share) for query in queries]
        await timed(calls[:5])
        answers, taken = await timed(calls)
        hits = sum(len(found & set(ids)) for found, ids in zip(expected[share], answers, strict=True))
        figures[f"recall {share}"] = hits / sum(map(len, expected[share]))
        figures[f"p50 {share}"], figures[f"p99 {share}"] = map(float, np.percentile(taken, [50, 99]))
    _, taken = await timed([partial(retriever.near, query, exact=True) for query in queries[:20]])
    figures["exact p50"] = float(np.median(taken))
    titles = [item.title for item in next(shop.batches(0, count))]
    calls = [partial(retriever.words, " ".join(title.split()[-3:])) for title in titles]
    await timed(calls[:5])
    _, taken = await timed(calls)
    figures["words p50"], figures["words p99"] = map(float, np.percentile(taken, [50, 99]))
    end, answered = time.perf_counter() + 5.0, 0

    async def caller(first: int) -> None:
        nonlocal answered
        turn = first
        while time.perf_counter() < end:
            await retriever.near(queries[turn % count])
            answered += 1
            turn += _AT_ONCE

    await asyncio.gather(*(caller(first) for first in range(_AT_ONCE)))
    return figures | {"searches a second": answered / 5.0}


async def new_items(retriever: Retriever, shop: GrowthShop, first: int) -> Figures:
    """Worst seconds from sending a new item until words find it, and its vector, with searches beside."""
    queries = shop.queries(100)
    running: set[asyncio.Task[list[str]]] = set()

    async def beside() -> None:
        turn = 0
        while True:
            task = asyncio.create_task(retriever.near(queries[turn % len(queries)]))
            running.add(task)
            task.add_done_callback(running.discard)
            turn += 1
            await asyncio.sleep(1 / _BESIDE)

    async def found(search: Callable[[], Awaitable[list[str]]], item_id: str, began: float) -> float:
        while item_id not in await search():
            if time.perf_counter() - began > 60:
                raise RuntimeError(f"new item {item_id} was not found within 60 s")
            await asyncio.sleep(0.005)
        return time.perf_counter() - began

    traffic = asyncio.create_task(beside())
    by_words, by_vector = [], []
    try:
        for number in range(first, first + _NEW):
            item = shop.item(number, f"thing unseen{number}")
            vector = shop.vectors([number])[0]

            began = time.perf_counter()
            await retriever.writes.Upsert(iter([admin_pb2.UpsertRequest(items=[item])])).read()
            by_words.append(await found(partial(retriever.words, item.title), item.id, began))
            by_vector.append(await found(partial(retriever.near, vector), item.id, began))
            await asyncio.sleep(0.2)
    finally:
        traffic.cancel()
        await asyncio.gather(traffic, *running, return_exceptions=True)
    return {"new by words": max(by_words), "new by vector": max(by_vector)}


async def measure(items: int, home: Home, bundle: Path, encoder: EncoderManifest, queries: int) -> None:
    """Takes every figure of one size that is not there yet."""
    if "ready after kill" in home.figures:
        console.print(
            f"{items:,} items were measured before; remove {home.folder} to measure them again", highlight=False
        )
        return
    shop = GrowthShop(items, encoder.dim)
    server, address = await serve_vectors(shop, encoder)
    retriever = Retriever(home, bundle, address)
    try:
        await retriever.start()
        if "built" not in home.figures:
            with Progress(console=console) as progress:
                await fill(retriever, shop, home, progress)
            memory = retriever.memory()
            home.note({"resident after build": memory["resident"], "peak of build": memory["peak"], "built": 1.0})
        with console.status(f"{items:,} items: restart") as status:
            stopped = await retriever.stop()
            saved = {"saved bytes": home.bytes_of("catalogue/indexes/**/*")}
            home.note(saved | {"stop": stopped, "catalogue bytes": home.bytes_of("catalogue/catalogue.sqlite3*")})
            home.note({"ready after stop": await retriever.start()})
            status.update(f"{items:,} items: searches")
            home.note(await searches(retriever, shop, queries))
            status.update(f"{items:,} items: new ones during traffic")
            held, _ = await retriever.info()
            home.note(await new_items(retriever, shop, held))
            home.note(retriever.memory())
            status.update(f"{items:,} items: killed")
            await retriever.stop(signal.SIGKILL)
            ready = await retriever.start()
            if not await retriever.near(shop.queries(1)[0]):
                raise RuntimeError("the retriever found nothing after its restart")
            home.note({"ready after kill": ready})
    finally:
        await retriever.stop()
        await server.stop(0)


def rows_of(items: int, figures: Figures) -> list[Row]:
    """The rows of one size; the goals are of a million items and hold for fewer, too."""

    def row(name: str, value: float, unit: str, goal: str | None = None, reached: bool | None = None) -> Row:
        return Row(f"{name}, {items:,} items", value, unit, None, None, goal, reached)

    def at_most(name: str, key: str, limit: float, divisor: float = 1.0, unit: str = "s") -> Row:
        goal = f"<= {limit / divisor:g} {unit}"
        return row(name, figures[key] / divisor, unit, goal, figures[key] <= limit)

    build = sum(figures.get(f"{part} seconds", 0.0) for part in ("write", "vectors", "index"))
    rows = [
        row("items written a second", items / max(figures["write seconds"], 1e-9), "/s"),
        row("from empty to all in the index", build, "s"),
        at_most("resident while serving", "resident", _MAX_BYTES, 1e9, "GB"),
        at_most("most resident in the build", "peak of build", _MAX_BYTES, 1e9, "GB"),
        row("resident an item", figures["resident"] / items, "bytes"),
        row("indexes on disk", figures["saved bytes"] / 1e9, "GB"),
        row("catalogue on disk", figures["catalogue bytes"] / 1e9, "GB"),
        row("stopped and saved", figures["stop"], "s"),
        at_most("restart to ready", "ready after stop", _RESTART_SECONDS),
        at_most("killed to ready", "ready after kill", _RESTART_SECONDS),
        at_most("new item found by words", "new by words", _VISIBLE_SECONDS),
        at_most("new item found by vector", "new by vector", _VISIBLE_SECONDS),
        row("searches by 4 callers", figures["searches a second"], "/s"),
        row("words, p50", figures["words p50"], "ms"),
        row("every vector compared, p50", figures["exact p50"], "ms"),
    ]
    for share in SHARES:
        recall, p50 = figures[f"recall {share}"], figures[f"p50 {share}"]
        rows.append(row(f"recall@{K}, {share:.1%} allowed", recall, "", f">= {_RECALL:g}", recall >= _RECALL))
        ratio = figures["exact p50"] / p50
        name = f"vector search, {share:.1%} allowed, p50, {items:,} items"
        # Of smaller catalogues every vector is compared: both are the same search.
        goal, reached = (">= 1 x", ratio >= 1) if items >= CODED_ROWS else (None, None)
        rows.append(Row(name, p50, "ms", "every vector compared", ratio, goal, reached))
    return rows


def show(found: dict[int, list[Row]]) -> None:
    """A line a measure, a column a size."""
    table = Table("measure", *(f"{items:,}" for items in found), "goal", box=None)
    for same in zip(*found.values(), strict=True):
        cells = []
        for row in same:
            mark = {True: "", False: " missed", None: ""}[row.reached]
            cells.append(f"{row.value:.4g} {row.unit}{mark}")
        table.add_row(same[0].name.rsplit(", ", 1)[0], *cells, same[0].goal or "")
    console.print(table)


def main(
    items: Annotated[list[int] | None, typer.Option(min=1_000, help="Sizes, each given so.")] = None,
    bundle: Annotated[Path, typer.Option(help="A bundle: its vectors' length is measured.")] = Path(".souk/bundle"),
    home: Annotated[Path, typer.Option(help="Folder of the catalogues, about 8 KB an item.")] = Path(".souk/growth"),
    queries: Annotated[int, typer.Option(min=10, help="Searches of each kind.")] = 200,
) -> None:
    """Measures each size; writes reports/bench-growth.json."""
    found = {}
    try:
        encoder = read_bundle(bundle).manifest.encoder
        for size in items or [10_000, 100_000]:
            place = Home(home / str(size))
            uvloop.run(measure(size, place, bundle, encoder, queries))
            found[size] = rows_of(size, place.figures)
    except (BundleError, RuntimeError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    show(found)
    written = write_rows("growth", [row for rows in found.values() for row in rows])
    console.print(f"next: read {written}; `--items 1000000` takes it to a million", highlight=False)


if __name__ == "__main__":
    typer.run(main)
