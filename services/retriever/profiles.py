"""Tells coldstart of every item and removal, in the background, and keeps the behaviour vectors it answers with."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial

import grpc
import grpc.aio
import numpy as np

from services.retriever.backlog import BATCH, Backlog, Unsuitable, Worker
from services.retriever.catalogue import Catalogue
from services.retriever.changes import AppliedChange
from services.retriever.writes import MadeVector, ProfileKey, SpaceKey, Transaction
from services.runtime.channels import connect
from services.runtime.errors import SoukError
from services.runtime.telemetry import ITEMS_PROFILED, PROFILE_FAILURES, log, outgoing
from souk.coldstart.v1 import coldstart_pb2, coldstart_pb2_grpc
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_vector, unpack_vector

# Calls under way at once, for all generations together, each of up to a batch of items: shoppers wait for the same
# threads.
_CALLS = 2
# What says nothing of a single item: that coldstart is away or busy, or does not have the generation.
_OF_ALL = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
)
_CALL_SECONDS = 10.0
_LOOK_EVERY_SECONDS = 10.0
_UNMARKED_AT_ONCE = 2_000


class ProfileWorker(Worker[ProfileKey]):
    """Profiles what has, or cannot have, its content vector, for every key added, until removed. For one event loop."""

    def __init__(self, catalogue: Catalogue, coldstart: str, threads: Executor) -> None:
        super().__init__(catalogue, threads, PROFILE_FAILURES, "coldstart could not be told of items")
        self._channel = connect(coldstart)
        self._coldstart = coldstart_pb2_grpc.ColdstartStub(self._channel)
        self._calls = asyncio.Semaphore(_CALLS)
        self._looking = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """Ends all work."""
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)
        await super().stop()
        await self._channel.close()

    def find(self, key: ProfileKey, start: int, limit: int) -> tuple[list[str], int | None]:
        """Blocking: items not told of whose content vector is there, and removals not told of."""
        return self.catalogue.pending(key.version, start, limit, given=key.content.version)

    def note(self, changes: Sequence[AppliedChange]) -> None:
        """A content vector made or carried over is that of a revision which coldstart does not know."""
        for backlog in self._backlogs.values():
            for change in changes:
                if change.removed or change.space_version == backlog.key.content.version:
                    backlog.remember([change.item_id])

    async def _limit(self) -> int:
        return BATCH

    async def _make(self, backlog: Backlog[ProfileKey], ids: list[str]) -> None:
        key = backlog.key
        untold = await asyncio.get_running_loop().run_in_executor(
            self.threads, self.catalogue.untold, key.version, key.content.version, ids
        )
        if untold:
            await self._profile(backlog, untold)
        removed = await asyncio.get_running_loop().run_in_executor(
            self.threads, self.catalogue.untold_removals, key.version, ids
        )
        if removed:
            await self._remove(key, removed)

    async def _profile(
        self, backlog: Backlog[ProfileKey], untold: Sequence[tuple[types_pb2.Item, Float32 | None]]
    ) -> None:
        """Tells of items and keeps what is answered. Where they fail together, each is tried by itself, so that one
        fails alone."""
        try:
            made = await self._tell(backlog, untold)
        except (grpc.aio.AioRpcError, Unsuitable) as error:
            if len(untold) == 1 or (isinstance(error, grpc.aio.AioRpcError) and error.code() in _OF_ALL):
                raise
            failures = []
            for one in untold:
                try:
                    await self._profile(backlog, [one])
                except (grpc.aio.AioRpcError, Unsuitable) as failure:
                    failures.append(failure)
            if failures:
                raise failures[0] from None
            return
        key = backlog.key
        kept = await asyncio.wrap_future(
            self.catalogue.submit(len(made), lambda transaction: transaction.put_profiles(key, made))
        )
        ITEMS_PROFILED.inc(kept)

    async def _remove(self, key: ProfileKey, removed: Sequence[tuple[str, int]]) -> None:
        """Tells of removals, then remembers that it did."""
        items = [coldstart_pb2.RemovedItem(item_id=item_id, revision=revision) for item_id, revision in removed]
        async with self._calls:
            await self._coldstart.RemoveItems(
                coldstart_pb2.RemoveItemsRequest(items=items, catalogue=self.catalogue.identity),
                timeout=_CALL_SECONDS,
                metadata=outgoing(),
            )
        await asyncio.wrap_future(
            self.catalogue.submit(len(removed), lambda transaction: transaction.put_removals(key, removed))
        )

    async def _look(self) -> None:
        """Tells of everything again when coldstart has begun a new log, as one does that lost its disk."""
        while True:
            with suppress(grpc.aio.AioRpcError, SoukError):
                info = await self._coldstart.GetInfo(
                    coldstart_pb2.GetInfoRequest(), timeout=_CALL_SECONDS, metadata=outgoing()
                )
                unmark = partial(Transaction.told_anew, log_id=info.log_id, limit=_UNMARKED_AT_ONCE)
                total = 0
                while dropped := await asyncio.wrap_future(self.catalogue.submit(0, unmark)):
                    total += dropped
                if total:
                    log.warning("coldstart has begun a new log; it is told of every item again", items=total)
                    for backlog in self._backlogs.values():
                        backlog.search_again()
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def _tell(
        self, backlog: Backlog[ProfileKey], untold: Sequence[tuple[types_pb2.Item, Float32 | None]]
    ) -> list[MadeVector]:
        """One call; an item that coldstart refuses counts as told, without a vector."""
        key, generation = backlog.key, backlog.generations[0]
        request = coldstart_pb2.ProfileItemsRequest(
            content_space_version=key.content.version, generation=generation, catalogue=self.catalogue.identity
        )
        for item, content in untold:
            request.items.add(item=item, content=None if content is None else pack_vector(content))
        async with self._calls:
            try:
                answer = await self._coldstart.ProfileItems(request, timeout=_CALL_SECONDS, metadata=outgoing())
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                    backlog.pass_on(generation)
                raise
        if len(answer.items) != len(untold):
            raise Unsuitable(f"{len(answer.items)} profiles of {len(untold)} items")
        made = []
        for (item, _), profile in zip(untold, answer.items, strict=True):
            if profile.refused:
                log.warning("an item cannot be profiled", item=item.id, problem=profile.refused)
            vector = (
                None if key.behaviour is None else _behaviour(profile, answer.behaviour_space_version, key.behaviour)
            )
            made.append(MadeVector(item.id, item.revision, vector))
        return made


def _behaviour(profile: coldstart_pb2.ItemProfile, space_version: str, space: SpaceKey) -> Float32 | None:
    """The vector (dim,) in a profile; None where it has none. Raises Unsuitable for one of another space."""
    if not profile.HasField("behaviour"):
        return None
    if space_version != space.version:
        raise Unsuitable(f"a vector of space version {space_version}")
    try:
        vector = unpack_vector(profile.behaviour)
    except ValueError as error:
        raise Unsuitable(str(error)) from None
    if vector.shape != (space.dim,) or not np.isfinite(vector).all():
        raise Unsuitable(f"a vector of {len(vector)} numbers, or not finite; its space has {space.dim}")
    return vector if vector.any() else None
