"""A client process: sends the calls of one phase after the other and tells every second what became of them."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import grpc.aio
import uvloop

from loadtest.plan import Phase, Plan
from loadtest.tally import MOST_SAMPLES, Tally
from loadtest.traffic import Call, Caller, Pools
from souk.shop.v1 import shop_pb2_grpc
from souk.types.v1 import types_pb2

# Calls of one process that may wait for their answers; what would be beyond is not sent, and counted.
MOST_IN_FLIGHT = 1000
_TICK_SECONDS = 1.0

Tell = Callable[[Tally], None]


@dataclass(frozen=True)
class Job:
    """A phase for one process: its share of the calls, from `begin` (time.monotonic, the same for all) on."""

    phase: Phase
    share: float
    begin: float
    seed: int


class Sender:
    """Sends calls by stubs rather than by souk.Client, whose retries would hide what failed."""

    def __init__(self, channel: grpc.aio.Channel, deadline: float) -> None:
        stub: Any = shop_pb2_grpc.ShopStub(channel)
        self._methods = {
            name: getattr(stub, name) for name in ("Search", "Similar", "Recommend", "RecordEvents", "UpsertItems")
        }
        self._deadline = deadline
        self.tally = Tally()

    def take(self) -> Tally:
        """What was counted since the last time."""
        taken, self.tally = self.tally, Tally()
        return taken

    async def send(self, call: Call, due: float) -> None:
        """Sends a call and counts what becomes of it; its latency begins when it was due (time.monotonic)."""
        self.tally.lag.record(time.monotonic() - due)
        try:
            answer = await self._methods[call.method](call.request, timeout=self._deadline)
        except grpc.aio.AioRpcError as error:
            taken = time.monotonic() - due
            self.tally.failed[call.scenario, error.code().name] += 1
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self.tally.record(self.tally.latency, call.scenario, taken)
            return
        self.tally.record(self.tally.latency, call.scenario, time.monotonic() - due)
        self.tally.answered[call.scenario] += 1
        if call.method in ("Search", "Similar", "Recommend"):
            self._look_into(call, answer)

    def _look_into(self, call: Call, answer: Any) -> None:
        tally = self.tally
        for timing in answer.info.timings:
            tally.record(tally.stages, timing.stage, timing.duration_us / 1e6)
        for one in answer.info.degradations:
            reason = types_pb2.DegradationReason.Name(one.reason).removeprefix("DEGRADATION_REASON_")
            tally.degradations[one.stage, reason] += 1
        tally.degraded[call.scenario] += bool(answer.info.degradations)
        tally.empty[call.scenario] += not answer.hits
        if call.method == "Recommend":
            tally.shoppers[types_pb2.Stage.Name(answer.stage).removeprefix("STAGE_")] += 1
        elif call.method == "Search" and len(tally.samples) < MOST_SAMPLES:
            tally.samples.append((call.request.query, [hit.item_id for hit in answer.hits]))


def schedule(phase: Phase, share: float, seed: int) -> Iterator[float]:
    """When the calls of an open phase are due, in seconds from its begin, rising. A ramp's rate grows from 0 evenly:
    the arrivals of a rate of 1 are mapped by the inverse of the rate's integral (Lewis and Shedler 1979)."""
    assert phase.rate is not None
    rate, dice, passed = phase.rate * share, random.Random(seed), 0.0
    while True:
        passed += 1.0 if phase.kind == "constant" else dice.expovariate(1.0)
        due = math.sqrt(2 * passed * phase.seconds / rate) if phase.kind == "ramp" else passed / rate
        if due >= phase.seconds:
            return
        yield due


async def open_loop(sender: Sender, caller: Caller, job: Job, most_in_flight: int = MOST_IN_FLIGHT) -> None:
    """Sends every call when it is due, whether or not others are answered yet; ends when the last is."""
    under_way: set[asyncio.Task[None]] = set()
    for offset in schedule(job.phase, job.share, job.seed):
        due = job.begin + offset
        # While behind, too: answers must be read.
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        call = caller.draw()
        if len(under_way) >= most_in_flight:
            sender.tally.unsent[call.scenario] += 1
            continue
        task = asyncio.create_task(sender.send(call, due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)


async def closed_loop(sender: Sender, caller: Caller, job: Job) -> None:
    """So many callers, each sending its next call when the last one is answered."""
    assert job.phase.in_flight is not None
    end = job.begin + job.phase.seconds
    await asyncio.sleep(max(0.0, job.begin - time.monotonic()))

    async def one() -> None:
        while (now := time.monotonic()) < end:
            await sender.send(caller.draw(), now)

    await asyncio.gather(*(one() for _ in range(max(1, round(job.phase.in_flight * job.share)))))


async def run_phase(sender: Sender, caller: Caller, job: Job, tell: Tell) -> None:
    """Runs a phase; `tell` gets a tally every second and the rest at the end."""

    async def ticking() -> None:
        tick = job.begin
        while True:
            tick += _TICK_SECONDS
            await asyncio.sleep(max(0.0, tick - time.monotonic()))
            tell(sender.take())

    ticks = asyncio.create_task(ticking())
    try:
        await (closed_loop if job.phase.kind == "closed" else open_loop)(sender, caller, job)
    finally:
        ticks.cancel()
    tell(sender.take())


def main(pipe: Connection, gateway: str, pools: Pools, plan: Plan, seed: int, run: str) -> None:
    """The process: Jobs come in by the pipe, each answered by tallies and None; None ends it."""

    async def serve() -> None:
        async with grpc.aio.insecure_channel(gateway) as channel:
            sender, caller = Sender(channel, plan.traffic.deadline_seconds), Caller(pools, plan, seed, run)
            pipe.send(None)
            while (job := await asyncio.to_thread(pipe.recv)) is not None:
                await run_phase(sender, caller, job, pipe.send)
                pipe.send(None)

    uvloop.run(serve())
