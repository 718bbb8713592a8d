"""The embedder against its own engine and what a user would pick instead: `python -m loadtest.embedder_rivals`.

In turns: the engine in process (tokeniser and ONNX session of the bundle, batches of 32 in two threads), the embedder
over gRPC with its cache off, sentence-transformers in process with PyTorch, and mosec serving the same engine. Short
texts of 12 tokens, one a request and 64 in flight; item texts of 64 tokens in batches of 32. All that computes in
float32; "embedder, best" is one with the provider that it takes by itself, and the bundle of `--best`, such as one of a
smaller encoder. First a single query at a time, and where its time goes.
The load generator runs on the same processors. Rivals that are not installed are left out
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
import uvloop
from rich.console import Console

from loadtest.bench_rows import Row, write_rows
from loadtest.embedder_bench import free_port, server, settings_of
from loadtest.gateway_bench import show
from services.domain.bundle import BundleError, read_bundle
from services.embedder.encoder import AUTO, CPU, Encoder
from services.runtime.threads import cpu_limit
from souk.embedder.v1 import embedder_pb2

IN_FLIGHT, BATCH = 64, 32
SHORT, LONG = 12, 64
_MARKERS = 2
_START_SECONDS = 60.0
OURS, BEST = "embedder", "embedder, best"
ENGINE, TRANSFORMERS, MOSEC = "engine in process", "sentence-transformers", "mosec, same engine"

Way = Callable[[float], Awaitable[float]]
"""Seconds -> texts a second."""


class Words:
    """Texts of so many tokens that no cache knows."""

    def __init__(self, bundle: Path) -> None:
        manifest = read_bundle(bundle).manifest.encoder
        self.encoder = Encoder(bundle, manifest, CPU)
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


@dataclass
class Turns:
    """What one way did in each round."""

    rates: list[float] = field(default_factory=list)
    """Texts a second."""
    costs: list[float] = field(default_factory=list)
    """Milliseconds of a processor a text, its caller's among them."""


async def in_turns(ways: dict[str, Way], rounds: int, seconds: float) -> dict[str, Turns]:
    """Each way in each round."""
    turns = {name: Turns() for name in ways}
    for way in ways.values():
        await way(1.0)
    for _ in range(rounds):
        for name, way in ways.items():
            began, spent = time.perf_counter(), processor_seconds()
            rate = await way(seconds)
            texts = rate * (time.perf_counter() - began)
            turns[name].rates.append(rate)
            turns[name].costs.append(1000 * (processor_seconds() - spent) / texts)
    return turns


def processor_seconds() -> float:
    """What this process and those it started have used."""
    own = psutil.Process()
    times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def beside(title: str, turns: dict[str, Turns], ours: str, baseline: str, least: float | None) -> Row:
    """One of ours beside one of the others, the median of the ratios within a round."""
    own, theirs = turns[ours].rates, turns[baseline].rates
    ratio = float(np.median(np.divide(own, theirs)))
    told = f"{baseline}, {np.median(theirs):.0f}/s"
    goal, reached = (None, None) if least is None else (f">= {least:g} x", ratio >= least)
    return Row(f"{ours}: {title}", float(np.median(own)), "texts/s", told, ratio, goal, reached)


def cost(title: str, turns: dict[str, Turns], baseline: str) -> Row:
    """The processor's time a text beside that of another."""
    own, theirs = np.median(turns[OURS].costs), np.median(turns[baseline].costs)
    told = f"{baseline}, {theirs:.2f} ms"
    return Row(f"{OURS}: {title}, processor a text", float(own), "ms", told, float(own / theirs))


async def alone(stub: Any, words: Words, rounds: int) -> list[Row]:
    """A single query at a time: the service beside the engine and beside a call that computes nothing."""
    taken: dict[str, list[float]] = {}

    def took(name: str, began: float) -> None:
        taken.setdefault(name, []).append(1000 * (time.perf_counter() - began))

    for number in range(rounds + 20):
        if number == 20:
            taken.clear()
        (text,) = words.texts(SHORT, 1)
        began = time.perf_counter()
        words.encoder.encode(words.encoder.tokenise([text]))
        took("engine", began)
        began = time.perf_counter()
        answer = await stub.Embed(embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(text=text)]), timeout=30)
        took("embedder", began)
        for timing in answer.timings:
            taken.setdefault(timing.stage, []).append(timing.duration_us / 1000)
        # As long a pause as before the query, or the call would find every thread awake.
        words.encoder.encode(words.encoder.tokenise([text]))
        began = time.perf_counter()
        await stub.GetInfo(embedder_pb2.GetInfoRequest(), timeout=30)
        took("call", began)
    p50 = {name: float(np.median(times)) for name, times in taken.items()}
    own, ours, p99 = p50["engine"], p50["embedder"], float(np.percentile(taken["embedder"], 99))
    told = f"engine, {own:.2f} ms"
    return [
        Row("a query alone, p50", ours, "ms", told, ours / own, f"<= {own + 0.8:.2f} ms", ours <= own + 0.8),
        Row("a query alone, p99", p99, "ms", f"its p50, {ours:.2f} ms", p99 / ours, "<= 2 x", p99 <= 2 * ours),
        Row("a call that computes nothing, p50", p50["call"], "ms", told, p50["call"] / own),
        *(Row(f"a query alone: {stage}, p50", p50[stage], "ms") for stage in ("tokenise", "queue", "inference")),
    ]


