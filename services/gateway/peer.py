"""One process behind the gateway, and a breaker for its calls."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from services.gateway.stages import StageFailed
from services.runtime import telemetry
from services.runtime.channels import connect
from souk.types.v1 import generations_pb2_grpc, types_pb2

R = TypeVar("R")

_LOSSES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_OPENS_AFTER = 3
_OPEN_SECONDS = 1.0
# A call that was given less than this says nothing about its peer by running out of time.
_FAIR_SECONDS = 0.1
# A stage's clock starts a little before its call's.
_ITS_TIME = 0.9


class Peer:
    """One process. After three losses in a row its calls fail at once for a second, then one is let through; all are
    as soon as a connection that was lost is there again."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.channel = connect(address)
        self.generations = generations_pb2_grpc.GenerationsStub(self.channel)
        self._losses = 0
        self._open_until = 0.0
        self._disconnected = False

    async def call(self, method: Callable[..., Awaitable[R]], request: Any, seconds: float) -> R:
        """One unary call. Raises grpc.aio.AioRpcError, or StageFailed while the breaker is open."""
        if time.monotonic() < self._open_until and not (self._disconnected and self._connected()):
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
                self._disconnected = not self._connected()
            raise
        except asyncio.CancelledError:
            # The stage's time is over, or the caller hung up, which says nothing about the peer.
            if seconds >= _FAIR_SECONDS and time.monotonic() - began >= _ITS_TIME * seconds:
                self._losses += 1
            raise
        self._well()
        return answer

    def _connected(self) -> bool:
        return self.channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY

    def _well(self) -> None:
        self._losses = 0
        self._open_until = 0.0
