"""Generations at the gateway: the processes behind it prepare, switch and retire together."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import grpc.aio

from services.gateway.peers import Peers
from services.gateway.told_back import told_back
from services.runtime import telemetry
from services.runtime.channels import time_left
from services.runtime.errors import FailedPrecondition
from souk.types.v1 import generations_pb2, generations_pb2_grpc

R = TypeVar("R")
# A method of a stub: takes the request, a deadline in seconds and metadata.
_Method = Callable[..., Awaitable[R]]
_Context = grpc.aio.ServicerContext[object, object]


class GatewayGenerations(generations_pb2_grpc.GenerationsServicer):
    """Serves souk.types.v1.Generations: a generation is READY here when every process reports it ready."""

    def __init__(self, peers: Peers, max_seconds: float) -> None:
        self._peers = peers
        self._max_seconds = max_seconds

    async def Prepare(
        self, request: generations_pb2.PrepareRequest, context: _Context
    ) -> generations_pb2.PrepareResponse:
        """Part of the contract: the embedder before the retriever, which embeds the catalogue with it."""
        answer = generations_pb2.PrepareResponse()
        for peer in self._peers.all():
            answer = await self._ask(peer.name, peer.generations.Prepare, request, context)
        return answer

    async def Switch(self, request: generations_pb2.SwitchRequest, context: _Context) -> generations_pb2.SwitchResponse:
        """Part of the contract: nobody switches before all are ready, so that no answer is mixed."""
        for peer in self._peers.all():
            held = await self._ask(
                peer.name, peer.generations.ListGenerations, generations_pb2.ListGenerationsRequest(), context
            )
            if not any(_ready(one) and one.generation == request.generation for one in held.generations):
                raise FailedPrecondition(
                    f"{peer.name} has no generation {request.generation!r} ready: Prepare it first"
                )
        answer = generations_pb2.SwitchResponse()
        for peer in self._peers.all():
            answer = await self._ask(peer.name, peer.generations.Switch, request, context)
        self._peers.generation = request.generation
        return answer

    async def Retire(self, request: generations_pb2.RetireRequest, context: _Context) -> generations_pb2.RetireResponse:
        """Part of the contract."""
        if request.generation == self._peers.generation:
            raise FailedPrecondition("it is the generation that serves: Prepare another and switch first")
        for peer in self._peers.all():
            await self._ask(peer.name, peer.generations.Retire, request, context)
        return generations_pb2.RetireResponse()

    async def ListGenerations(
        self, request: generations_pb2.ListGenerationsRequest, context: _Context
    ) -> generations_pb2.ListGenerationsResponse:
        """Part of the contract: a generation as the process that is furthest behind with it holds it."""
        merged: dict[str, generations_pb2.Generation] = {}
        peers = self._peers.all()
        holders: dict[str, int] = {}
        for peer in peers:
            held = await self._ask(peer.name, peer.generations.ListGenerations, request, context)
            for one in held.generations:
                holders[one.generation] = holders.get(one.generation, 0) + 1
                if one.generation not in merged or not _ready(one):
                    merged[one.generation] = one
        for name, one in merged.items():
            one.serving = name == self._peers.generation
            if _ready(one) and holders[name] < len(peers):
                one.state = generations_pb2.GENERATION_STATE_LOADING
                one.message = f"{holders[name]} of {len(peers)} processes hold it"
        return generations_pb2.ListGenerationsResponse(generations=merged.values())

    async def _ask(self, name: str, method: _Method[R], request: object, context: _Context) -> R:
        with told_back(name):
            return await method(request, timeout=time_left(context, self._max_seconds), metadata=telemetry.outgoing())


def _ready(one: generations_pb2.Generation) -> bool:
    return one.state == generations_pb2.GENERATION_STATE_READY
