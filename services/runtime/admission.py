"""Admission by work: what runs at once and what may wait are bounded in tokens, vectors or candidates, not requests."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.domain.checks import Invalid
from services.runtime import telemetry
from services.runtime.errors import Overloaded


class Admission:
    """A gate in front of compute, for one event loop.

    At most `running` units of work are inside and at most `waiting` stand before the gate, first come first served.
    """

    def __init__(self, name: str, running: int, waiting: int) -> None:
        self._name = name
        self._limit = running
        self._room = waiting
        self._inside = 0
        self._outside = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def admit(self, work: int) -> AsyncIterator[None]:
        """Holds `work` units while the block runs.

        Raises Invalid when no amount of waiting would help, Overloaded when there is no room to wait.
        """
        if work > self._limit:
            raise Invalid("request", f"costs {work} units of work; the limit is {self._limit}")
        if self._queue or self._inside + work > self._limit:
            await self._wait(work)
        else:
            self._inside += work
        self._report()
        try:
            yield
        finally:
            self._inside -= work
            self._let_in()
            self._report()

    async def _wait(self, work: int) -> None:
        if self._outside + work > self._room:
            telemetry.REFUSED.labels(self._name).inc()
            raise Overloaded(
                f"{self._outside} units of work are waiting; the limit is {self._room}: back off and retry later"
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((work, turn))
        self._outside += work
        self._report()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # Let in and cancelled in the same turn of the loop.
                self._inside -= work
            elif (work, turn) in self._queue:
                self._queue.remove((work, turn))
                self._outside -= work
            self._let_in()
            self._report()
            raise

    def _let_in(self) -> None:
        while self._queue:
            work, turn = self._queue[0]
            if not turn.cancelled():
                if self._inside + work > self._limit:
                    return
                self._inside += work
                turn.set_result(None)
            self._outside -= work
            self._queue.popleft()

    def _report(self) -> None:
        telemetry.WORK.labels(self._name, "running").set(self._inside)
        telemetry.WORK.labels(self._name, "waiting").set(self._outside)
