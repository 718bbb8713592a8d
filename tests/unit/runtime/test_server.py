"""The life of a real process: health, errors, request ids, deadlines, drain."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from souk.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from tests.ports import free_port

TINY = Path(__file__).with_name("tiny.py")


class Process:
    def __init__(self, **settings: str) -> None:
        self.port = free_port()
        env = {"SOUK_TINY_PORT": str(self.port), "SOUK_TINY_METRICS_PORT": "0", "PYTHONPATH": "."}
        env |= {f"SOUK_TINY_{name.upper()}": value for name, value in settings.items()}
        self.child = subprocess.Popen(
            [sys.executable, str(TINY)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.stub = retriever_pb2_grpc.RetrieverStub(self.channel)
        self.health: Any = health_pb2_grpc.HealthStub(self.channel)

    def status(self) -> Any:
        try:
            return self.health.Check(health_pb2.HealthCheckRequest(), timeout=5, wait_for_ready=True).status
        except grpc.RpcError:
            return None

    def wait_for(self, status: Any) -> None:
        watch = self.health.Watch(health_pb2.HealthCheckRequest(), timeout=20, wait_for_ready=True)
        for answer in watch:
            if answer.status == status:
                watch.cancel()
                return
        raise AssertionError("the health never changed")

    def get(self, *ids: str, timeout: float = 5.0, **kwargs: Any) -> Any:
        return self.stub.GetItems(retriever_pb2.GetItemsRequest(item_ids=ids), timeout=timeout, **kwargs)

    def end(self) -> tuple[int, str, str]:
        self.child.send_signal(signal.SIGTERM)
        out, err = self.child.communicate(timeout=20)
        self.channel.close()
        return self.child.returncode, out, err


def served() -> Iterator[Process]:
    process = Process()
    try:
        process.wait_for(health_pb2.HealthCheckResponse.SERVING)
        yield process
    finally:
        if process.child.poll() is None:
            process.end()


@pytest.fixture(scope="module")
def shared() -> Iterator[Process]:
    """One for the tests that leave it as it was."""
    yield from served()


@pytest.fixture
def tiny() -> Iterator[Process]:
    """One for a test that ends it."""
    yield from served()


@pytest.mark.parametrize(
    ("item_id", "code", "words"),
    [
        ("invalid", grpc.StatusCode.INVALID_ARGUMENT, "item_ids[0]: is not liked"),
        ("missing", grpc.StatusCode.NOT_FOUND, "no such item"),
    ],
)
def test_errors_reach_the_caller_by_their_code(
    shared: Process, item_id: str, code: grpc.StatusCode, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        shared.get(item_id)
    assert caught.value.code() is code
    assert caught.value.details() == words


def test_an_unforeseen_error_tells_the_log_and_not_the_caller(tiny: Process) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        tiny.get("secret", metadata=[("x-request-id", "my-request-1")])
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in (caught.value.details() or "")
    _, _, err = tiny.end()
    assert "hunter2" in err
    assert "my-request-1" in err


def test_a_stream_gives_what_it_has_and_then_its_status(shared: Process) -> None:
    heads = [r.head_sequence for r in shared.stub.StreamChanges(retriever_pb2.StreamChangesRequest(), timeout=5)]
    assert heads == [0, 1, 2]
    stream = shared.stub.StreamChanges(retriever_pb2.StreamChangesRequest(from_sequence=9), timeout=5)
    assert [next(stream).head_sequence for _ in range(3)] == [0, 1, 2]
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_call_without_deadline_ends_at_the_longest_the_process_allows() -> None:
    process = Process(max_seconds="0.2")
    process.wait_for(health_pb2.HealthCheckResponse.SERVING)
    with pytest.raises(grpc.RpcError) as caught:
        process.stub.GetItems(retriever_pb2.GetItemsRequest(item_ids=["slow", "30"]))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert process.end()[0] == 0


def test_sigterm_lets_calls_under_way_end_and_refuses_new_ones(tiny: Process) -> None:
    under_way = tiny.stub.GetItems.future(retriever_pb2.GetItemsRequest(item_ids=["slow", "1.5"]), timeout=10)
    assert tiny.get("any").sequence == 7
    tiny.child.send_signal(signal.SIGTERM)
    tiny.wait_for(health_pb2.HealthCheckResponse.NOT_SERVING)
    with pytest.raises(grpc.RpcError) as caught:
        tiny.get("any")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert under_way.result().sequence == 7
    code, out, _ = tiny.end()
    assert (code, out) == (0, "let go\n")


def test_sigterm_ends_open_streams_at_once(tiny: Process) -> None:
    stream = tiny.stub.StreamChanges(retriever_pb2.StreamChangesRequest(follow=True), timeout=60)
    for _ in range(3):
        next(stream)
    tiny.child.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.details() == "draining: go on elsewhere"
    assert tiny.end()[0] == 0


def test_the_health_follows_the_check(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    process = Process(broken=str(broken))
    process.wait_for(health_pb2.HealthCheckResponse.SERVING)
    broken.touch()
    process.wait_for(health_pb2.HealthCheckResponse.NOT_SERVING)
    broken.unlink()
    process.wait_for(health_pb2.HealthCheckResponse.SERVING)
    assert process.end()[0] == 0


def test_reflection_is_served_only_where_it_is_set(shared: Process) -> None:
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    open_ = Process(reflection="true")
    open_.wait_for(health_pb2.HealthCheckResponse.SERVING)
    assert "souk.retriever.v1.Retriever" in ProtoReflectionDescriptorDatabase(open_.channel).get_services()
    assert open_.end()[0] == 0
    with pytest.raises(grpc.RpcError) as caught:
        ProtoReflectionDescriptorDatabase(shared.channel).get_services()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_process_that_cannot_start_says_why() -> None:
    process = Process(broken="at start")
    _, err = process.child.communicate(timeout=20)
    assert process.child.returncode == 1
    assert "tiny: RuntimeError: the thing is not there" in err


@pytest.mark.parametrize("which", ["port", "metrics_port"])
def test_a_taken_port_is_named(which: str) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = str(sock.getsockname()[1])
        process = Process(**{which: port})
        _, err = process.child.communicate(timeout=20)
    assert process.child.returncode == 1
    assert f"tiny: 127.0.0.1:{port} cannot be listened on" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"port": "seventy"}, "SOUK_TINY_PORT"),
        ({"port": "70000"}, "SOUK_TINY_PORT: Input should be less than or equal to 65535"),
        ({"prot": "1"}, "SOUK_TINY_PROT: no such setting"),
        ({"trace_ratio": "2"}, "SOUK_TINY_TRACE_RATIO"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, str], words: str) -> None:
    process = Process(**settings)
    _, err = process.child.communicate(timeout=20)
    assert process.child.returncode == 2
    assert words in err


async def test_many_mixed_calls_with_disconnects_leave_it_well(shared: Process) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{shared.port}") as channel:
        stub = retriever_pb2_grpc.RetrieverStub(channel)

        async def one(i: int) -> None:
            ids = [["ok"], ["invalid"], ["missing"], ["slow", "0.05"]][i % 4]
            call = stub.GetItems(retriever_pb2.GetItemsRequest(item_ids=ids), timeout=0.02 if i % 7 == 0 else 10)
            if i % 5 == 0:
                call.cancel()
            await asyncio.gather(call, return_exceptions=True)

        for start in range(0, 2000, 100):
            await asyncio.gather(*(one(i) for i in range(start, start + 100)), return_exceptions=True)
        assert (await stub.GetItems(retriever_pb2.GetItemsRequest(item_ids=["ok"]), timeout=5)).sequence == 7
