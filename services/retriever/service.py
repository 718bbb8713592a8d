"""The retriever's RPCs: checks what comes in, hands it to the engine, says what became of it."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio

from services.domain.checks import Invalid, check_count, check_text
from services.retriever import snapshots
from services.retriever.engine import Engine
from services.retriever.settings import RetrieverSettings
from services.retriever.writes import to_wire
from services.runtime.channels import time_left
from services.runtime.errors import DeadlineExceeded, FailedPrecondition, Unavailable, status_of
from services.runtime.telemetry import log
from souk.retriever.v1 import admin_pb2, admin_pb2_grpc, retriever_pb2, retriever_pb2_grpc
from souk.types.v1 import generations_pb2, generations_pb2_grpc, types_pb2

_Context = grpc.aio.ServicerContext[Any, Any]

_MAX_ITEMS = 1_000
_MAX_SEARCHES = 16
_SIGN_OF_LIFE_SECONDS = 5.0
_GENERATION = re.compile(r"[0-9a-f]{64}")
# Work of a leg is its candidates; a leg has at least so much, and one that compares with every vector so much more.
_LEAST_WORK = 64
_EXACT_WORK = 4_096


class RetrieverServicer(retriever_pb2_grpc.RetrieverServicer):
    """souk.retriever.v1.Retriever."""

    def __init__(self, engine: Engine, draining: asyncio.Event) -> None:
        self._engine = engine
        self._draining = draining

    async def Search(self, request: retriever_pb2.SearchRequest, context: _Context) -> retriever_pb2.SearchResponse:
        """Candidates of all legs."""
        return await self._engine.search(_work(request), self._engine.index.search, request)

    async def SearchBatch(
        self, request: retriever_pb2.SearchBatchRequest, context: _Context
    ) -> retriever_pb2.SearchBatchResponse:
        """Several searches, each with a result of its own."""
        check_count(request.requests, "requests", 1, _MAX_SEARCHES)
        work = sum(_work(one) for one in request.requests)
        results = await self._engine.search(work, self._search_all, request.requests)
        return retriever_pb2.SearchBatchResponse(results=results)

    async def GetVectors(
        self, request: retriever_pb2.GetVectorsRequest, context: _Context
    ) -> retriever_pb2.GetVectorsResponse:
        """Vectors of items."""
        return await self._engine.search(len(request.item_ids), self._engine.index.get_vectors, request)

    async def GetItems(
        self, request: retriever_pb2.GetItemsRequest, context: _Context
    ) -> retriever_pb2.GetItemsResponse:
        """Items as the catalogue holds them."""
        check_count(request.item_ids, "item_ids", 1, _MAX_ITEMS)
        return await self._engine.search(len(request.item_ids), self._get_items, request.item_ids)

    async def Suggest(self, request: retriever_pb2.SuggestRequest, context: _Context) -> retriever_pb2.SuggestResponse:
        """Completions."""
        return await self._engine.search(_LEAST_WORK, self._engine.index.suggest, request)

    async def StreamChanges(
        self, request: retriever_pb2.StreamChangesRequest, context: _Context
    ) -> AsyncIterator[retriever_pb2.StreamChangesResponse]:
        """Every change after a sequence number; an empty message says that all up to its head has been sent."""
        engine = self._engine
        versions = None if request.vectors else ()
        after = request.from_sequence
        while not self._draining.is_set():
            news = engine.news
            response, complete = await engine.read(partial(self._changes, after, versions))
            if response.changes:
                yield response
                after = response.changes[-1].sequence
            if not complete:
                continue
            if after != response.head_sequence or not response.changes:
                yield retriever_pb2.StreamChangesResponse(
                    head_sequence=response.head_sequence, catalogue_id=response.catalogue_id
                )
                after = response.head_sequence
            if not request.follow:
                return
            await _first_of(news, self._draining, _SIGN_OF_LIFE_SECONDS)
        raise Unavailable("the process is draining: go on from the last sequence received")

    async def GetInfo(self, request: retriever_pb2.GetInfoRequest, context: _Context) -> retriever_pb2.GetInfoResponse:
        """What is held and served."""
        engine = self._engine
        info = engine.index.info()
        info.sequence = engine.applied
        info.primary = engine.follower is None
        info.lag_changes = engine.follower.lag if engine.follower is not None else 0
        return info

    def _search_all(self, requests: Sequence[retriever_pb2.SearchRequest]) -> list[retriever_pb2.SearchBatchResult]:
        results = []
        for i, one in enumerate(requests):
            try:
                results.append(retriever_pb2.SearchBatchResult(value=self._engine.index.search(one)))
            except Exception as error:
                code, message = status_of(error)
                if code is grpc.StatusCode.INTERNAL:
                    log.error("a search of a batch failed", number=i, exc_info=error)
                failure = retriever_pb2.Failure(code=code.value[0], message=message)
                results.append(retriever_pb2.SearchBatchResult(failure=failure))
        return results

    def _get_items(self, ids: Sequence[str]) -> retriever_pb2.GetItemsResponse:
        items, sequence = self._engine.catalogue.items(ids)
        results = [
            retriever_pb2.GetItemsResult(presence=retriever_pb2.PRESENCE_NOT_FOUND)
            if item is None
            else retriever_pb2.GetItemsResult(presence=retriever_pb2.PRESENCE_PRESENT, item=item)
            for item in items
        ]
        return retriever_pb2.GetItemsResponse(results=results, sequence=sequence)

    def _changes(self, after: int, versions: Sequence[str] | None) -> tuple[retriever_pb2.StreamChangesResponse, bool]:
        page = self._engine.catalogue.changes(after, versions)
        changes = [to_wire(change) for change in page.changes]
        response = retriever_pb2.StreamChangesResponse(
            changes=changes, head_sequence=page.head, catalogue_id=page.catalogue
        )
        return response, page.complete


class AdminServicer(admin_pb2_grpc.RetrieverAdminServicer):
    """souk.retriever.v1.RetrieverAdmin."""

    def __init__(self, engine: Engine, draining: asyncio.Event) -> None:
        self._engine = engine
        self._draining = draining

    async def Upsert(
        self, request_iterator: AsyncIterator[admin_pb2.UpsertRequest], context: _Context
    ) -> AsyncIterator[admin_pb2.UpsertResponse]:
        """Batch by batch, each answered after its commit."""
        self._refuse_on_follower()
        iterator = aiter(request_iterator)
        draining = asyncio.create_task(self._draining.wait())
        try:
            while True:
                following = asyncio.ensure_future(anext(iterator, None))
                await asyncio.wait((following, draining), return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    raise Unavailable("the process is draining: send the unanswered batches again")
                request = following.result()
                if request is None:
                    return
                yield admin_pb2.UpsertResponse(results=await self._upsert(request, context))
        finally:
            draining.cancel()

    async def Delete(self, request: admin_pb2.DeleteRequest, context: _Context) -> admin_pb2.DeleteResponse:
        """Takes items out."""
        self._refuse_on_follower()
        check_count(request.items, "items", 1, _MAX_ITEMS)
        results = await self._engine.write(self._engine.catalogue.delete, request.items)
        return admin_pb2.DeleteResponse(results=results)

    async def CreateSnapshot(
        self, request: admin_pb2.CreateSnapshotRequest, context: _Context
    ) -> admin_pb2.CreateSnapshotResponse:
        """Writes a copy of catalogue and indexes."""
        self._refuse_on_follower()
        return admin_pb2.CreateSnapshotResponse(snapshot=await self._engine.snapshot())

    async def ListSnapshots(
        self, request: admin_pb2.ListSnapshotsRequest, context: _Context
    ) -> admin_pb2.ListSnapshotsResponse:
        """Snapshots, newest first."""
        self._refuse_on_follower()
        found = await asyncio.to_thread(snapshots.found, self._engine.settings.snapshots)
        return admin_pb2.ListSnapshotsResponse(snapshots=found)

    async def _upsert(self, request: admin_pb2.UpsertRequest, context: _Context) -> list[admin_pb2.WriteResult]:
        check_count(request.items, "items", 1, _MAX_ITEMS)
        if request.wait not in admin_pb2.Wait.values():
            raise Invalid("wait", f"{request.wait} is not one of those known")
        try:
            async with asyncio.timeout(time_left(context, self._engine.settings.max_seconds)):
                results = await self._engine.write(self._engine.catalogue.upsert, request.items)
                if request.wait == admin_pb2.WAIT_INDEXED:
                    await self._engine.wait_indexed(results)
        except TimeoutError:
            raise DeadlineExceeded(
                "the time ran out; the batch may or may not be committed: send it again with the same revisions"
            ) from None
        return results

    def _refuse_on_follower(self) -> None:
        if self._engine.follower is not None:
            raise FailedPrecondition(
                f"this process is a follower: write to its primary {self._engine.follower.primary}"
            )


class GenerationsServicer(generations_pb2_grpc.GenerationsServicer):
    """souk.types.v1.Generations."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def Prepare(
        self, request: generations_pb2.PrepareRequest, context: _Context
    ) -> generations_pb2.PrepareResponse:
        """Builds a generation's index beside the one that serves."""
        check_text(request.bundle, "bundle", 4096)
        if request.generation:
            _check_generation(request.generation)
        generation = await self._engine.generations.prepare(Path(request.bundle), request.generation)
        return generations_pb2.PrepareResponse(generation=generation)

    async def Switch(self, request: generations_pb2.SwitchRequest, context: _Context) -> generations_pb2.SwitchResponse:
        """Makes a loaded generation the one that serves."""
        _check_generation(request.generation)
        return generations_pb2.SwitchResponse(generation=await self._engine.switch(request.generation))

    async def Retire(self, request: generations_pb2.RetireRequest, context: _Context) -> generations_pb2.RetireResponse:
        """Lets a generation and its index go."""
        _check_generation(request.generation)
        await self._engine.generations.retire(request.generation)
        return generations_pb2.RetireResponse()

    async def ListGenerations(
        self, request: generations_pb2.ListGenerationsRequest, context: _Context
    ) -> generations_pb2.ListGenerationsResponse:
        """What is held."""
        return generations_pb2.ListGenerationsResponse(generations=self._engine.generations.list())


