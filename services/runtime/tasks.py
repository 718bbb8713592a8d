"""Work that goes on after an answer has left: bounded in number, waited for at the end."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from services.runtime import telemetry


class Background:
    """Tasks nobody awaits. Beyond `limit` new ones are dropped and counted."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts the work, or drops it where too much is under way."""
        if len(self._tasks) >= self._limit:
            telemetry.REFUSED.labels(self._name).inc()
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            telemetry.log.error("background work failed", work=self._name, exc_info=error)

    async def drain(self, seconds: float) -> None:
        """Waits for what is under way, then cancels the rest."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
