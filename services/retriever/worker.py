"""Makes the vectors that items lack, in the background: the retriever's only calls of another service."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress

import grpc
import grpc.aio
import numpy as np

from services.retriever.catalogue import Catalogue
from services.retriever.changes import AppliedChange
from services.retriever.writes import MadeVector, SpaceKey
from services.runtime.channels import connect
from services.runtime.errors import SoukError
from services.runtime.telemetry import VECTOR_FAILURES, VECTORS_MADE, log, outgoing
from souk.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from souk.types.v1 import types_pb2
from souk.vectors import unpack_matrix

# Items of one call at most: short enough that a new item does not wait long behind a re-embedding.
_BATCH = 64
# Calls under way for one space: while one computes, the vectors of the other are committed and its texts read.
_MAKERS = 2
_CALL_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 5.0
# Ids remembered of items just written; beyond it the catalogue is searched for them instead.
_MAX_FRESH = 50_000


class Unsuitable(Exception):
    """The embedder answered with something that is not a vector of the space wanted."""


class _Lack:
    """What one space lacks, and who waits for it. For one event loop."""

    def __init__(self, space: SpaceKey) -> None:
        self.space = space
        self.generations: list[str] = []
        self.makers: list[asyncio.Task[None]] = []
        self.more = asyncio.Event()
        self.complete = asyncio.Event()
        self._fresh: dict[str, None] = {}
        self._scan: int | None = 0
        self._scans = 0
        self._scanning = asyncio.Lock()
        self._under_way = 0
        self._waiting: dict[str, list[tuple[int, asyncio.Future[None]]]] = {}

    async def take(self, catalogue: Catalogue, threads: Executor, limit: int) -> list[str]:
        """Ids of items that lack a vector, newly written ones first; waits until there are some. Ends with `give`."""
        while True:
            if self._fresh:
                ids = [item_id for item_id, _ in zip(self._fresh, range(limit), strict=False)]
                for item_id in ids:
                    del self._fresh[item_id]
                self._under_way += 1
                return ids
            async with self._scanning:
                if not self._fresh:
                    ids = await self._scan_on(catalogue, threads, limit)
                    if ids:
                        return ids
            if self._scan is None and not self._fresh:
                self.more.clear()
                await self.more.wait()

    async def _scan_on(self, catalogue: Catalogue, threads: Executor, limit: int) -> list[str]:
        """The next ids of the search through the catalogue; counts as under way where there are some."""
        scans, start = self._scans, self._scan
        if start is None:
            return []
        self._under_way += 1
        ids: list[str] = []
        try:
            ids, following = await asyncio.get_running_loop().run_in_executor(
                threads, catalogue.pending, self.space.version, start, limit
            )
            if scans == self._scans:  # Else it begins anew.
                self._scan = following
        finally:
            if not ids:
                self.give([])
        return ids

    def give(self, unmade: Sequence[str]) -> None:
        """Ends what `take` began; ids that still lack a vector come back."""
        self._under_way -= 1
        self._remember(unmade)
        if not self._under_way and not self._fresh and self._scan is None:
            self.complete.set()

    def note(self, changes: Sequence[AppliedChange]) -> None:
        """What was committed: items without a vector yet, and vectors that someone waits for."""
        for change in changes:
            if change.item is not None:
                self._remember([change.item_id])
            elif change.removed or change.space_version == self.space.version:
                self._fresh.pop(change.item_id, None)
                self.tell(change.item_id, None if change.removed else change.revision)
        if not self._fresh and not self._under_way and self._scan is None:
            self.complete.set()

    def wait(self, item_id: str, revision: int) -> "asyncio.Future[None]":
        """Ends when the item has a vector of this revision or a later one, or is gone."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (revision, future)
        self._waiting.setdefault(item_id, []).append(entry)

        def forget(_: object) -> None:
            entries = self._waiting[item_id]
            entries.remove(entry)
            if not entries:
                del self._waiting[item_id]

        future.add_done_callback(forget)
        return future

    def tell(self, item_id: str, revision: int | None) -> None:
        """The item has a vector of a revision, or none is to come (None)."""
        for wanted, future in self._waiting.get(item_id, ()):
            if not future.done() and (revision is None or wanted <= revision):
                future.set_result(None)

    def _remember(self, ids: Sequence[str]) -> None:
        for item_id in ids:
            self._fresh[item_id] = None
        if len(self._fresh) > _MAX_FRESH:
            self._fresh.clear()
            self._scan = 0
            self._scans += 1
        if self._fresh or self._scan is not None:
            self.complete.clear()
            self.more.set()


