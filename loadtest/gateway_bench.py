"""What the gateway's answers cost on a running stack, each measure beside a baseline taken in turns with it.

    python -m loadtest.gateway_bench --dataset DIR --home .souk        # against `python -m services`

Searches that are cached and not, in turns with a health check of the same gateway (the least call it answers); uncached
searches on schedule at --rate; answers a second by callers at once; round trips to Redis a request; new items until a
search finds them, with traffic and without; the retriever from its death to the next answer (--restart).
"""

import asyncio
import json
import os
import random
import signal
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import grpc.aio
import numpy as np
import psutil
import redis
import typer
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.table import Table

from loadtest.bench_rows import Row, write_rows
from loadtest.client import Job, Sender, closed_loop, open_loop
from loadtest.plan import Phase, Plan
from loadtest.stack import serving
from loadtest.tally import Tally
from loadtest.traffic import Caller, Pools, read_pools
from loadtest.uncached import Uncached
from souk.dataset import DatasetError
from souk.shop.v1 import shop_pb2, shop_pb2_grpc
from souk.types.v1 import types_pb2

console = Console(width=100)

_AT_ONCE = (1, 4, 16, 64)
_UNCACHED_P99_MS, _CACHED_RATIO, _REDIS_A_REQUEST, _VISIBLE_SECONDS = 25.0, 3.0, 2.0, 1.0


