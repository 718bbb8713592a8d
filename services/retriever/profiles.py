"""Tells coldstart of every item, in the background, and keeps the behaviour vectors that it answers with."""

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

# Calls under way at once, for all generations together: coldstart commits what arrives together in one go.
_CALLS = 16
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
        """Blocking: items not told of whose content vector is there."""
        return self.catalogue.pending(key.version, start, limit, given=key.content.version)

    def note(self, changes: Sequence[AppliedChange]) -> None:
        """A content vector made or carried over is that of a revision which coldstart does not know."""
        for backlog in self._backlogs.values():
            for change in changes:
                if change.space_version == backlog.key.content.version:
                    backlog.remember([change.item_id])
                elif change.removed:
                    backlog.forget(change.item_id)

    async def _limit(self) -> int:
        return BATCH

    async def _make(self, backlog: Backlog[ProfileKey], ids: list[str]) -> None:
        key = backlog.key
        untold = await asyncio.get_running_loop().run_in_executor(
            self.threads, self.catalogue.untold, key.version, key.content.version, ids
        )
        answers = await asyncio.gather(
            *(self._profile(backlog, item, content) for item, content in untold), return_exceptions=True
        )
        made = [answer for answer in answers if isinstance(answer, MadeVector)]
        if made:
            kept = await asyncio.wrap_future(
                self.catalogue.submit(len(made), lambda transaction: transaction.put_profiles(key, made))
            )
            ITEMS_PROFILED.inc(kept)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

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

    async def _profile(self, backlog: Backlog[ProfileKey], item: types_pb2.Item, content: Float32 | None) -> MadeVector:
        """Tells of one item; one that coldstart refuses counts as told, without a vector."""
        async with self._calls:
            key, generation = backlog.key, backlog.generations[0]
            request = coldstart_pb2.ProfileItemRequest(
                item=item, content_space_version=key.content.version, generation=generation
            )
            if content is not None:
                request.content.CopyFrom(pack_vector(content))
            try:
                answer = await self._coldstart.ProfileItem(request, timeout=_CALL_SECONDS, metadata=outgoing())
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                    log.warning("an item cannot be profiled", item=item.id, problem=error.details())
                    return MadeVector(item.id, item.revision, None)
                if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                    backlog.pass_on(generation)
                raise
        return MadeVector(item.id, item.revision, None if key.behaviour is None else _behaviour(answer, key.behaviour))


def _behaviour(answer: coldstart_pb2.ProfileItemResponse, space: SpaceKey) -> Float32 | None:
    """The vector (dim,) in an answer; None where it has none. Raises Unsuitable for one of another space."""
    if not answer.HasField("behaviour"):
        return None
    if answer.behaviour_space_version != space.version:
        raise Unsuitable(f"a vector of space version {answer.behaviour_space_version}")
    try:
        vector = unpack_vector(answer.behaviour)
    except ValueError as error:
        raise Unsuitable(str(error)) from None
    if vector.shape != (space.dim,) or not np.isfinite(vector).all():
        raise Unsuitable(f"a vector of {len(vector)} numbers, or not finite; its space has {space.dim}")
    return vector if vector.any() else None
