"""Follows a primary: copies its changes, under its sequence numbers, into this process's own catalogue."""

import asyncio
import random
from collections.abc import AsyncIterator

import grpc
import grpc.aio

from services.retriever.catalogue import Catalogue
from services.retriever.writes import Transaction
from services.runtime.channels import connect
from services.runtime.errors import Unavailable
from services.runtime.telemetry import FOLLOWER_LAG, log, outgoing
from souk.retriever.v1 import retriever_pb2, retriever_pb2_grpc

# A primary that follows sends a sign of life every five seconds.
_SILENCE_SECONDS = 15.0
_LONGEST_PAUSE_SECONDS = 5.0


class Follower:
    """Tails one primary until stopped; a lost primary is tried again for ever. For one event loop."""

    def __init__(self, catalogue: Catalogue, primary: str) -> None:
        self.primary = primary
        self._catalogue = catalogue
        self._channel = connect(primary)
        self._retriever = retriever_pb2_grpc.RetrieverStub(self._channel)
        self._primary_head = catalogue.head
        self._copied_from = catalogue.copied_from
        # What is held may be served, however old it is: all but an unfinished first copy.
        self._whole = asyncio.Event()
        if catalogue.head and catalogue.whole:
            self._whole.set()
        self._tailing = asyncio.create_task(self._tail_forever())

    @property
    def lag(self) -> int:
        """Changes of the primary, as it was last heard of, that are not yet applied here."""
        return max(0, self._primary_head - self._catalogue.head)

    async def wait_whole(self) -> None:
        """Waits until a complete copy of the primary is held."""
        await self._whole.wait()

    def check(self) -> None:
        """Raises Unavailable while no complete copy is held; a primary that is away does not matter."""
        if self._tailing.done():
            raise Unavailable(f"following {self.primary} has ended")
        if not self._whole.is_set():
            raise Unavailable(f"the catalogue is still being copied from {self.primary}")

    async def stop(self) -> None:
        """Ends following."""
        self._tailing.cancel()
        await asyncio.gather(self._tailing, return_exceptions=True)
        await self._channel.close()

    async def _tail_forever(self) -> None:
        failures = 0
        while True:
            try:
                async for response in self._changes():
                    await self._apply(response)
                    failures = 0
                log.info("the primary ended the stream", primary=self.primary)
            except grpc.aio.AioRpcError as error:
                if not failures:
                    log.warning("the primary is away", primary=self.primary, code=error.code().name)
            except Exception as error:
                if not failures:
                    log.error("following the primary failed", primary=self.primary, exc_info=error)
            failures += 1
            pause = min(_LONGEST_PAUSE_SECONDS, 0.1 * 2 ** min(failures, 10))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _changes(self) -> AsyncIterator[retriever_pb2.StreamChangesResponse]:
        """What the primary sends from where this catalogue stands; TimeoutError when it falls silent."""
        request = retriever_pb2.StreamChangesRequest(from_sequence=self._catalogue.head, vectors=True, follow=True)
        call = self._retriever.StreamChanges(request, metadata=outgoing())
        try:
            while True:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    response = await call.read()
                if not isinstance(response, retriever_pb2.StreamChangesResponse):
                    return  # The end of the stream.
                # A primary that tells no identity is of an older version.
                if self._catalogue.head and response.catalogue_id not in ("", self._copied_from):
                    await self._begin_again(f"it is catalogue {response.catalogue_id}, this copy is of another")
                    return
                yield response
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
                raise
            await self._begin_again(error.details() or "")
        finally:
            call.cancel()

    async def _apply(self, response: retriever_pb2.StreamChangesResponse) -> None:
        changes, head = response.changes, response.head_sequence
        # An empty message says that all before `head` has been sent.
        caught_up = not changes or changes[-1].sequence == head

        def run(transaction: Transaction) -> None:
            if response.catalogue_id != self._copied_from:
                transaction.copy_of(response.catalogue_id)
            transaction.replicate(changes)
            if caught_up:
                transaction.advance(head)
            if not self._whole.is_set():
                transaction.mark_whole(caught_up)

        if changes or head > self._catalogue.head or not self._whole.is_set():
            await asyncio.wrap_future(self._catalogue.submit(len(changes), run))
            self._copied_from = response.catalogue_id
        self._primary_head = head
        FOLLOWER_LAG.set(self.lag)
        if caught_up and not self._whole.is_set():
            self._whole.set()
            log.info("the primary's catalogue is copied", primary=self.primary, sequence=head)

    async def _begin_again(self, problem: str) -> None:
        """What is held here is not the primary's, which was restored or is another: its word counts."""
        log.warning("the primary's is another catalogue; copying it anew", primary=self.primary, problem=problem)
        self._whole.clear()
        await asyncio.wrap_future(self._catalogue.submit(0, Transaction.wipe))
        self._copied_from = ""