class RetrieverService:
    """The retriever as a process runs it; see services.runtime.server.Service."""

    name = "retriever"

    def __init__(self, settings: RetrieverSettings) -> None:
        self._engine = Engine(settings)
        self._draining = asyncio.Event()
        self._retriever = RetrieverServicer(self._engine, self._draining)

    def register(self, server: grpc.aio.Server) -> list[str]:
        """Adds the three servicers."""
        retriever_pb2_grpc.add_RetrieverServicer_to_server(self._retriever, server)
        admin_pb2_grpc.add_RetrieverAdminServicer_to_server(AdminServicer(self._engine, self._draining), server)
        generations_pb2_grpc.add_GenerationsServicer_to_server(GenerationsServicer(self._engine), server)
        return [
            retriever_pb2.DESCRIPTOR.services_by_name["Retriever"].full_name,
            admin_pb2.DESCRIPTOR.services_by_name["RetrieverAdmin"].full_name,
            generations_pb2.DESCRIPTOR.services_by_name["Generations"].full_name,
        ]

    async def start(self) -> None:
        """Opens the catalogue and brings the indexes up to it."""
        await self._engine.start()

    async def warm_up(self) -> None:
        """Searches once by each kind of leg, so that the first caller does not wait for what is made on first use."""
        began = time.monotonic()
        item = types_pb2.ScoredId(item_id="warm-up", score=1)
        legs = [
            retriever_pb2.Leg(name="words", words=retriever_pb2.WordsLeg(query="red running shoes 红色跑鞋")),
            retriever_pb2.Leg(name="ids", ids=retriever_pb2.IdsLeg(items=[item])),
            retriever_pb2.Leg(name="popular", popular=retriever_pb2.PopularLeg()),
        ]
        request = retriever_pb2.SearchRequest(legs=legs, k=10)
        answer = await self._engine.search(_work(request), self._engine.index.search, request)
        log.info("warm", items=answer.allowed, ms=round((time.monotonic() - began) * 1e3))

    async def check(self) -> None:
        """Raises when reads are no longer answered or writes no longer kept."""
        self._engine.check()

    def drain(self) -> None:
        """Ends the streams, which would else go on as long as their callers like."""
        self._draining.set()

    async def stop(self) -> None:
        """Saves what the next start can use and closes all."""
        await self._engine.stop()


def _work(request: retriever_pb2.SearchRequest) -> int:
    work = len(request.legs) * max(_LEAST_WORK, request.k)
    return work + _EXACT_WORK if request.exact else work


def _check_generation(value: str) -> None:
    if not _GENERATION.fullmatch(value):
        raise Invalid("generation", "is not a generation: 64 hexadecimal digits")


async def _first_of(one: asyncio.Event, other: asyncio.Event, seconds: float) -> None:
    """Waits until one of two events is set, at most so long."""
    waits = [asyncio.create_task(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
