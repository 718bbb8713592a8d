"""What every call passes on its way in: request id, trace, deadline, metrics, log, and the mapping of errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio
from opentelemetry import propagate, trace

from services.runtime import telemetry
from services.runtime.errors import Unavailable, status_of

_Context = grpc.aio.ServicerContext[Any, Any]

# Answered in every state of the process and too often to log.
_ALWAYS_OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.")


class Gate(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server. Closed while the process starts or drains; counts the calls under way."""

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._closed_because: str | None = "starting"
        self._open_calls = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def open(self) -> None:
        """Lets calls in."""
        self._closed_because = None

    def close(self, because: str) -> None:
        """Refuses new calls with UNAVAILABLE; those under way go on."""
        self._closed_because = because

    async def wait_until_empty(self, seconds: float) -> None:
        """Waits for the calls under way, at most so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)

    def _count(self, change: int) -> None:
        self._open_calls += change
        telemetry.CALLS_OPEN.set(self._open_calls)
        if self._open_calls:
            self._empty.clear()
        else:
            self._empty.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Part of grpc.aio: gives the handler with everything around it."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_ALWAYS_OPEN):
            return handler  # type: ignore[no-any-return]
        metadata = dict(handler_call_details.invocation_metadata)
        inner = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

        async def unary(request: Any, context: _Context) -> Any:
            async with self._around(method, metadata, context):
                remaining = context.time_remaining()
                limit = self._max_seconds if remaining is None else min(remaining, self._max_seconds)
                async with asyncio.timeout(limit):
                    return await inner(request, context)

        async def stream(request: Any, context: _Context) -> AsyncIterator[Any]:
            async with self._around(method, metadata, context):
                async for response in inner(request, context):
                    yield response

        wrapped: Any = stream if handler.response_streaming else unary
        factory: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        return factory(  # type: ignore[no-any-return]
            wrapped,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    @asynccontextmanager
    async def _around(self, method: str, metadata: dict[str, Any], context: _Context) -> AsyncIterator[None]:
        telemetry.request_id.set(telemetry.accept_request_id(metadata.get(telemetry.REQUEST_ID_KEY)))
        began = time.perf_counter()
        code = grpc.StatusCode.OK
        self._count(1)
        try:
            with telemetry.tracer.start_as_current_span(
                method.lstrip("/"), context=propagate.extract(metadata), kind=trace.SpanKind.SERVER
            ) as span:
                span.set_attribute("souk.request_id", telemetry.request_id.get())
                if self._closed_because is not None:
                    raise Unavailable(f"the process is {self._closed_because}")
                yield
        except (asyncio.CancelledError, GeneratorExit):
            code = grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            code = context.code() or grpc.StatusCode.UNKNOWN
            raise
        except Exception as error:
            code, message = status_of(error)
            if code is grpc.StatusCode.INTERNAL:
                telemetry.log.error("call failed", method=method, exc_info=error)
            await context.abort(code, message)
        finally:
            self._count(-1)
            seconds = time.perf_counter() - began
            telemetry.CALLS.labels(method, code.name).inc()
            telemetry.CALL_SECONDS.labels(method).observe(seconds)
            telemetry.log.debug("call", method=method, code=code.name, ms=round(seconds * 1e3, 2))
