"""A server that freezes for a second: the load test must say so, and a closed loop shows what it would have hidden."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import grpc
import pytest

from loadtest.client import Job, Sender, closed_loop, open_loop
from loadtest.plan import Phase, Plan
from loadtest.tally import Tally
from loadtest.traffic import Caller, Pools
from souk.shop.v1 import shop_pb2, shop_pb2_grpc

_PLAN = Plan.model_validate(
    {"scenarios": {"search": 1}, "phases": [{"name": "x", "kind": "steady", "rate": 1, "seconds": 1}]}
)
_POOLS = Pools(["s"], ["mug", "lamp"], [b""])
_FROZEN_SECONDS = 1.0


class _Shop(shop_pb2_grpc.ShopServicer):
    def Search(self, request: shop_pb2.SearchRequest, context: grpc.ServicerContext) -> shop_pb2.SearchResponse:
        if request.query == "refused":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return shop_pb2.SearchResponse(hits=[shop_pb2.Hit(item_id="a")])


def _serve(pipe: Connection) -> None:
    server = grpc.server(ThreadPoolExecutor(4))
    shop_pb2_grpc.add_ShopServicer_to_server(_Shop(), server)  # type: ignore[abstract]
    pipe.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    pipe.recv()


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    processes = multiprocessing.get_context("spawn")
    ours, theirs = processes.Pipe()
    child = processes.Process(target=_serve, args=(theirs,), daemon=True)
    child.start()
    assert child.pid is not None
    yield f"127.0.0.1:{ours.recv()}", child.pid
    ours.send(None)
    child.join(10)


def _freeze(pid: int, after: float) -> threading.Thread:
    def run() -> None:
        time.sleep(after)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(_FROZEN_SECONDS)
        os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


async def _load(
    address: str, kind: str, *, pools: Pools = _POOLS, most: int = 1000, deadline: float = 5.0, seconds: float = 1.6
) -> Tally:
    phase = Phase.model_validate({"name": "p", "kind": kind, "seconds": seconds, "rate": 100, "in_flight": 1})
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        sender, caller = Sender(channel, deadline), Caller(pools, _PLAN, 0, "run")
        job = Job(phase, 1.0, time.monotonic(), 0)
        if kind == "closed":
            await closed_loop(sender, caller, job)
        else:
            await open_loop(sender, caller, job, most)
        return sender.tally


async def test_a_stall_shows_in_every_call_that_was_due_meanwhile(server: tuple[str, int]) -> None:
    address, pid = server
    freezing = _freeze(pid, 0.2)
    tally = await _load(address, "constant")
    freezing.join()
    times = tally.all_latency()
    assert times.count == tally.due == 159
    measured = times.to_json()
    assert measured["max"] >= 950
    assert measured["p99.9"] >= 950
    # A hundred calls were due while it was frozen; those of the first nine tenths waited for a tenth and more.
    assert times.at_least(0.1) >= 80
    assert measured["p90"] >= 500


async def test_waiting_for_each_answer_would_hide_the_stall(server: tuple[str, int]) -> None:
    address, pid = server
    freezing = _freeze(pid, 0.2)
    tally = await _load(address, "closed")
    freezing.join()
    assert tally.all_latency().at_least(0.1) <= 2  # What the test above tells from an open loop.


async def test_calls_beyond_the_bound_are_counted_as_unsent(server: tuple[str, int]) -> None:
    address, pid = server
    freezing = _freeze(pid, 0.2)
    tally = await _load(address, "constant", most=10)
    freezing.join()
    assert tally.due == 159
    assert tally.unsent["search"] >= 80
    assert tally.answered["search"] + tally.unsent["search"] == tally.due


async def test_calls_whose_time_is_over_are_failures_with_a_latency(server: tuple[str, int]) -> None:
    address, pid = server
    freezing = _freeze(pid, 0.2)
    tally = await _load(address, "constant", deadline=0.3)
    freezing.join()
    late = tally.failed["search", "DEADLINE_EXCEEDED"]
    assert late >= 50
    assert tally.all_latency().at_least(0.29) >= late
    assert tally.due == 159


async def test_refusals_are_counted_by_code_and_not_timed(server: tuple[str, int]) -> None:
    tally = await _load(server[0], "constant", pools=Pools(["s"], ["refused"], [b""]), seconds=0.3)
    assert tally.failed == {("search", "RESOURCE_EXHAUSTED"): 29}
    assert tally.all_latency().count == 0