async def measure(bundle: Path, best: Path, rounds: int, seconds: float) -> Sequence[Row]:
    """Every row."""
    console = Console()
    rivals = [name for name in ("mosec", "sentence_transformers") if importlib.util.find_spec(name)]
    async with AsyncExitStack() as stack:
        short: dict[str, Way] = {}
        long: dict[str, Way] = {}
        rows: list[Row] = []
        command = [sys.executable, "-m", "services.embedder"]
        for name, path, provider in ((OURS, bundle, CPU), (BEST, best, AUTO)):
            words = Words(path)
            settings = settings_of(path, cache_rows=0, provider=provider)
            stub = await stack.enter_async_context(server(lambda port: command, settings))
            short[name] = embedder(stub, words, SHORT, IN_FLIGHT, 1)
            long[name] = embedder(stub, words, LONG, 4, BATCH)
            if name == OURS:
                rows += await alone(stub, words, 300)
        words = Words(bundle)
        short[ENGINE], long[ENGINE] = engine(words, SHORT), engine(words, LONG)
        if "sentence_transformers" in rivals:
            of = await stack.enter_async_context(sentence_transformers(bundle))
            short[TRANSFORMERS], long[TRANSFORMERS] = of(SHORT), of(LONG)
        if "mosec" in rivals:
            short[MOSEC] = mosec(await stack.enter_async_context(mosec_server(bundle)), words)
        with console.status("in turns"):
            turns = {SHORT: await in_turns(short, rounds, seconds), LONG: await in_turns(long, rounds, seconds)}
    titles = {SHORT: f"{SHORT} tokens x 1, {IN_FLIGHT} in flight", LONG: f"{LONG} tokens x {BATCH}"}
    goals: list[tuple[str, int, str, float | None]] = [
        (OURS, SHORT, ENGINE, 0.6),
        (OURS, SHORT, TRANSFORMERS, 3.0),
        (OURS, SHORT, MOSEC, 1.1),
        (BEST, SHORT, OURS, None),
        (BEST, SHORT, TRANSFORMERS, 3.0),
        (BEST, SHORT, MOSEC, 1.5),
        (OURS, LONG, ENGINE, 0.95),
        (OURS, LONG, TRANSFORMERS, 4.0),
        (BEST, LONG, OURS, None),
        (BEST, LONG, TRANSFORMERS, 4.0),
    ]
    for ours, tokens, baseline, least in goals:
        if {ours, baseline} <= turns[tokens].keys():
            rows.append(beside(titles[tokens], turns[tokens], ours, baseline, least))
    rows += [cost(titles[SHORT], turns[SHORT], name) for name in (ENGINE, TRANSFORMERS, MOSEC) if name in short]
    for name in ("mosec", "sentence_transformers"):
        if name not in rivals:
            console.print(f"{name} is not installed and left out: pip install -e '.[bench]'", highlight=False)
    return rows


def main(
    bundle: Annotated[Path, typer.Option(help="Directory of a bundle.")] = Path(".souk/bundle"),
    best: Annotated[Path | None, typer.Option(help="The bundle of the best, as a smaller encoder's.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="A turn.")] = 3.0,
) -> None:
    """Measures; writes reports/bench-embedder-rivals.json."""
    try:
        rows = uvloop.run(measure(bundle, best or bundle, rounds, seconds))
    except BundleError as error:
        Console().print(f"[red]{error}[/red]; `python -m training bundle` makes one", soft_wrap=True)
        raise typer.Exit(1) from None
    show(list(rows))
    Console().print(f"next: read {write_rows('embedder-rivals', rows)}", highlight=False)


if __name__ == "__main__":
    typer.run(main)
