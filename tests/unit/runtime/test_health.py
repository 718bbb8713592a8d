"""The health probe against what a container's process may be: serving, not serving, silent, gone, another thing."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.runtime.health import main
from tests.ports import free_port

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def server() -> Iterator[tuple[str, health.HealthServicer]]:
    """A gRPC server that serves nothing but its health."""
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", servicer
    server.stop(0).wait()


def test_the_probe_follows_the_health(
    server: tuple[str, health.HealthServicer], capsys: pytest.CaptureFixture[str]
) -> None:
    address, servicer = server
    for status, code in ((NOT_SERVING, 1), (SERVING, 0), (NOT_SERVING, 1), (SERVING, 0)):
        servicer.set("", status)
        assert main([address]) == code
    assert capsys.readouterr().err == f"{address}: NOT_SERVING\n" * 2


def test_a_server_without_health_is_not_relied_on(capsys: pytest.CaptureFixture[str]) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert main([f"127.0.0.1:{port}"]) == 1
    finally:
        server.stop(0).wait()
    assert "UNIMPLEMENTED" in capsys.readouterr().err


def test_nothing_there_and_a_silent_listener_end_with_1_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"127.0.0.1:{free_port()}"]) == 1
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        # Run as a container's engine runs it. The limit is the compose file's timeout with room to spare.
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = subprocess.run([sys.executable, "-m", "services.runtime.health", address], timeout=30)
        assert done.returncode == 1
    assert "UNAVAILABLE" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["127.0.0.1:1", "more"]])
def test_wrong_arguments_end_with_1_and_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert "usage" in capsys.readouterr().err
