"""Makes the content vectors that items lack, in the background, by the embedder."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor

import grpc
import grpc.aio
import numpy as np

from services.retriever.backlog import BATCH, Backlog, Unsuitable, Worker
from services.retriever.catalogue import Catalogue
from services.retriever.changes import AppliedChange
from services.retriever.writes import MadeVector, SpaceKey
from services.runtime.channels import connect
from services.runtime.telemetry import VECTOR_FAILURES, VECTORS_MADE, log, outgoing
from souk.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from souk.types.v1 import types_pb2
from souk.vectors import unpack_matrix

_CALL_SECONDS = 30.0


class VectorWorker(Worker[SpaceKey]):
    """Embeds what lacks a vector, for every space added, until removed. For one event loop."""

    def __init__(self, catalogue: Catalogue, embedder: str, threads: Executor) -> None:
        super().__init__(catalogue, threads, VECTOR_FAILURES, "vectors could not be made")
        self._channel = connect(embedder)
        self._embedder = embedder_pb2_grpc.EmbedderStub(self._channel)
        self._batch = 0

    async def stop(self) -> None:
        """Ends all work."""
        await super().stop()
        await self._channel.close()

    def find(self, key: SpaceKey, start: int, limit: int) -> tuple[list[str], int | None]:
        """Blocking: items without a vector."""
        return self.catalogue.pending(key.version, start, limit)

    def note(self, changes: Sequence[AppliedChange]) -> None:
        """An item written lacks its vectors; those that were carried over follow it."""
        for backlog in self._backlogs.values():
            for change in changes:
                if change.item is not None:
                    backlog.remember([change.item_id])
                elif change.removed or change.space_version == backlog.key.version:
                    backlog.forget(change.item_id)

    async def _limit(self) -> int:
        if not self._batch:
            info = await self._embedder.GetInfo(embedder_pb2.GetInfoRequest(), timeout=_CALL_SECONDS)
            self._batch = max(1, min(BATCH, info.max_batch))
        return self._batch

    async def _make(self, backlog: Backlog[SpaceKey], ids: list[str]) -> None:
        loop = asyncio.get_running_loop()
        held, _ = await loop.run_in_executor(self.threads, self.catalogue.items, ids)
        items = [item for item in held if item is not None]
        if not items:
            return
        try:
            made = await self._embed(backlog, items)
        except grpc.aio.AioRpcError as error:
            self._batch = 0  # It may be another embedder that answers next.
            if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
                raise
            made = [await self._embed_alone(backlog, item) for item in items]
        kept = await asyncio.wrap_future(
            self.catalogue.submit(len(made), lambda transaction: transaction.put_vectors(backlog.key, made))
        )
        covered = sum(vector.vector is not None for vector in made)
        VECTORS_MADE.labels("true").inc(covered)
        VECTORS_MADE.labels("false").inc(len(made) - covered)
        log.debug("vectors made", items=len(made), kept=kept, covered=covered)

    async def _embed(self, backlog: Backlog[SpaceKey], items: Sequence[types_pb2.Item]) -> list[MadeVector]:
        generation, space = backlog.generations[0], backlog.key
        request = embedder_pb2.EmbedRequest(
            inputs=[embedder_pb2.Input(item=item) for item in items],
            options=embedder_pb2.Options(role=embedder_pb2.ROLE_ITEM, generation=generation),
        )
        try:
            answer = await self._embedder.Embed(request, timeout=_CALL_SECONDS, metadata=outgoing())
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                backlog.pass_on(generation)
            raise
        if answer.space_version != space.version:
            raise Unsuitable(f"vectors of space version {answer.space_version}")
        vectors = unpack_matrix(answer.vectors)
        if vectors.shape != (len(items), space.dim) or len(answer.readings) != len(items):
            raise Unsuitable(f"vectors of shape {vectors.shape} for {len(items)} items of {space.dim} numbers")
        if not np.isfinite(vectors).all():
            raise Unsuitable("numbers that are not finite")
        # A vector without direction says as little as one of a text that cannot be read.
        usable: list[bool] = (vectors != 0).any(axis=1).tolist()
        return [
            MadeVector(item.id, item.revision, vectors[i] if reading.covered and usable[i] else None)
            for i, (item, reading) in enumerate(zip(items, answer.readings, strict=True))
        ]

    async def _embed_alone(self, backlog: Backlog[SpaceKey], item: types_pb2.Item) -> MadeVector:
        """One item of a batch that was refused: the one that cannot be embedded counts as uncovered."""
        try:
            return (await self._embed(backlog, [item]))[0]
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
                raise
            log.warning("an item cannot be embedded", item=item.id, problem=error.details())
            return MadeVector(item.id, item.revision, None)
