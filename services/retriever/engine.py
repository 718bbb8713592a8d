"""The parts of a retriever put together: catalogue, indexes, workers or follower, generations, upkeep."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import TypeVar

from services.domain.bundle import Bundle, read_bundle
from services.retriever import snapshots
from services.retriever.arrivals import Arrivals
from services.retriever.catalogue import Catalogue
from services.retriever.changes import AppliedChange
from services.retriever.follower import Follower
from services.retriever.generations import Generations, Spoken, spoken_by
from services.retriever.index import CatalogueIndex
from services.retriever.profiles import ProfileWorker
from services.retriever.serving import begin_with, note_serving
from services.retriever.settings import RetrieverSettings
from services.retriever.worker import VectorWorker
from services.retriever.writes import Transaction
from services.runtime import threads
from services.runtime.admission import Admission
from services.runtime.errors import FailedPrecondition, SoukError, Unavailable
from services.runtime.telemetry import log
from souk.retriever.v1 import admin_pb2
from souk.types.v1 import generations_pb2

_UPKEEP_SECONDS = 1.0
_REPLAY_CHANGES = 5_000
_REPLAY_BYTES = 8 << 20
_DROP_AT_ONCE = 2_000
# Changes since the indexes were last saved, or rows that their bases had not then, that are worth saving them again; at
# least, and as a share of the items. Saving writes all of them, 2.5 GB for a million items.
_MIN_UNSAVED_CHANGES = 20_000
_MIN_UNSAVED_ROWS = 2_000
_MAX_UNSAVED_SHARE = 0.1

T = TypeVar("T")
A = TypeVar("A")


class Engine:
    """Everything behind the RPCs of one retriever process. Methods are for its event loop."""

    catalogue: Catalogue
    generations: Generations

    def __init__(self, settings: RetrieverSettings) -> None:
        self.settings = settings
        self.index = CatalogueIndex(settings.threads)
        self.vectors: VectorWorker | None = None
        self.profiles: ProfileWorker | None = None
        self.follower: Follower | None = None
        self.admission = Admission("retriever", settings.max_running, settings.max_waiting)
        self.applied = 0
        """The last change that reads see."""
        self.news = asyncio.Event()
        """Set at the next change; another event then takes its place."""
        self._loop: asyncio.AbstractEventLoop
        self._arrivals: Arrivals
        self._searching = threads.pool("search", settings.threads)
        self._writing = threads.pool("write", 2)
        self._streaming = threads.pool("stream", 2)
        self._background = threads.pool("background", 2)
        self._upkeep = threading.Thread(target=self._keep_up, name="upkeep", daemon=True)
        self._stopping = threading.Event()
        self._snapshot: asyncio.Task[admin_pb2.Snapshot] | None = None
        self._dropping: dict[str, asyncio.Task[None]] = {}
        self._complete: set[str] = set()
        """Space versions that had once a vector of every item."""
        self._saved = 0
        self._saved_bases: dict[str, int] = {}
        """Rows of the base of each space version, when the indexes were last saved."""
        self._opened = False

    # Life.

    async def start(self) -> None:
        """Opens what is on disk and brings the indexes up to it. Raises CatalogueError, BundleError."""
        self._loop = asyncio.get_running_loop()
        bundle = await asyncio.to_thread(self._open)
        self.generations = Generations(self._spoken_by, self._add, self._remove, self._serve, self._pending)
        spoken = self.generations.begin(bundle)
        self._arrivals = Arrivals(self.catalogue, self._background)
        self._opened = True
        self._complete.update(spoken.versions)
        self._follow_spaces()
        self.catalogue.start(self._committed)
        if self.settings.primary is None:
            if self.catalogue.copied_from:  # What is written from now on no primary has.
                self.catalogue.submit(0, partial(Transaction.copy_of, catalogue=""))
            self.vectors = VectorWorker(self.catalogue, self.settings.embedder, self._background)
            if self.settings.coldstart is not None:
                self.profiles = ProfileWorker(self.catalogue, self.settings.coldstart, self._background)
            self._work_for(spoken, bundle.generation)
        else:
            self.follower = Follower(self.catalogue, self.settings.primary)
            await self.follower.wait_whole()
        self._upkeep.start()

    async def stop(self) -> None:
        """Answers what is queued, saves the indexes for the next start, closes all."""
        self._stopping.set()
        if not self._opened:
            return
        await self.generations.stop()
        for task in self._dropping.values():
            task.cancel()
        if self._snapshot is not None:
            await asyncio.wait([self._snapshot])
        for part in (self.vectors, self.profiles, self.follower):
            if part is not None:
                await part.stop()
        await asyncio.to_thread(self._close)

    def check(self) -> None:
        """Raises Unavailable when reads are no longer answered or writes no longer kept."""
        self.catalogue.check()
        if self.follower is not None:
            self.follower.check()
        if not self._upkeep.is_alive():
            raise Unavailable("the upkeep of the indexes has ended")

    def _open(self) -> Bundle:
        """Blocking: everything that `start` does before the loop is needed."""
        settings = self.settings
        configured = read_bundle(settings.bundle)
        self._configured = configured.generation
        if settings.restore is not None:
            snapshots.restore(settings.restore, settings.data)
        bundle = begin_with(settings.data, configured)
        self.catalogue = Catalogue(settings.data, settings.max_queued_items)
        try:
            self.index = self._saved_index(bundle) or self._made_index(bundle)
        except BaseException:
            self.catalogue.close()
            raise
        self.index.set_serving(bundle.generation)
        self.applied = self.catalogue.head
        if settings.primary is None and not self.catalogue.whole:
            log.warning("this catalogue is an unfinished copy of a primary's; it lacks items", data=str(settings.data))
        log.info("catalogue opened", sequence=self.applied, items=self.index.info().items)
        return bundle

    def _saved_index(self, bundle: Bundle) -> CatalogueIndex | None:
        """The indexes that were saved, brought up to the catalogue; None where there are none that agree with it."""
        saved = snapshots.saved_indexes(self.catalogue, self.settings.data)
        if saved is None:
            return None
        spoken = self._spoken_by(bundle)
        index = CatalogueIndex(self.settings.threads)
        loaded = index.load(saved)
        if not 0 < loaded <= self.catalogue.head:
            return None
        _add_generation(index, spoken, bundle.generation)
        for entry in index.info().indexes:
            if entry.generation != bundle.generation:
                index.drop_generation(entry.generation)
            elif entry.space.version not in spoken.versions:  # Saved when there was a coldstart.
                index.drop_space(entry.space.version)
        self._replay(index, loaded, spoken.versions)
        info = index.info()
        unlike = []
        for entry in info.indexes:
            items, vectors = self.catalogue.counts(entry.space.version)
            if info.items != items:
                log.warning("saved indexes do not agree with the catalogue; made anew", items=items, indexed=info.items)
                return None
            if info.items - entry.pending != vectors:  # Saved before the space was loaded, or while it was.
                unlike.append(entry.space.version)
        if unlike:
            self._replay(index, 0, unlike, items=False)
        self._saved, self._saved_bases = loaded, _bases(index)
        return index

    def _made_index(self, bundle: Bundle) -> CatalogueIndex:
        """The indexes of all that the catalogue holds, made anew."""
        spoken = self._spoken_by(bundle)
        index = CatalogueIndex(self.settings.threads)
        _add_generation(index, spoken, bundle.generation)
        self._replay(index, 0, spoken.versions)
        return index

    def _spoken_by(self, bundle: Bundle) -> Spoken:
        settings = self.settings
        return spoken_by(bundle, coldstart=settings.coldstart is not None, follower=settings.primary is not None)

    def _replay(self, index: CatalogueIndex, after: int, versions: Sequence[str], items: bool = True) -> None:
        while True:
            page = self.catalogue.changes(after, versions, items, _REPLAY_CHANGES, _REPLAY_BYTES)
            if page.changes:
                index.apply(page.changes)
                after = page.changes[-1].sequence
            if page.complete:
                return
            if self._stopping.is_set():
                raise Unavailable("told to stop before the indexes were made")

    def _close(self) -> None:
        self.index.stop()
        if self._upkeep.ident is not None:
            self._upkeep.join()
        for pool in (self._searching, self._writing, self._streaming, self._background):
            pool.shutdown(wait=True, cancel_futures=True)
        self.catalogue.close()
        self._save_indexes()

    # Work in threads.

    async def search(self, work: int, run: Callable[[A], T], request: A) -> T:
        """Runs a read in a compute thread once there is room for its work, in units of about one candidate.

        Raises Overloaded where there is not even room to wait.
        """
        async with self.admission.admit(min(work, self.settings.max_running)):
            return await self._loop.run_in_executor(self._searching, partial(copy_context().run, run, request))

    async def write(self, queue: Callable[[A], Future[T]], request: A) -> T:
        """Checks and queues a write in a thread, then waits until it is committed and found."""
        future = await self._loop.run_in_executor(self._writing, queue, request)
        return await asyncio.wrap_future(future)

    async def read(self, run: Callable[[], T]) -> T:
        """Runs a read of the catalogue for a stream, beside the searches."""
        return await self._loop.run_in_executor(self._streaming, run)

    async def snapshot(self) -> admin_pb2.Snapshot:
        """Makes a snapshot, or waits for the one being made. Raises FailedPrecondition."""
        if self._snapshot is None or self._snapshot.done():
            settings = self.settings
            self._snapshot = asyncio.create_task(
                asyncio.to_thread(
                    snapshots.create, self.catalogue, self._save_into, settings.snapshots, settings.keep_snapshots
                )
            )
        return await asyncio.shield(self._snapshot)

    async def wait_indexed(self, results: Sequence[admin_pb2.WriteResult]) -> None:
        """Waits until what was written is found by vector in every space of the generation that serves.

        Without end while the process that makes the vectors is away: the caller's deadline ends it.
        """
        if self.vectors is None:
            raise FailedPrecondition("a follower makes no vectors")
        written = {r.item_id: r.revision for r in results if r.outcome != admin_pb2.OUTCOME_INVALID}
        for version in self.generations.held[self.generations.serving].versions:
            await self._arrivals.wait(version, written)

    # What the catalogue tells.

    def _committed(self, changes: Sequence[AppliedChange], head: int) -> None:
        """In the catalogue's thread, between a commit and its answers."""
        if head < self.applied:  # Emptied, to be copied anew.
            serving = self.index.serving
            self.index = CatalogueIndex(self.settings.threads)
            for generation, spoken in self.generations.held.items():
                _add_generation(self.index, spoken, generation)
            self.index.set_serving(serving)
            self._saved, self._saved_bases = 0, {}
        if changes:
            self.index.apply(changes)
        self.applied = head
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, changes)

    def _tell(self, changes: Sequence[AppliedChange]) -> None:
        for part in (self._arrivals, self.vectors, self.profiles):
            if part is not None:
                part.note(changes)
        told, self.news = self.news, asyncio.Event()
        told.set()

    # Generations.

    async def _add(self, spoken: Spoken, generation: str) -> None:
        if dropping := [task for version in _rows_of(spoken) if (task := self._dropping.get(version))]:
            await asyncio.wait(dropping)
        held = {entry.space.version for entry in self.index.info().indexes}
        _add_generation(self.index, spoken, generation)
        self._follow_spaces()
        try:
            if new := [version for version in spoken.versions if version not in held]:
                await self._announce_vectors(new)
            self._work_for(spoken, generation)
            # A follower's vectors come from its primary.
            for version in spoken.versions:
                while version not in self._complete and self._pending(version):
                    await self.news.wait()
                self._complete.add(version)
        except BaseException:
            await self._let_go(spoken, generation)
            raise

    def _work_for(self, spoken: Spoken, generation: str) -> None:
        """Has all made that a generation lacks."""
        if self.vectors is not None:
            self.vectors.add(spoken.spaces[0], generation)
        if self.profiles is not None and spoken.profile is not None:
            self.profiles.add(spoken.profile, generation)

    async def _let_go(self, spoken: Spoken, generation: str) -> None:
        """Takes a generation out of indexes and workers. Safe to repeat."""
        for worker in (self.profiles, self.vectors):
            if worker is not None:
                for version in _rows_of(spoken):
                    await worker.remove(version, generation)
        self.index.drop_generation(generation)

    async def _announce_vectors(self, versions: Sequence[str]) -> None:
        """Brings vectors that the catalogue holds already into indexes that are new."""
        after = 0
        while True:
            page = await self.read(partial(self.catalogue.changes, after, versions, False))
            if page.changes:
                announce = partial(Transaction.announce, vectors=page.changes)
                await asyncio.wrap_future(self.catalogue.submit(0, announce))
                after = page.changes[-1].sequence
            if page.complete:
                return

    async def _remove(self, spoken: Spoken, generation: str) -> None:
        await self._let_go(spoken, generation)
        self._follow_spaces()
        needed = {version for other in self.generations.held.values() for version in _rows_of(other)}
        if unneeded := [version for version in _rows_of(spoken) if version not in needed]:
            self._complete.difference_update(unneeded)
            task = asyncio.create_task(self._drop_rows(unneeded))
            self._dropping |= dict.fromkeys(unneeded, task)
            task.add_done_callback(self._dropped)

    def _dropped(self, task: "asyncio.Task[None]") -> None:
        self._dropping = {version: other for version, other in self._dropping.items() if other is not task}

    async def _drop_rows(self, versions: Sequence[str]) -> None:
        """In small steps: writes go on between them."""
        try:
            for version in versions:
                drop = partial(Transaction.drop_vectors, version=version, limit=_DROP_AT_ONCE)
                while await asyncio.wrap_future(self.catalogue.submit(0, drop)):
                    pass
        except SoukError as error:  # They stay, unused, until the spaces are prepared and retired again.
            log.warning("vectors of a retired space could not be removed", space_version=version, problem=str(error))

    async def switch(self, generation: str) -> generations_pb2.Generation:
        """Makes a ready generation the one that serves, also after a restart. Raises FailedPrecondition, OSError."""
        switched = self.generations.switch(generation)
        await asyncio.to_thread(note_serving, self.settings.data, self._configured, generation, Path(switched.bundle))
        return switched

    def _serve(self, generation: str) -> None:
        self.index.set_serving(generation)

    def _pending(self, version: str) -> int:
        return max((entry.pending for entry in self.index.info().indexes if entry.space.version == version), default=0)

    def _follow_spaces(self) -> None:
        self.catalogue.set_spaces([space for spaces in self.generations.spaces.values() for space in spaces])

    # Upkeep.

    def _keep_up(self) -> None:
        """In a thread of its own: rebuilds what has grown stale, and saves what would take long to make anew."""
        failed = ""
        while not self._stopping.wait(_UPKEEP_SECONDS):
            try:
                self.index.maintain()
                if self._worth_saving():
                    self._save_indexes()
            except Exception as error:
                if str(error) != failed:  # Answers stay right meanwhile, they only cost more.
                    failed = str(error)
                    log.error("upkeep of the indexes failed", exc_info=error)

    def _worth_saving(self) -> bool:
        share = _MAX_UNSAVED_SHARE * self.index.info().items
        saved = self._saved_bases
        rows = max((abs(rows - saved.get(version, 0)) for version, rows in _bases(self.index).items()), default=0)
        changes = self.index.sequence - self._saved
        return changes > max(_MIN_UNSAVED_CHANGES, share) or rows > max(_MIN_UNSAVED_ROWS, share)

    def _save_indexes(self) -> None:
        self._saved, self._saved_bases = self.index.sequence, _bases(self.index)
        try:
            snapshots.save_indexes(self.catalogue, self._save_into, self.settings.data)
        except (OSError, RuntimeError) as error:
            log.warning("indexes not saved: the next start makes them anew", problem=str(error))

    def _save_into(self, directory: Path) -> None:
        self.index.save(directory)


def _add_generation(index: CatalogueIndex, spoken: Spoken, generation: str) -> None:
    for space in spoken.spaces:
        index.add_space(space.space, space.version, space.dim, generation)
    index.set_rules(generation, spoken.rules)


def _bases(index: CatalogueIndex) -> dict[str, int]:
    """Rows of the base of each space version."""
    return {entry.space.version: entry.base for entry in index.info().indexes}


def _rows_of(spoken: Spoken) -> list[str]:
    """The versions whose rows a generation needs: what was told first, for nothing is told again while it is marked
    so, and the vectors that were the answer are then gone for good."""
    told = [] if spoken.profile is None else [spoken.profile.version]
    return [*told, *spoken.versions]
