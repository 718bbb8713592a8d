"""One request on its way through the stages: the time each may take, what went wrong, and what stood in for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import grpc.aio

from services.runtime import telemetry
from services.runtime.errors import DeadlineExceeded, Unavailable
from souk.types.v1 import types_pb2

T = TypeVar("T")

_REASONS = {
    grpc.StatusCode.UNAVAILABLE: types_pb2.DEGRADATION_REASON_UNAVAILABLE,
    grpc.StatusCode.CANCELLED: types_pb2.DEGRADATION_REASON_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: types_pb2.DEGRADATION_REASON_TIMEOUT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: types_pb2.DEGRADATION_REASON_OVERLOADED,
}
# The caller's own mistakes: nothing may stand in for an answer to them.
_CALLERS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


class StageFailed(Exception):
    """A stage did not do its part; `reason` is a DegradationReason."""

    def __init__(self, reason: types_pb2.DegradationReason.ValueType, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason


class Journey:
    """One request: its clock, its deadline and the degradations met so far."""

    def __init__(self, generation: str, seconds: float) -> None:
        self.request_id = telemetry.request_id.get()
        self.generation = generation
        self.clock = telemetry.StageClock()
        self.degradations: list[types_pb2.Degradation] = []
        self._end = asyncio.get_running_loop().time() + seconds

    def seconds_left(self) -> float:
        """Until the deadline; 0 when it has passed."""
        return max(0.0, self._end - asyncio.get_running_loop().time())

    async def stage(
        self, name: str, share: float, call: Callable[[float], Awaitable[T]], *, callers_words: bool = False
    ) -> T:
        """Runs one stage with its share of the time left; `call` is given the seconds it may take.

        Raises StageFailed when it did not do its part. Where the stage is handed the caller's own words, a mistake in
        them (INVALID_ARGUMENT, NOT_FOUND) passes through as the AioRpcError it is.
        """
        seconds = self.seconds_left() * share
        if seconds <= 0.001:
            raise StageFailed(types_pb2.DEGRADATION_REASON_TIMEOUT, f"{name}: no time was left")
        with self.clock.stage(name):
            try:
                async with asyncio.timeout(seconds):
                    return await call(seconds)
            except TimeoutError:
                raise StageFailed(types_pb2.DEGRADATION_REASON_TIMEOUT, f"{name}: took over {seconds:.3f} s") from None
            except grpc.aio.AioRpcError as error:
                if callers_words and error.code() in _CALLERS:
                    raise
                reason = _REASONS.get(error.code(), types_pb2.DEGRADATION_REASON_FAILED)
                raise StageFailed(reason, f"{name}: {error.code().name}: {error.details()}") from None

    def degrade(self, stage: str, reason: types_pb2.DegradationReason.ValueType, substitute: str) -> None:
        """Notes that something stood in; the caller is told and a metric counts it."""
        label = types_pb2.DegradationReason.Name(reason).removeprefix("DEGRADATION_REASON_").lower()
        telemetry.DEGRADATIONS.labels(stage, label).inc()
        self.degradations.append(types_pb2.Degradation(stage=stage, reason=reason, substitute=substitute))

    def give_up(self, failure: StageFailed) -> Exception:
        """The error for the caller when nothing can stand in."""
        if failure.reason == types_pb2.DEGRADATION_REASON_TIMEOUT and self.seconds_left() < 0.005:
            return DeadlineExceeded("the deadline passed before anything could be shown")
        return Unavailable(f"the catalogue cannot be reached ({failure}): retry")
