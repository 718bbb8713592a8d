"""A whole shop for tests: embedder, retriever, perhaps a follower, gateway, as real processes on free ports."""

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


class Shop:
    """Use as a context; `client` talks to all of it."""

    def __init__(self, bundle: Path, home: Path, redis_url: str, *, follower: bool = False, **gateway: object) -> None:
        self._open = ExitStack()
        shared = {"bundle": bundle, "redis_url": redis_url} | {
            name: gateway.pop(name) for name in ("otlp_endpoint",) if name in gateway
        }
        with ExitStack() as starting:
            self.embedder = starting.enter_context(spawn("services.embedder", **shared))
            self.retriever = starting.enter_context(
                spawn(
                    "services.retriever",
                    retriever_data=home / "catalogue",
                    retriever_snapshots=home / "snapshots",
                    retriever_embedder=self.embedder.address,
                    **shared,
                )
            )
            self.follower: Process | None = None
            if follower:
                self.follower = starting.enter_context(
                    spawn(
                        "services.retriever",
                        retriever_data=home / "follower",
                        retriever_snapshots=home / "follower-snapshots",
                        retriever_primary=self.retriever.address,
                        **shared,
                    )
                )
                gateway["gateway_followers"] = f'["{self.follower.address}"]'
            self.gateway = starting.enter_context(
                spawn(
                    "services.gateway",
                    gateway_embedder=self.embedder.address,
                    gateway_retriever=self.retriever.address,
                    gateway_page_key="k" * 32,
                    **shared,
                    **gateway,
                )
            )
            self._open = starting.pop_all()
        self.client = SyncClient(
            self.gateway.address, embedder=self.embedder.address, retriever=self.retriever.address, timeout=10
        )

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
                assert result.outcome in (admin_pb2.OUTCOME_CREATED, admin_pb2.OUTCOME_UNCHANGED), result
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