class Bench:
    """The stubs of a running gateway, and what calls are drawn from."""

    def __init__(self, channel: grpc.aio.Channel, pools: Pools) -> None:
        self.channel = channel
        self.shop: Any = shop_pb2_grpc.ShopStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)
        self.pools = pools

    async def learn(self) -> None:
        """What can be asked that no cache knows. Raises RuntimeError where there is nothing."""
        self._uncached = await Uncached.of(self.pools.queries, self.search)

    def uncached(self) -> str:
        """A query that no cache knows."""
        return self._uncached.query()

    async def search(self, query: str) -> Any:
        """The first twenty for nobody known."""
        return await self.shop.Search(shop_pb2.SearchRequest(query=query, page_size=20), timeout=10)

    async def one(self, rounds: int) -> list[Row]:
        """One call at a time: an uncached search, the same again, and a health check, in turns."""
        taken: dict[str, list[float]] = {"uncached": [], "cached": [], "echo": []}
        for number in range(rounds + 5):
            query = self.uncached()
            ways: dict[str, Callable[[], Awaitable[Any]]] = {
                "uncached": lambda query=query: self.search(query),  # type: ignore[misc]
                "cached": lambda query=query: self.search(query),  # type: ignore[misc]
                "echo": lambda: self.health.Check(health_pb2.HealthCheckRequest(), timeout=10),
            }
            for name, way in ways.items():
                began = time.perf_counter()
                await way()
                if number >= 5:
                    taken[name].append(1000 * (time.perf_counter() - began))
        echo = np.array(taken["echo"])
        rows = []
        for name in ("uncached", "cached"):
            each = np.array(taken[name])
            ratio = float(np.median(each) / np.median(echo))
            goal = f"<= {_CACHED_RATIO:g} x" if name == "cached" else None
            reached = ratio <= _CACHED_RATIO if name == "cached" else None
            baseline = f"health check, p50 {np.median(echo):.2f} ms"
            rows.append(
                Row(f"search {name}, one at a time, p50", float(np.median(each)), "ms", baseline, ratio, goal, reached)
            )
        return rows

    async def on_schedule(self, rate: float, seconds: float) -> Row:
        """Uncached searches on schedule; the baseline is their own median."""
        pools = Pools(self.pools.shoppers, [self.uncached() for _ in range(int(2 * rate * seconds))], self.pools.items)
        phase = Phase(name="uncached", kind="steady", rate=rate, seconds=seconds)
        times = (await self._load(phase, pools, 0.0)).all_latency().to_json()
        return Row(
            f"search uncached, {rate:g}/s on schedule, p99",
            times["p99"],
            "ms",
            f"its p50, {times['p50']:.1f} ms",
            times["p99"] / times["p50"],
            f"<= {_UNCACHED_P99_MS:g} ms",
            times["p99"] <= _UNCACHED_P99_MS,
        )

    async def at_once(self, seconds: float) -> list[Row]:
        """Answers a second of cached and uncached searches by callers at once, against one caller."""
        rates = {}
        for callers in _AT_ONCE:
            phase = Phase(name="callers", kind="closed", in_flight=callers, seconds=seconds)
            rates[callers] = (await self._load(phase, self.pools, 1.0)).answered.total() / seconds
        base = f"1 caller, {rates[1]:.0f}/s"
        return [
            Row(f"search, {callers} callers", rate, "answers/s", base, rate / rates[1])
            for callers, rate in rates.items()
            if callers > 1
        ]

    async def _load(self, phase: Phase, pools: Pools, zipf: float) -> Tally:
        plan = Plan.model_validate(
            {"traffic": {"zipf": zipf}, "scenarios": {"search": 1}, "phases": [phase.model_dump()]}
        )
        sender, caller = Sender(self.channel, 10.0), Caller(pools, plan, random.randrange(2**31), uuid.uuid4().hex)
        job = Job(phase, 1.0, time.monotonic(), 0)
        await (closed_loop if phase.kind == "closed" else open_loop)(sender, caller, job)
        if sender.tally.failed:
            raise RuntimeError(f"calls failed: {dict(sender.tally.failed)}")
        return sender.tally

    async def redis_round_trips(self, url: str, requests: int) -> Row:
        """How often Redis read from a connection, a request of hot traffic: once for what is sent together.

        What the stack sends by itself in as long an idle time afterwards is taken off.
        """
        server = redis.Redis.from_url(url)

        def reads() -> int:
            return int(server.info("stats")["total_reads_processed"])

        shoppers = self.pools.shoppers[:20]

        async def hot() -> None:
            for number in range(requests):
                request = shop_pb2.RecommendRequest(
                    shopper_id=shoppers[number % len(shoppers)], scene=types_pb2.SCENE_HOME, page_size=20
                )
                await self.shop.Recommend(request, timeout=10)

        await hot()
        before, began = reads(), time.perf_counter()
        await hot()
        taken, after = time.perf_counter() - began, reads()
        await asyncio.sleep(taken)
        idle = reads() - after
        each = (after - before - idle) / requests
        goal = f"<= {_REDIS_A_REQUEST:g}"
        return Row(
            "round trips to Redis, HOME of a known shopper",
            each,
            "a request",
            None,
            None,
            goal,
            each <= _REDIS_A_REQUEST,
        )

    async def visible(self, items: int, rate: float) -> list[Row]:
        """Seconds from sending a new item to the search that finds it, idle and with searches at a rate, in turns."""
        phase = Phase(name="beside", kind="steady", rate=rate, seconds=1.0)
        taken: dict[str, list[float]] = {"idle": [], "busy": []}
        for _ in range(items):
            for name, seconds in taken.items():
                beside = asyncio.create_task(self._load(phase, self.pools, 1.0)) if name == "busy" else None
                word = f"x{uuid.uuid4().hex[:12]}"
                item = types_pb2.Item(id=f"load-{word}", title=f"thing {word}", visible=True)
                began = time.perf_counter()
                await self.shop.UpsertItems(shop_pb2.UpsertItemsRequest(items=[item]), timeout=10)
                while item.id not in [hit.item_id for hit in (await self.search(word)).hits]:
                    if time.perf_counter() - began > 30:
                        raise RuntimeError("a new item was not found within 30 s")
                    await asyncio.sleep(0.005)
                seconds.append(time.perf_counter() - began)
                if beside:
                    await beside
        idle, worst = float(np.median(taken["idle"])), max(taken["busy"])
        return [
            Row(
                f"new item until found, beside {rate:g} searches/s, worst of {items}",
                1000 * worst,
                "ms",
                f"idle, p50 {1000 * idle:.0f} ms",
                worst / idle,
                f"<= {_VISIBLE_SECONDS:g} s",
                worst <= _VISIBLE_SECONDS,
            )
        ]

    async def restart(self, pid: int) -> Row:
        """Seconds from the death of the retriever to the next search without degradation."""
        os.kill(pid, signal.SIGKILL)
        began = time.perf_counter()
        while time.perf_counter() - began < 120:
            await asyncio.sleep(0.05)
            try:
                answer = await self.search(self.uncached())
            except grpc.aio.AioRpcError:
                continue
            if not any(one.stage == "retrieve" for one in answer.info.degradations):
                seconds = time.perf_counter() - began
                return Row("retriever killed until it serves", seconds, "s", None, None, "<= 60 s", seconds <= 60)
        raise RuntimeError("the retriever did not come back within 120 s")