class VectorWorker:
    """Embeds what lacks a vector, for every space added, until removed. Methods are for one event loop but `committed`.

    An embedder that fails leaves items pending: they are tried again for ever, at most every few seconds.
    """

    def __init__(self, catalogue: Catalogue, embedder: str, threads: Executor) -> None:
        self._catalogue = catalogue
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._channel = connect(embedder)
        self._embedder = embedder_pb2_grpc.EmbedderStub(self._channel)
        self._lacks: dict[str, _Lack] = {}
        self._batch = 0

    def add(self, space: SpaceKey, generation: str) -> None:
        """Begins to make vectors of a space; `generation` is what the embedder is asked for. Safe to repeat."""
        lack = self._lacks.get(space.version)
        if lack is None:
            lack = self._lacks[space.version] = _Lack(space)
            lack.makers = [asyncio.create_task(self._make(lack)) for _ in range(_MAKERS)]
        if generation not in lack.generations:
            lack.generations.append(generation)

    async def remove(self, version: str, generation: str) -> None:
        """Makes no more vectors for a generation, and none of the space after its last one. Safe to repeat."""
        lack = self._lacks.get(version)
        if lack is None or generation not in lack.generations:
            return
        lack.generations.remove(generation)
        if not lack.generations:
            del self._lacks[version]
            await _end(lack.makers)

    async def stop(self) -> None:
        """Ends all work."""
        await _end([maker for lack in self._lacks.values() for maker in lack.makers])
        await self._channel.close()

    def committed(self, changes: Sequence[AppliedChange]) -> None:
        """Takes note of what was committed; called in the catalogue's thread."""
        with suppress(RuntimeError):  # The loop has ended.
            self._loop.call_soon_threadsafe(self._note, changes)

    async def wait_complete(self, version: str) -> None:
        """Waits for a moment in which no item lacks a vector of the space."""
        await self._lacks[version].complete.wait()

    async def wait_indexed(self, version: str, revisions: Mapping[str, int]) -> None:
        """Waits until each item has a vector of its revision or a later one, is uncovered, or is gone."""
        lack = self._lacks[version]
        waits = {item_id: lack.wait(item_id, revision) for item_id, revision in revisions.items()}
        try:
            lacking = await self._loop.run_in_executor(self._threads, self._catalogue.lacking, version, list(revisions))
            for item_id, wait in waits.items():
                if item_id not in lacking and not wait.done():
                    wait.set_result(None)
            if waits:
                await asyncio.wait(waits.values())
        finally:
            for wait in waits.values():
                wait.cancel()

    def _note(self, changes: Sequence[AppliedChange]) -> None:
        for lack in self._lacks.values():
            lack.note(changes)

    async def _make(self, lack: _Lack) -> None:
        failures = 0
        while True:
            ids: list[str] = []
            taken = False
            try:
                limit = await self._batch_size()
                ids = await lack.take(self._catalogue, self._threads, limit)
                taken = True
                await self._make_batch(lack, ids)
                lack.give([])
                failures = 0
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if taken:
                    lack.give(ids)
                failures += 1
                _report(error, lack.space.version, failures)
                self._batch = 0
                pause = min(_LONGEST_PAUSE_SECONDS, 0.1 * 2 ** min(failures, 10))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _batch_size(self) -> int:
        if not self._batch:
            info = await self._embedder.GetInfo(embedder_pb2.GetInfoRequest(), timeout=_CALL_SECONDS)
            self._batch = max(1, min(_BATCH, info.max_batch))
        return self._batch

    async def _make_batch(self, lack: _Lack, ids: list[str]) -> None:
        held, _ = await self._loop.run_in_executor(self._threads, self._catalogue.items, ids)
        items = [item for item in held if item is not None]
        if not items:
            return
        try:
            made = await self._embed(lack, items)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
                raise
            made = [await self._embed_alone(lack, item) for item in items]
        kept = await asyncio.wrap_future(
            self._catalogue.submit(len(made), lambda transaction: transaction.put_vectors(lack.space, made))
        )
        covered = sum(vector.vector is not None for vector in made)
        VECTORS_MADE.labels("true").inc(covered)
        VECTORS_MADE.labels("false").inc(len(made) - covered)
        log.debug("vectors made", items=len(made), kept=kept, covered=covered)

    async def _embed(self, lack: _Lack, items: Sequence[types_pb2.Item]) -> list[MadeVector]:
        generation = lack.generations[0]
        request = embedder_pb2.EmbedRequest(
            inputs=[embedder_pb2.Input(item=item) for item in items],
            options=embedder_pb2.Options(role=embedder_pb2.ROLE_ITEM, generation=generation),
        )
        try:
            answer = await self._embedder.Embed(request, timeout=_CALL_SECONDS, metadata=outgoing())
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.FAILED_PRECONDITION and lack.generations[0] == generation:
                # Not loaded there: another generation of the same space serves as well.
                lack.generations.append(lack.generations.pop(0))
            raise
        if answer.space_version != lack.space.version:
            raise Unsuitable(f"vectors of space version {answer.space_version}")
        vectors = unpack_matrix(answer.vectors)
        if vectors.shape != (len(items), lack.space.dim) or len(answer.readings) != len(items):
            raise Unsuitable(f"vectors of shape {vectors.shape} for {len(items)} items of {lack.space.dim} numbers")
        if not np.isfinite(vectors).all():
            raise Unsuitable("numbers that are not finite")
        # A vector without direction says as little as one of a text that cannot be read.
        usable: list[bool] = (vectors != 0).any(axis=1).tolist()
        return [
            MadeVector(item.id, item.revision, vectors[i] if reading.covered and usable[i] else None)
            for i, (item, reading) in enumerate(zip(items, answer.readings, strict=True))
        ]

    async def _embed_alone(self, lack: _Lack, item: types_pb2.Item) -> MadeVector:
        """One item of a batch that was refused: the one that cannot be embedded counts as uncovered."""
        try:
            return (await self._embed(lack, [item]))[0]
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
                raise
            log.warning("an item cannot be embedded", item=item.id, problem=error.details())
            return MadeVector(item.id, item.revision, None)


def _report(error: Exception, version: str, failures: int) -> None:
    code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else type(error).__name__
    VECTOR_FAILURES.labels(code).inc()
    expected = isinstance(error, grpc.aio.AioRpcError | SoukError | Unsuitable)
    details = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
    if not expected:
        log.error("vectors could not be made", exc_info=error)
    elif failures == 1:  # The pauses that follow say nothing new.
        log.warning("vectors could not be made; items stay pending", space_version=version, code=code, problem=details)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
