"""The embedder against its own engine and what a user would pick instead: `python -m loadtest.embedder_rivals`.

In turns: the engine in process (tokeniser and ONNX session of the bundle, batches of 32 in two threads), the embedder
over gRPC with its cache off, sentence-transformers in process with PyTorch, and mosec serving the same engine. Short
texts of 12 tokens, one a request and 64 in flight; item texts of 64 tokens in batches of 32. Last a single query at a
time. The load generator runs on the same processors. Rivals that are not installed are left out
(`pip install -e '.[bench]'`).
"""

import asyncio
import importlib.util
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import uvloop
from rich.console import Console

from loadtest.bench_rows import Row, write_rows
from loadtest.embedder_bench import free_port, server, settings_of
from loadtest.gateway_bench import show
from services.domain.bundle import BundleError, read_bundle
from services.embedder.encoder import Encoder
from services.runtime.threads import cpu_limit
from souk.embedder.v1 import embedder_pb2

IN_FLIGHT, BATCH = 64, 32
SHORT, LONG = 12, 64
_MARKERS = 2
_START_SECONDS = 60.0

Texts = Callable[[int], list[str]]
Way = Callable[[float], Awaitable[float]]
"""Seconds -> texts a second."""


class Words:
    """Texts of so many tokens that no cache knows."""

    def __init__(self, bundle: Path) -> None:
        manifest = read_bundle(bundle).manifest.encoder
        self.encoder = Encoder(bundle, manifest, "CPUExecutionProvider")
        known = [
            f"{a}{b}" for a in "bcdfglmnprst" for b in ("ag", "ox", "at", "ip", "un", "ed", "ar", "ot", "in", "ap")
        ]
        one_token = [word for word, text in zip(known, self.encoder.tokenise(known), strict=True) if len(text.ids) == 3]
        self._words, self._dice = one_token, random.Random(os.getpid())

    def texts(self, tokens: int, count: int) -> list[str]:
        """So many of them."""
        return [" ".join(self._dice.choices(self._words, k=tokens - _MARKERS)) for _ in range(count)]


def engine(words: Words, tokens: int) -> Way:
    """Tokeniser and session in as many threads as there are processors."""

    async def rate(seconds: float) -> float:
        done = [0] * cpu_limit()
        end = time.perf_counter() + seconds

        def work(place: int) -> None:
            while time.perf_counter() < end:
                words.encoder.encode(words.encoder.tokenise(words.texts(tokens, BATCH)))
                done[place] += BATCH

        began = time.perf_counter()
        await asyncio.gather(*(asyncio.to_thread(work, place) for place in range(len(done))))
        return sum(done) / (time.perf_counter() - began)

    return rate


def embedder(stub: Any, words: Words, tokens: int, in_flight: int, batch: int) -> Way:
    """The service, `batch` texts a request."""

    async def rate(seconds: float) -> float:
        end, done = time.perf_counter() + seconds, 0

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() < end:
                inputs = [embedder_pb2.Input(text=text) for text in words.texts(tokens, batch)]
                await stub.Embed(embedder_pb2.EmbedRequest(inputs=inputs), timeout=30)
                done += batch

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(in_flight)))
        return done / (time.perf_counter() - began)

    return rate


