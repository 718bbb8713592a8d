"""Decisions of people at the gateway: checked against the catalogue, handed to coldstart, obeyed by the next answer."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import grpc
import grpc.aio

from services.domain.checks import check_id
from services.gateway.peers import Peers
from services.gateway.review import Reviewed
from services.gateway.stages import Journey, StageFailed
from services.gateway.steps import Steps
from services.gateway.told_back import told_back
from services.runtime import telemetry
from services.runtime.channels import time_left
from services.runtime.errors import Unavailable
from souk.coldstart.v1 import review_pb2, review_pb2_grpc

R = TypeVar("R")
_Context = grpc.aio.ServicerContext[object, object]


class GatewayReview(review_pb2_grpc.ReviewServicer):
    """Serves souk.coldstart.v1.Review for coldstart, which keeps the decisions."""

    def __init__(self, peers: Peers, steps: Steps, reviewed: Reviewed, max_seconds: float) -> None:
        self._peers = peers
        self._steps = steps
        self._reviewed = reviewed
        self._max_seconds = max_seconds

    async def Decide(self, request: review_pb2.DecideRequest, context: _Context) -> review_pb2.DecideResponse:
        """Part of the contract. An id with a slip in it must not look like an item that is suppressed."""
        if request.decision.verdict != review_pb2.VERDICT_UNDO:
            check_id(request.decision.item_id, "decision.item_id")
            journey = Journey(self._peers.generation, time_left(context, self._max_seconds))
            await self._steps.item(journey, request.decision.item_id)
        answer = await self._ask(lambda: self._reviewed.stub.Decide, request, context)
        with suppress(grpc.aio.AioRpcError, StageFailed):  # It is written; the next look sees it.
            await self._reviewed.learn()
        return answer

    async def ListDecisions(
        self, request: review_pb2.ListDecisionsRequest, context: _Context
    ) -> review_pb2.ListDecisionsResponse:
        """Part of the contract."""
        return await self._ask(lambda: self._reviewed.stub.ListDecisions, request, context)

    async def ListProposals(
        self, request: review_pb2.ListProposalsRequest, context: _Context
    ) -> review_pb2.ListProposalsResponse:
        """Part of the contract."""
        return await self._ask(lambda: self._reviewed.stub.ListProposals, request, context)

    async def ReadAudit(self, request: review_pb2.ReadAuditRequest, context: _Context) -> review_pb2.ReadAuditResponse:
        """Part of the contract."""
        return await self._ask(lambda: self._reviewed.stub.ReadAudit, request, context)

    async def _ask(self, method: Callable[[], Callable[..., Awaitable[R]]], request: object, context: _Context) -> R:
        if self._peers.coldstart is None:
            raise Unavailable("nobody keeps decisions: this shop runs without coldstart (SOUK_GATEWAY_COLDSTART)")
        with told_back("coldstart"):
            return await method()(request, timeout=time_left(context, self._max_seconds), metadata=telemetry.outgoing())
