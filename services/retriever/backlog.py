"""Work that items lack, found in the catalogue and worked off in batches in the background, whatever it is."""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Generic, Protocol, TypeVar

import grpc
import grpc.aio
from prometheus_client import Counter

from services.retriever.catalogue import Catalogue
from services.retriever.changes import AppliedChange
from services.runtime.errors import SoukError
from services.runtime.telemetry import log

BATCH = 64
"""Items of one batch at most: short enough that a new item does not wait long behind a re-embedding."""
# Batches under way for one backlog: while one is computed, the results of the other are committed and its items read.
_MAKERS = 2
_LONGEST_PAUSE_SECONDS = 5.0
# Ids remembered of items just written; beyond it the catalogue is searched for them instead.
_MAX_FRESH = 50_000


class Key(Protocol):
    """What a backlog is of."""

    @property
    def version(self) -> str:
        """Names the rows that items lack."""


K = TypeVar("K", bound=Key)


class Unsuitable(Exception):
    """A process answered with something that is not what was asked for."""


class Backlog(Generic[K]):
    """The items that lack a row of one version, and the generations that need it. For one event loop."""

    def __init__(self, key: K) -> None:
        self.key = key
        self.generations: list[str] = []
        self.makers: list[asyncio.Task[None]] = []
        self._more = asyncio.Event()
        self._fresh: dict[str, None] = {}
        self._scan: int | None = 0
        self._scans = 0
        self._scanning = asyncio.Lock()

    def remember(self, ids: Sequence[str]) -> None:
        """Items that lack a row."""
        for item_id in ids:
            self._fresh[item_id] = None
        if len(self._fresh) > _MAX_FRESH:
            self._fresh.clear()
            self.search_again()
        self._more.set()

    def search_again(self) -> None:
        """Items may lack a row that had one before."""
        self._scan = 0
        self._scans += 1
        self._more.set()

    def forget(self, item_id: str) -> None:
        """An item that lacks nothing any more."""
        self._fresh.pop(item_id, None)

    def pass_on(self, generation: str) -> None:
        """The generation is not loaded where it was asked for: another one of the same version serves as well."""
        if self.generations[0] == generation:
            self.generations.append(self.generations.pop(0))

    async def take(self, worker: "Worker[K]", limit: int, scan_first: bool) -> list[str]:
        """Ids of items that lack a row, newly written and failed ones first unless told otherwise; waits for some."""
        while True:
            if self._fresh and (self._scan is None or not scan_first):
                ids = [item_id for item_id, _ in zip(self._fresh, range(limit), strict=False)]
                for item_id in ids:
                    del self._fresh[item_id]
                return ids
            async with self._scanning:
                if self._scan is not None and (scan_first or not self._fresh):
                    ids = await self._scan_on(worker, self._scan, limit)
                    if ids:
                        return ids
            if self._scan is None and not self._fresh:
                self._more.clear()
                await self._more.wait()

    async def _scan_on(self, worker: "Worker[K]", start: int, limit: int) -> list[str]:
        """The next ids of the search through the catalogue."""
        scans = self._scans
        ids, following = await asyncio.get_running_loop().run_in_executor(
            worker.threads, worker.find, self.key, start, limit
        )
        if scans == self._scans:  # Else it begins anew.
            self._scan = following
        return ids


class Worker(ABC, Generic[K]):
    """Works off every backlog begun, until its last generation is removed. For one event loop.

    What fails stays pending: it is tried again for ever, at most every few seconds.
    """

    def __init__(self, catalogue: Catalogue, threads: Executor, failed: Counter, failure: str) -> None:
        """`failed` counts failures by their code; `failure` says in the log what could not be done."""
        self.catalogue = catalogue
        self.threads = threads
        self._failed = failed
        self._failure = failure
        self._backlogs: dict[str, Backlog[K]] = {}

    @abstractmethod
    def find(self, key: K, start: int, limit: int) -> tuple[list[str], int | None]:
        """Blocking: ids of items that lack a row, and where to go on in the catalogue; see Catalogue.pending."""

    @abstractmethod
    def note(self, changes: Sequence[AppliedChange]) -> None:
        """What was committed: tells the backlogs which items lack something and which no longer do."""

    @abstractmethod
    async def _limit(self) -> int:
        """Items of one batch."""

    @abstractmethod
    async def _make(self, backlog: Backlog[K], ids: list[str]) -> None:
        """Makes what the items lack, and keeps it. May raise after keeping a part."""

    def add(self, key: K, generation: str) -> None:
        """Begins with a backlog; `generation` is what others are asked for. Safe to repeat."""
        backlog = self._backlogs.get(key.version)
        if backlog is None:
            backlog = self._backlogs[key.version] = Backlog(key)
            backlog.makers = [asyncio.create_task(self._work(backlog)) for _ in range(_MAKERS)]
        if generation not in backlog.generations:
            backlog.generations.append(generation)

    async def remove(self, version: str, generation: str) -> None:
        """Does no more for a generation, and ends the backlog after its last one. Safe to repeat."""
        backlog = self._backlogs.get(version)
        if backlog is None or generation not in backlog.generations:
            return
        backlog.generations.remove(generation)
        if not backlog.generations:
            del self._backlogs[version]
            await _end(backlog.makers)

    async def stop(self) -> None:
        """Ends all work."""
        await _end([maker for backlog in self._backlogs.values() for maker in backlog.makers])

    async def _work(self, backlog: Backlog[K]) -> None:
        failures = 0
        while True:
            ids: list[str] = []
            try:
                # What could not be kept would be made again and again.
                self.catalogue.check()
                limit = await self._limit()
                # Those that fail each time must not come between the others and their turn.
                ids = await backlog.take(self, limit, scan_first=failures > 0)
                await self._make(backlog, ids)
                failures = 0
            except Exception as error:
                failures += 1
                self._report(error, backlog.key.version, failures)
                pause = min(_LONGEST_PAUSE_SECONDS, 0.1 * 2 ** min(failures, 10))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                backlog.remember(ids)

    def _report(self, error: Exception, version: str, failures: int) -> None:
        code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else type(error).__name__
        self._failed.labels(code).inc()
        details = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
        if not isinstance(error, grpc.aio.AioRpcError | SoukError | Unsuitable):
            log.error(self._failure, exc_info=error)
        elif failures == 1:  # The pauses that follow say nothing new.
            log.warning(f"{self._failure}; items stay pending", space_version=version, code=code, problem=details)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
