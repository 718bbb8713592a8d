"""Starts real processes of Souk for tests: on a free port, watched until they serve, ended with SIGTERM."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.ports import free_port

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
REPOSITORY = Path(__file__).resolve().parents[2]


class Process:
    """`python -m module` with SOUK_ settings, named without prefix and in lower case; on a free port by default."""

    def __init__(self, module: str, **settings: object) -> None:
        self.port = int(str(settings.pop("port", free_port())))
        self.address = f"127.0.0.1:{self.port}"
        own = {"port": self.port, "metrics_port": 0, **settings}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SOUK_")}
        env = clean | {f"SOUK_{name.upper()}": str(value) for name, value in own.items()}
        # Files rather than pipes: a process that logs much must not stop because no one reads.
        self._out = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._child = subprocess.Popen(
            [sys.executable, "-m", module], env=env, cwd=REPOSITORY, stdout=self._out, stderr=subprocess.STDOUT
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._child.pid

    def wait_until_serving(self, seconds: float = 60.0) -> None:
        """Polls the health. Raises AssertionError, with the log, when the process ends or the time does."""
        give_up = time.monotonic() + seconds
        with grpc.insecure_channel(self.address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < give_up:
                assert self._child.poll() is None, f"it ended with {self._child.returncode}:\n{self.log()}"
                try:
                    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True)
                except grpc.RpcError:
                    continue
                if answer.status == SERVING:
                    return
                time.sleep(0.02)
        raise AssertionError(f"not serving after {seconds} s:\n{self.log()}")

    def terminate(self) -> None:
        """Sends SIGTERM and does not wait."""
        self._child.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once."""
        self._child.kill()
        self._child.wait()

    def wait(self, seconds: float = 30.0) -> int:
        """Waits for the end; gives the exit code."""
        return self._child.wait(seconds)

    def stop(self) -> int:
        """SIGTERM and wait, kill if that does not help; gives the exit code."""
        if self._child.poll() is None:
            self.terminate()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill()
        return self._child.returncode

    def log(self) -> str:
        """All it has written so far."""
        self._out.flush()
        return Path(f"/proc/self/fd/{self._out.fileno()}").read_text()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        self._out.close()


def spawn(module: str, **settings: object) -> Process:
    """Starts a process and waits until it serves."""
    process = Process(module, **settings)
    try:
        process.wait_until_serving()
    except BaseException:
        process.__exit__(None, None, None)
        raise
    return process
