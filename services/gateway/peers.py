"""The processes behind the gateway: stubs, a breaker for each, and the generation that requests are pinned to."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import grpc
import grpc.aio

from services.gateway.settings import GatewaySettings
from services.gateway.stages import StageFailed
from services.runtime import telemetry
from services.runtime.channels import connect, sleep_until_stopped
from souk.coldstart.v1 import coldstart_pb2_grpc
from souk.embedder.v1 import embedder_pb2_grpc
from souk.ranker.v1 import ranker_pb2_grpc
from souk.retriever.v1 import admin_pb2_grpc, retriever_pb2_grpc
from souk.types.v1 import generations_pb2, generations_pb2_grpc, types_pb2

R = TypeVar("R")

_LOSSES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_OPENS_AFTER = 3
_OPEN_SECONDS = 1.0
# A call that was given less than this says nothing about its peer by running out of time.
_FAIR_SECONDS = 0.1
_WATCH_EVERY_SECONDS = 1.0


class Peer:
    """One process. After three losses in a row its calls fail at once for a second, then one is let through."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.channel = connect(address)
        self.generations = generations_pb2_grpc.GenerationsStub(self.channel)
        self._losses = 0
        self._open_until = 0.0

    async def call(self, method: Callable[..., Awaitable[R]], request: Any, seconds: float) -> R:
        """One unary call. Raises grpc.aio.AioRpcError, or StageFailed while the breaker is open."""
        if time.monotonic() < self._open_until:
            raise StageFailed(types_pb2.DEGRADATION_REASON_UNAVAILABLE, f"{self.name}: failed lately, not asked")
        if self._losses >= _OPENS_AFTER:
            self._open_until = time.monotonic() + _OPEN_SECONDS
        began = time.monotonic()
        try:
            answer = await method(request, timeout=seconds, metadata=telemetry.outgoing())
        except grpc.aio.AioRpcError as error:
            if error.code() not in _LOSSES:
                self._well()
            elif error.code() is grpc.StatusCode.UNAVAILABLE or seconds >= _FAIR_SECONDS:
                self._losses += 1
            raise
        except asyncio.CancelledError:
            if time.monotonic() - began >= _FAIR_SECONDS:
                self._losses += 1
            raise
        self._well()
        return answer

    def _well(self) -> None:
        self._losses = 0
        self._open_until = 0.0


class Peers:
    """All processes behind the gateway, and which generation they serve."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.embedder = Peer("embedder", settings.embedder)
        self.retriever = Peer("retriever", settings.retriever)
        self.followers = [Peer(f"follower {address}", address) for address in settings.followers]
        self.coldstart = Peer("coldstart", settings.coldstart) if settings.coldstart else None
        self.ranker = Peer("ranker", settings.ranker) if settings.ranker else None
        self.embed = embedder_pb2_grpc.EmbedderStub(self.embedder.channel)
        self.write = admin_pb2_grpc.RetrieverAdminStub(self.retriever.channel)
        if self.coldstart is not None:
            self.coldstart_stub = coldstart_pb2_grpc.ColdstartStub(self.coldstart.channel)
        if self.ranker is not None:
            self.ranker_stub = ranker_pb2_grpc.RankerStub(self.ranker.channel)
        self.readers = [
            (peer, retriever_pb2_grpc.RetrieverStub(peer.channel)) for peer in (self.retriever, *self.followers)
        ]
        self.generation = ""
        self._stopped = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    def all(self) -> list[Peer]:
        """Every process that holds generations; the retriever after those it needs for new vectors."""
        peers = [self.embedder, self.coldstart, self.retriever, *self.followers, self.ranker]
        return [peer for peer in peers if peer is not None]

    async def start(self) -> None:
        """Learns the generation, if a catalogue answers, and keeps watching it."""
        await self._learn()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Closes everything."""
        self._stopped.set()
        if self._watching is not None:
            await self._watching
        for peer in self.all():
            await peer.channel.close()

    async def _watch(self) -> None:
        while not await sleep_until_stopped(self._stopped, _WATCH_EVERY_SECONDS):
            await self._learn()

    async def _learn(self) -> None:
        """Pins requests to what the catalogue serves; without an answer the last generation stays."""
        for peer, _ in self.readers:
            with suppress(grpc.aio.AioRpcError, StageFailed):
                request = generations_pb2.ListGenerationsRequest()
                held = await peer.call(peer.generations.ListGenerations, request, _WATCH_EVERY_SECONDS)
                self.generation = next((one.generation for one in held.generations if one.serving), self.generation)
                return
