"""A whole shop for tests, as real processes on free ports: embedder, retriever, gateway, and others where wanted."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import grpc

from souk import SyncClient
from souk.retriever.v1 import admin_pb2
from souk.types.v1 import types_pb2
from tests.integration.processes import Process, spawn
from tests.ports import free_port

_WRITTEN = (admin_pb2.OUTCOME_CREATED, admin_pb2.OUTCOME_UPDATED, admin_pb2.OUTCOME_UNCHANGED)
_MODULES = {"follower": "services.retriever"}


class Shop:
    """Use as a context; `client` talks to all of it. Processes can be killed, and restarted as they were."""

    def __init__(
        self,
        bundle: Path,
        home: Path,
        redis_url: str,
        *,
        follower: bool = False,
        coldstart: bool = False,
        ranker: bool = False,
        **shared: object,
    ) -> None:
        wanted = {"coldstart": coldstart, "follower": follower, "ranker": ranker}
        order = ("embedder", "coldstart", "retriever", "follower", "ranker", "gateway")
        names = [name for name in order if wanted.get(name, True)]
        address = {name: f"127.0.0.1:{free_port()}" for name in names}
        self._settings: dict[str, dict[str, object]] = {
            "embedder": {},
            "coldstart": {"coldstart_data": home / "coldstart"},
            "ranker": {"ranker_retriever": address["retriever"]},
            "retriever": {
                "retriever_data": home / "catalogue",
                "retriever_snapshots": home / "snapshots",
                "retriever_embedder": address["embedder"],
            },
            "follower": {
                "retriever_data": home / "follower",
                "retriever_snapshots": home / "follower-snapshots",
                "retriever_primary": address["retriever"],
            },
            "gateway": {
                "gateway_embedder": address["embedder"],
                "gateway_retriever": address["retriever"],
                "gateway_followers": f'["{address["follower"]}"]' if follower else "[]",
                "gateway_page_key": "k" * 32,
            },
        }
        if coldstart:
            self._settings["retriever"]["retriever_coldstart"] = address["coldstart"]
            self._settings["gateway"]["gateway_coldstart"] = address["coldstart"]
        if ranker:
            self._settings["gateway"]["gateway_ranker"] = address["ranker"]
        for name in names:
            self._settings[name] |= {
                "port": address[name].rsplit(":", 1)[1],
                "bundle": bundle,
                "redis_url": redis_url,
                **shared,
            }
        self.processes: dict[str, Process] = {}
        with ExitStack() as starting:
            self._open = starting
            for name in names:
                self.restart(name)
            self._open = starting.pop_all()
        self.client = SyncClient(
            address["gateway"],
            embedder=address["embedder"],
            retriever=address["retriever"],
            coldstart=address.get("coldstart", "127.0.0.1:1"),
            timeout=10,
        )

    def restart(self, name: str) -> None:
        """Starts a process, the first time or after its death, and waits until it serves."""
        module = _MODULES.get(name, f"services.{name}")
        self.processes[name] = self._open.enter_context(spawn(module, **self._settings[name]))

    def gateway_without_ranker(self) -> Process:
        """Another gateway of the same shop."""
        settings = {name: value for name, value in self._settings["gateway"].items() if name != "gateway_ranker"}
        return spawn("services.gateway", **{**settings, "port": free_port()})

    @property
    def gateway(self) -> Process:
        """The gateway."""
        return self.processes["gateway"]

    def __enter__(self) -> "Shop":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self._open.close()

    def fill(self, items: Sequence[types_pb2.Item]) -> None:
        """Writes the items and waits until they have their vectors."""
        for start in range(0, len(items), 500):
            for result in self.client.upsert_items(items[start : start + 500], timeout=30):
                assert result.outcome in _WRITTEN, result
        until(lambda: not any(index.pending for index in self.client.catalogue_info().indexes), seconds=240)


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Waits for something to become true; calls that fail count as not yet."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return
        except grpc.aio.AioRpcError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"it did not come true within {seconds} s")
