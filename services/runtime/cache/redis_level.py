"""The Redis level: one MGET a read, back-fill by one background task, and a circuit that keeps a dead Redis cheap."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from services.runtime import telemetry
from services.runtime.cache.slab import Key

_CONNECTIONS = 8
_OPEN_SECONDS = 1.0
_WRITE_SECONDS = 1.0  # no one waits for a write
_WAITING_ENTRIES = 4096  # entries before the writer; beyond them back-fill is dropped
_FAILURES = (RedisError, OSError, TimeoutError)


class RedisLevel:
    """Bytes by key, all keys under one prefix. No call raises for a Redis that is dead, slow or full.

    `timeout` (seconds) bounds each read. After a failure the circuit is open: Redis is left alone for a
    second, then one call a second probes it. `ttl` (seconds) bounds the life of an entry.
    """

    def __init__(
        self,
        name: str,
        url: str,
        prefix: bytes,
        *,
        timeout: float,
        ttl: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._prefix = prefix
        self._timeout = timeout
        self._ttl = ttl
        self._clock = clock
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=timeout,
            socket_timeout=None,  # asyncio.timeout bounds each call as a whole
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._broken = False
        self._closed_until = 0.0
        self._waiting: deque[list[tuple[Key, bytes]]] = deque()
        self._waiting_entries = 0
        self._writer: asyncio.Task[None] | None = None

    async def read(self, keys: Sequence[Key]) -> list[bytes | None] | None:
        """One value a key, None where it is not held; None for all where Redis could not be asked."""
        if not self._may_try():
            self._failed_with("skipped")
            return None
        try:
            async with asyncio.timeout(self._timeout):
                values = await self._redis.mget([self._full(key) for key in keys])
        except _FAILURES as error:
            self._failed(error)
            return None
        self._broken = False
        return cast(list[bytes | None], values)  # decode_responses is off

    def write(self, entries: list[tuple[Key, bytes]]) -> None:
        """Hands entries to the background writer; drops and counts them where too many wait or Redis is away."""
        if self._broken or self._waiting_entries + len(entries) > _WAITING_ENTRIES:
            telemetry.CACHE_DROPPED.labels(self._name).inc(len(entries))
            return
        self._waiting.append(entries)
        self._waiting_entries += len(entries)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_waiting())

    async def flush(self) -> None:
        """Waits until what was handed in is written or dropped."""
        if self._writer is not None:
            await asyncio.wait([self._writer])

    async def close(self) -> None:
        """Drops what waits and closes the connections."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer], timeout=self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                await self._redis.aclose()
        except _FAILURES as error:
            self._failed(error)

    async def _write_waiting(self) -> None:
        while self._waiting:
            entries = self._waiting.popleft()
            self._waiting_entries -= len(entries)
            if self._broken:
                telemetry.CACHE_DROPPED.labels(self._name).inc(len(entries))
                continue
            pipeline = self._redis.pipeline(transaction=False)
            for key, value in entries:
                pipeline.set(self._full(key), value, ex=self._ttl)
            try:
                async with asyncio.timeout(_WRITE_SECONDS):
                    await pipeline.execute()
            except _FAILURES as error:
                self._failed(error)
                telemetry.CACHE_DROPPED.labels(self._name).inc(len(entries))

    def _full(self, key: Key) -> bytes:
        return self._prefix + (key.encode() if isinstance(key, str) else key)

    def _may_try(self) -> bool:
        if not self._broken:
            return True
        now = self._clock()
        if now < self._closed_until:
            return False
        self._closed_until = now + _OPEN_SECONDS  # this call is the probe; the others wait for what it finds
        return True

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, ResponseError):  # Redis is there but refuses (full, read-only): others may be served
            self._failed_with("refused")
            return
        self._failed_with("timeout" if isinstance(error, TimeoutError) else "connection")
        self._broken = True
        self._closed_until = self._clock() + _OPEN_SECONDS

    def _failed_with(self, kind: str) -> None:
        telemetry.CACHE_REDIS_ERRORS.labels(self._name, kind).inc()
