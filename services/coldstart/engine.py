"""Everything behind the RPCs of a coldstart process: the log, what is derived from it, the generations, the threads."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from services.coldstart.candidates import Sources
from services.coldstart.crowd import Crowd
from services.coldstart.decisions import Decisions
from services.coldstart.knowledge import Knowledge
from services.coldstart.log import Log
from services.coldstart.settings import ColdstartSettings
from services.coldstart.state import States
from services.domain.blended import Newcomer
from services.domain.bundle import Bundle
from services.runtime import threads
from services.runtime.admission import Admission
from services.runtime.channels import sleep_until_stopped
from services.runtime.errors import NotFound, SoukError, Unavailable
from services.runtime.generations import Generations
from services.runtime.telemetry import log as logger

_UPKEEP_SECONDS = 1.0
_DROP_AT_ONCE = 2_000
# New items that the blend of a generation speaks of beside those it was trained on.
_MOST_FOLLOWED = 500

T = TypeVar("T")


class Engine:
    """For one event loop."""

    log: Log
    decisions: Decisions
    states: States
    sources: Sources

    def __init__(self, settings: ColdstartSettings) -> None:
        self.settings = settings
        self.generations: Generations[Knowledge] = Generations(self._load)
        self.crowd = Crowd(settings.half_life_days, settings.new_days)
        self._admission = Admission("coldstart", settings.max_running, settings.max_waiting)
        self._reading = threads.pool("read", settings.threads)
        self._writing = threads.pool("write", 2)
        self._streaming = threads.pool("stream", 2)
        self._background = threads.pool("upkeep", 1)
        self._spaces: Counter[str] = Counter()
        """How many generations speak each content space."""
        self._upkeep: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self._opened = False

    async def start(self) -> None:
        """Opens the log, derives from it, loads the bundle. Raises JournalError, NotFound, FailedPrecondition."""
        try:
            await self.generations.prepare(self.settings.bundle)
        except NotFound as error:
            raise NotFound(f"{error}; SOUK_BUNDLE must name the directory of a bundle") from None
        await asyncio.to_thread(self._open)
        self.states = States(self.log, self.crowd, self.settings)
        self._upkeep = asyncio.create_task(self._keep_up())

    async def stop(self) -> None:
        """Answers what is queued, closes all."""
        self._stopped.set()
        if self._upkeep is not None:
            await asyncio.wait([self._upkeep])
        await self.generations.close()
        if self._opened:
            await self.states.close()
            await asyncio.to_thread(self._close)

    def check(self) -> None:
        """Raises Unavailable when events can no longer be kept or contexts no longer answered."""
        self.log.check()
        self.decisions.check()
        if self._upkeep is None or self._upkeep.done():
            raise Unavailable("the upkeep of what is derived from the log has ended")

    async def read(self, run: Callable[[], T]) -> T:
        """Runs a read in a thread once there is room. Raises Overloaded where there is not even room to wait."""
        async with self._admission.admit(1):
            return await asyncio.get_running_loop().run_in_executor(self._reading, partial(copy_context().run, run))

    async def write(self, queue: Callable[[], Future[T]]) -> T:
        """Checks and queues a write in a thread, then waits until it is committed."""
        future = await asyncio.get_running_loop().run_in_executor(self._writing, queue)
        return await asyncio.wrap_future(future)

    async def page(self, run: Callable[[], T]) -> T:
        """Runs one page of a stream, beside the reads of requests."""
        return await asyncio.get_running_loop().run_in_executor(self._streaming, run)

    def _open(self) -> None:
        began = time.monotonic()
        self.log = Log(self.settings.data, self.settings.max_queued)
        try:
            self.crowd.load(self.log, time.time())
            self.decisions = Decisions(self.settings.data)
        except BaseException:
            self.log.close()
            raise
        self.log.start(lambda batch: self.crowd.told(batch, self.log, time.time()))
        self.sources = Sources(self.log, self.crowd, self.settings, random.Random(self.settings.explore_seed).random)
        self._opened = True
        seconds = round(time.monotonic() - began, 2)
        logger.info("log opened", sequence=self.log.head, events=self.log.counts.events, seconds=seconds)

    def _close(self) -> None:
        for pool in (self._reading, self._writing, self._streaming, self._background):
            pool.shutdown(wait=True, cancel_futures=True)
        self.decisions.close()
        self.log.close()

    async def _keep_up(self) -> None:
        """Charts, newcomers and the blend follow what was told; what forgetting left to be overwritten is."""
        loop = asyncio.get_running_loop()
        failed = ""
        while not await sleep_until_stopped(self._stopped, _UPKEEP_SECONDS):
            try:
                with self.generations.use("") as knowledge:
                    await loop.run_in_executor(self._background, partial(self._refresh, knowledge))
                await self.states.blank()
                self.log.scrub()
            except Exception as error:
                if str(error) != failed:  # Answers go on with what was derived before.
                    failed = str(error)
                    logger.error("upkeep failed", exc_info=error)

    def _refresh(self, knowledge: Knowledge) -> None:
        self.crowd.refresh(time.time())
        newest = [newcomer.item for newcomer in self.crowd.shelf.newcomers[:_MOST_FOLLOWED]]
        knowledge.follow(newest, lambda items: self._newcomers(items, knowledge.content_version))

    def _newcomers(self, items: Sequence[str], space: str) -> list[Newcomer]:
        vectors = self.log.vectors(items, space)
        known = {item: facts for item in vectors if (facts := self.crowd.shelf.get(item)) is not None}
        return [Newcomer(item, vectors[item], facts.brand, facts.category) for item, facts in known.items()]

    async def _load(self, bundle: Bundle) -> Knowledge:
        knowledge = await asyncio.to_thread(Knowledge.of, bundle)
        knowledge.closed = partial(self._let_go, knowledge.content_version)
        self._spaces[knowledge.content_version] += 1
        return knowledge

    async def _let_go(self, space: str) -> None:
        """The vectors of a space go with the last generation that speaks it, in small steps beside the writes."""
        self._spaces[space] -= 1
        try:
            while not self._stopped.is_set() and not self._spaces[space]:
                if not await self.write(lambda: self.log.drop_vectors(space, _DROP_AT_ONCE)):
                    return
        except SoukError as error:  # They stay, unused, until the space is prepared and retired again.
            logger.warning("vectors of a retired space could not be removed", space_version=space, problem=str(error))