def redis_of(pid: int) -> str | None:
    """The address of the Redis that the stack of a process runs, None where it runs none."""
    stack = psutil.Process(pid).parent()
    for child in stack.children() if stack else ():
        if "valkey" in child.name():
            ports = [one.laddr.port for one in child.net_connections("tcp4") if one.status == psutil.CONN_LISTEN]
            return f"redis://127.0.0.1:{ports[0]}/0"
    return None


async def measure(gateway: str, pools: Pools, home: Path, rate: float, restart: bool) -> list[Row]:
    """Every row."""
    state = json.loads((home / "stack.json").read_text())
    async with grpc.aio.insecure_channel(gateway) as channel:
        bench = Bench(channel, pools)
        rows = []
        with console.status("which queries the encoder reads") as status:
            await bench.learn()
            status.update("one at a time")
            rows += await bench.one(150)
            status.update("on schedule")
            rows.append(await bench.on_schedule(rate, 12))
            status.update("callers at once")
            rows += await bench.at_once(4)
            if url := redis_of(state["gateway"]["pid"]):
                status.update("Redis")
                rows.append(await bench.redis_round_trips(url, 100))
            status.update("new items")
            rows += await bench.visible(6, 20)
            if restart:  # Last: the stack is not warm afterwards.
                status.update("restart")
                rows.append(await bench.restart(state["retriever"]["pid"]))
    return rows


def show(rows: list[Row]) -> None:
    """The table."""
    table = Table("measure", "value", "baseline", "ratio", "goal", "", box=None)
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        reached = {True: "reached", False: "missed", None: ""}[row.reached]
        table.add_row(row.name, f"{row.value:.4g} {row.unit}", row.baseline or "", ratio, row.goal or "", reached)
    console.print(table)


def main(
    dataset: Annotated[Path, typer.Option(help="Directory of the dataset that the shop serves.")],
    gateway: Annotated[str, typer.Option(help="host:port of a running gateway.")] = "127.0.0.1:7100",
    home: Annotated[Path, typer.Option(help="Home of the stack.")] = Path(".souk"),
    serve: Annotated[
        Path | None, typer.Option(help="A bundle: runs a stack of its own in HOME, filled with the dataset once.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Uncached searches a second.")] = 50.0,
    restart: Annotated[bool, typer.Option("--restart", help="Also kill the retriever and wait for it.")] = False,
) -> None:
    """Measures a running stack; writes reports/bench-gateway.json."""
    try:
        pools = read_pools(dataset)
        with serving(serve, home, gateway, dataset, console) if serve else nullcontext():
            rows = uvloop.run(measure(gateway, pools, home, rate, restart))
    except (DatasetError, FileNotFoundError, RuntimeError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    show(rows)
    console.print(f"next: read {write_rows('gateway', rows)}, or python -m loadtest run for the knee", highlight=False)


if __name__ == "__main__":
    typer.run(main)
