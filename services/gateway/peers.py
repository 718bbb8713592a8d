"""The processes behind the gateway: stubs, a breaker for each, and the generation that requests are pinned to."""

import asyncio
from contextlib import suppress

import grpc
import grpc.aio

from services.gateway.catch_up import CatchUp
from services.gateway.peer import Peer
from services.gateway.settings import GatewaySettings
from services.gateway.stages import StageFailed
from services.runtime.channels import sleep_until_stopped
from souk.coldstart.v1 import coldstart_pb2_grpc
from souk.embedder.v1 import embedder_pb2_grpc
from souk.ranker.v1 import ranker_pb2_grpc
from souk.retriever.v1 import admin_pb2_grpc, retriever_pb2_grpc
from souk.types.v1 import generations_pb2

_WATCH_EVERY_SECONDS = 1.0


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
        self._catch_up = CatchUp()
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
        await self._catch_up.stop()
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
                serving = next((one for one in held.generations if one.serving), None)
                if serving is not None:
                    self.generation = serving.generation
                    self._catch_up.look([one for one in self.all() if one is not peer], serving, held.generations)
                return