def mosec(port: int, words: Words) -> Way:
    """mosec over HTTP/1.1, connections kept open, one text a request."""

    async def rate(seconds: float) -> float:
        end, done = time.perf_counter() + seconds, 0

        async def caller() -> None:
            nonlocal done
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while time.perf_counter() < end:
                    await ask(reader, writer, words.texts(SHORT, 1)[0])
                    done += 1
            finally:
                writer.close()

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
        return done / (time.perf_counter() - began)

    return rate


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str) -> bytes:
    """One POST; the body of the answer. Raises RuntimeError for another status than 200."""
    body = text.encode()
    writer.write(b"POST /inference HTTP/1.1\r\nHost: l\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"mosec answered {head.splitlines()[0].decode()}")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return await asyncio.wait_for(reader.readexactly(length), 30)


@asynccontextmanager
async def sentence_transformers(bundle: Path) -> AsyncIterator[Callable[[int], Way]]:
    """A process of it, asked by number of tokens: its threads are none of ours."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "loadtest.embedder_st", str(bundle)]
    child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL)
    assert child.stdin is not None
    assert child.stdout is not None
    to, from_ = child.stdin, child.stdout

    def of(tokens: int) -> Way:
        async def rate(seconds: float) -> float:
            to.write(f"{tokens} {seconds}\n".encode())
            told = await asyncio.wait_for(from_.readline(), _START_SECONDS + seconds)
            return float(told)

        return rate

    try:
        yield of
    finally:
        to.close()
        await child.wait()


@asynccontextmanager
async def mosec_server(bundle: Path) -> AsyncIterator[int]:
    """A process of it; its port."""
    port = free_port()
    command = [sys.executable, "-m", "loadtest.embedder_mosec", "--address", "127.0.0.1", "--port", str(port)]
    env = {**os.environ, "SOUK_BUNDLE": str(bundle)} | {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    child = await asyncio.create_subprocess_exec(*command, env=env, stdout=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(_START_SECONDS):
            while True:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    await ask(reader, writer, "begin")
                    writer.close()
                    break
                except (OSError, RuntimeError, asyncio.IncompleteReadError):
                    await asyncio.sleep(0.2)
        yield port
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


async def in_turns(ways: dict[str, Way], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Texts a second of each way in each round."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        await way(1.0)
    for _ in range(rounds):
        for name, way in ways.items():
            rates[name].append(await way(seconds))
    return rates


def row(title: str, rates: dict[str, list[float]], baseline: str, least: float | None) -> Row:
    """The embedder beside one of the others, the median of the ratios within a round."""
    ours, theirs = rates["embedder"], rates[baseline]
    ratio = float(np.median(np.divide(ours, theirs)))
    told = f"{baseline}, {np.median(theirs):.0f}/s"
    goal = None if least is None else f">= {least:g} x"
    return Row(title, float(np.median(ours)), "texts/s", told, ratio, goal, None if least is None else ratio >= least)


async def alone(stub: Any, words: Words, rounds: int) -> list[Row]:
    """A single query at a time: the service beside the engine."""
    taken: dict[str, list[float]] = {"engine": [], "embedder": []}
    for number in range(rounds + 20):
        (text,) = words.texts(SHORT, 1)
        began = time.perf_counter()
        words.encoder.encode(words.encoder.tokenise([text]))
        middle = time.perf_counter()
        await stub.Embed(embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(text=text)]), timeout=30)
        if number >= 20:
            taken["engine"].append(1000 * (middle - began))
            taken["embedder"].append(1000 * (time.perf_counter() - middle))
    own, p50, p99 = np.median(taken["engine"]), np.median(taken["embedder"]), np.percentile(taken["embedder"], 99)
    more, twice = f"<= {own + 0.8:.2f} ms", f"<= {2 * p50:.2f} ms"
    engine_told = f"engine, {own:.2f} ms"
    return [
        Row("a query alone, p50", float(p50), "ms", engine_told, float(p50 / own), more, bool(p50 <= own + 0.8)),
        Row(
            "a query alone, p99",
            float(p99),
            "ms",
            f"its p50, {p50:.2f} ms",
            float(p99 / p50),
            twice,
            bool(p99 <= 2 * p50),
        ),
    ]


async def measure(bundle: Path, rounds: int, seconds: float) -> Sequence[Row]:
    """Every row."""
    words, console = Words(bundle), Console()
    rivals = [name for name in ("mosec", "sentence_transformers") if importlib.util.find_spec(name)]
    async with AsyncExitStack() as stack:
        command = [sys.executable, "-m", "services.embedder"]
        stub = await stack.enter_async_context(server(lambda port: command, settings_of(bundle, cache_rows=0)))
        rows = await alone(stub, words, 300)
        short: dict[str, Way] = {
            "engine in process": engine(words, SHORT),
            "embedder": embedder(stub, words, SHORT, IN_FLIGHT, 1),
        }
        long: dict[str, Way] = {
            "engine in process": engine(words, LONG),
            "embedder": embedder(stub, words, LONG, 4, BATCH),
        }
        if "sentence_transformers" in rivals:
            ways = await stack.enter_async_context(sentence_transformers(bundle))
            short["sentence-transformers"], long["sentence-transformers"] = ways(SHORT), ways(LONG)
        if "mosec" in rivals:
            port = await stack.enter_async_context(mosec_server(bundle))
            short["mosec, same engine"] = mosec(port, words)
        with console.status("in turns"):
            rates = {SHORT: await in_turns(short, rounds, seconds), LONG: await in_turns(long, rounds, seconds)}
    goals = {
        (SHORT, "engine in process"): 0.6,
        (SHORT, "sentence-transformers"): 3.0,
        (SHORT, "mosec, same engine"): 1.1,
        (LONG, "engine in process"): 0.95,
        (LONG, "sentence-transformers"): 4.0,
    }
    titles = {SHORT: f"12 tokens, one a request, {IN_FLIGHT} in flight", LONG: f"64 tokens, {BATCH} a request"}
    for (tokens, baseline), least in goals.items():
        if baseline in rates[tokens]:
            rows.append(row(titles[tokens], rates[tokens], baseline, least))
    for name in ("mosec", "sentence_transformers"):
        if name not in rivals:
            console.print(f"{name} is not installed and left out: pip install -e '.[bench]'", highlight=False)
    return rows


def main(
    bundle: Annotated[Path, typer.Option(help="Directory of a bundle.")] = Path(".souk/bundle"),
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="A turn.")] = 3.0,
) -> None:
    """Measures; writes reports/bench-embedder-rivals.json."""
    try:
        rows = uvloop.run(measure(bundle, rounds, seconds))
    except BundleError as error:
        Console().print(f"[red]{error}[/red]; `python -m training bundle` makes one", soft_wrap=True)
        raise typer.Exit(1) from None
    show(list(rows))
    Console().print(f"next: read {write_rows('embedder-rivals', rows)}", highlight=False)


if __name__ == "__main__":
    typer.run(main)
