"""Measures the embedder on short queries: `python -m loadtest.embedder_bench --bundle DIR`.

Single texts of 12 tokens, 32 in flight, real processes over loopback; the embedder without and with its cache against
a naive server of the same model (one request, one inference, a session of all threads), in interleaved rounds.
"""

import asyncio
import os
import random
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import grpc.aio
import numpy as np
import typer
import uvloop
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from loadtest.bench_rows import Row, write_rows
from services.domain.bundle import BundleError, EncoderManifest, read_bundle
from souk.embedder.v1 import embedder_pb2, embedder_pb2_grpc

IN_FLIGHT = 32
WORDS = 10  # with the two markers, 12 tokens
_START_SECONDS = 60.0
_CALL_SECONDS = 30.0
BASELINE = "one request, one inference"
PLAIN = "embedder, cache off"
CACHED = "embedder, cache on"

app = typer.Typer()


@app.command()
def bench(
    bundle: Annotated[Path, typer.Option(help="Directory of a bundle.")] = Path(".souk/bundle"),
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of one round of one server.")] = 3.0,
) -> None:
    """Requests a second of each server, median over the rounds, and the median of the ratios within a round."""
    try:
        manifest = read_bundle(bundle).manifest.encoder
    except BundleError as error:
        Console().print(f"[red]{error}[/red]; `python -m training bundle` makes one", soft_wrap=True)
        raise typer.Exit(1) from None
    uvloop.run(_bench(bundle, manifest, rounds, seconds))


async def _bench(bundle: Path, manifest: EncoderManifest, rounds: int, seconds: float) -> None:
    tokenizer = Tokenizer.from_file(str(bundle / manifest.tokenizer))
    vocabulary = sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 3)
    dice = random.Random(0)

    def fresh() -> str:
        return " ".join(dice.sample(vocabulary, WORDS))

    # What shoppers type repeats: 2,000 queries whose popularity falls with their rank.
    popular = [fresh() for _ in range(2000)]
    weights = [1 / rank for rank in range(1, len(popular) + 1)]
    next_texts: dict[str, Callable[[], str]] = {
        BASELINE: fresh,
        PLAIN: fresh,
        CACHED: lambda: dice.choices(popular, weights)[0],
    }
    embedder = [sys.executable, "-m", "services.embedder"]
    async with AsyncExitStack() as stack:
        stubs = {
            BASELINE: await stack.enter_async_context(
                server(lambda port: [sys.executable, "-m", "loadtest.embedder_naive", str(bundle), str(port)], {})
            ),
            PLAIN: await stack.enter_async_context(server(lambda _: embedder, settings_of(bundle, cache_rows=0))),
            CACHED: await stack.enter_async_context(server(lambda _: embedder, settings_of(bundle))),
        }
        rates: dict[str, list[float]] = {name: [] for name in stubs}
        delays: dict[str, list[float]] = {name: [] for name in stubs}
        for name, stub in stubs.items():
            await _round(stub, next_texts[name], 0.5)
        for _ in range(rounds):
            for name, stub in stubs.items():
                began = time.perf_counter()
                times = await _round(stub, next_texts[name], seconds)
                rates[name].append(len(times) / (time.perf_counter() - began))
                delays[name] += times
    _print(rates, delays)


def _print(rates: dict[str, list[float]], delays: dict[str, list[float]]) -> None:
    table = Table("server", "requests/s", "p50 ms", "p99 ms", "ratio", title=f"12 tokens, {IN_FLIGHT} in flight")
    rows = []
    for name, each in rates.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(each, rates[BASELINE], strict=True))
        p50, p99 = np.percentile(delays[name], [50, 99]) * 1e3
        table.add_row(name, f"{statistics.median(each):.0f}", f"{p50:.1f}", f"{p99:.1f}", f"{ratio:.2f}")
        rows.append(
            Row(f"{name}, 12 tokens, {IN_FLIGHT} in flight", statistics.median(each), "texts/s", BASELINE, ratio)
        )
    Console().print(table)
    Console().print(f"next: read {write_rows('embedder', rows)}", highlight=False)


async def _round(stub: Any, next_text: Callable[[], str], seconds: float) -> list[float]:
    """Seconds that each answered request took."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def caller() -> None:
        while (began := time.perf_counter()) < end:
            request = embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(text=next_text())])
            await stub.Embed(request, timeout=_CALL_SECONDS)
            times.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return times


def settings_of(bundle: Path, **settings: object) -> dict[str, str]:
    """Settings of an embedder's process, as its environment."""
    own: dict[str, object] = {"bundle": bundle, "metrics_port": 0, **settings}
    return {f"SOUK_EMBEDDER_{name.upper()}": str(value) for name, value in own.items()}


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def server(command: Callable[[int], list[str]], env: dict[str, str]) -> AsyncIterator[Any]:
    """A process on a free port and a stub for it, ended with the block."""
    port = free_port()
    child = await asyncio.create_subprocess_exec(
        *command(port), env={**os.environ, **env, "SOUK_EMBEDDER_PORT": str(port)}
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = embedder_pb2_grpc.EmbedderStub(channel)
            await _answering(child, stub)
            yield stub
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


async def _answering(child: asyncio.subprocess.Process, stub: Any) -> None:
    request = embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(text="begin")])
    async with asyncio.timeout(_START_SECONDS):
        while child.returncode is None:
            try:
                await stub.Embed(request, timeout=5, wait_for_ready=True)
                return
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
    raise RuntimeError(f"a server ended with {child.returncode}")


if __name__ == "__main__":
    app()
