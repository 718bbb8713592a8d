"""The vector worker against an embedder that a test can make fail in every way the contract allows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from services.domain.text import TextTemplate
from services.retriever import backlog
from services.retriever.arrivals import Arrivals
from services.retriever.catalogue import Catalogue
from services.retriever.changes import AppliedChange
from services.retriever.worker import VectorWorker
from services.retriever.writes import SpaceKey
from souk.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from souk.retriever.v1 import admin_pb2
from souk.types.v1 import types_pb2
from souk.vectors import pack_matrix

SPACE = SpaceKey(types_pb2.SPACE_CONTENT, "v1", 3, TextTemplate())
_Context = grpc.aio.ServicerContext[Any, Any]


class Embedder(embedder_pb2_grpc.EmbedderServicer):
    """Vectors of (length of the title, 1, 2), after the failures put into `failures`."""

    def __init__(self) -> None:
        self.failures: list[grpc.StatusCode] = []
        self.space_version = SPACE.version
        self.dim = SPACE.dim
        self.sizes: list[int] = []
        self.generations: list[str] = []
        self.loaded = {"g1"}
        self.hold = asyncio.Event()
        self.hold.set()
        self._calls = asyncio.Semaphore(0)

    async def wait_called(self, times: int) -> None:
        """Waits for calls of Embed."""
        async with asyncio.timeout(20):
            for _ in range(times):
                await self._calls.acquire()

    async def GetInfo(self, request: embedder_pb2.GetInfoRequest, context: _Context) -> embedder_pb2.GetInfoResponse:
        return embedder_pb2.GetInfoResponse(max_batch=4)

    async def Embed(self, request: embedder_pb2.EmbedRequest, context: _Context) -> embedder_pb2.EmbedResponse:
        self.sizes.append(len(request.inputs))
        self._calls.release()
        self.generations.append(request.options.generation)
        await self.hold.wait()
        if self.failures:
            await context.abort(self.failures.pop(0), "as told")
        if request.options.generation not in self.loaded:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not loaded")
        titles = [each.item.title for each in request.inputs]
        if any("poison" in title for title in titles):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "inputs[0]: poison")
        vectors = np.array([[len(title), 1, 2][: self.dim] for title in titles], np.float32)
        readings = [embedder_pb2.Reading(covered="foreign" not in title) for title in titles]
        return embedder_pb2.EmbedResponse(
            vectors=pack_matrix(vectors), readings=readings, space_version=self.space_version
        )

    async def EmbedStream(
        self, request_iterator: AsyncIterator[embedder_pb2.EmbedStreamRequest], context: _Context
    ) -> AsyncIterator[embedder_pb2.EmbedStreamResponse]:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "the worker does not need it")
        yield embedder_pb2.EmbedStreamResponse()


class Running:
    """A catalogue, a worker and the embedder between them."""

    def __init__(self, directory: Path, embedder: Embedder, address: str) -> None:
        self.embedder = embedder
        self.catalogue = Catalogue(directory)
        self.threads = ThreadPoolExecutor(2)
        self.worker = VectorWorker(self.catalogue, address, self.threads)
        self.arrivals = Arrivals(self.catalogue, self.threads)
        loop = asyncio.get_running_loop()

        def told(changes: Sequence[AppliedChange], _head: int) -> None:
            loop.call_soon_threadsafe(self._note, changes)

        self.catalogue.start(told)

    def _note(self, changes: Sequence[AppliedChange]) -> None:
        self.worker.note(changes)
        self.arrivals.note(changes)

    async def upsert(self, *titles: str) -> dict[str, int]:
        """Writes items with the titles as ids; gives their revisions."""
        items = [types_pb2.Item(id=title.split()[0], title=title) for title in titles]
        results = await asyncio.wrap_future(self.catalogue.upsert(items))
        return {result.item_id: result.revision for result in results}

    async def indexed(self, revisions: dict[str, int], seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            await self.arrivals.wait(SPACE.version, revisions)

    def vectors(self) -> dict[str, list[float] | None]:
        """First numbers of the vectors held; None where uncovered."""
        changes = self.catalogue.changes(0, [SPACE.version], items=False).changes
        return {c.item_id: None if c.vector is None else c.vector.tolist() for c in changes}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_LONGEST_PAUSE_SECONDS", 0.05)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    embedder = Embedder()
    server = grpc.aio.server()
    embedder_pb2_grpc.add_EmbedderServicer_to_server(embedder, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    running = Running(tmp_path / "data", embedder, f"127.0.0.1:{port}")
    yield running
    embedder.hold.set()
    await running.worker.stop()
    await server.stop(None)
    running.threads.shutdown()
    running.catalogue.close()


async def test_what_lacks_a_vector_at_the_start_and_what_is_written_later(running: Running) -> None:
    before = await running.upsert(*(f"item{n}" for n in range(10)))
    running.worker.add(SPACE, "g1")
    await running.indexed(before)
    assert set(running.vectors()) == set(before)
    later = await running.upsert("later")
    await running.indexed(later)
    assert running.vectors()["later"] == [5, 1, 2]
    assert max(running.embedder.sizes) <= 4
    await running.indexed(before | later)  # Already there: answered at once.


async def test_a_text_that_cannot_be_read_is_remembered_as_such(running: Running) -> None:
    running.worker.add(SPACE, "g1")
    await running.indexed(await running.upsert("plain", "odd foreign"))
    assert running.vectors() == {"plain": [5, 1, 2], "odd": None}


async def test_an_item_that_is_refused_does_not_hold_up_the_others(running: Running) -> None:
    written = await running.upsert("a", "b poison", "c", "d")
    running.worker.add(SPACE, "g1")
    await running.indexed(written)
    assert running.vectors() == {"a": [1, 1, 2], "b": None, "c": [1, 1, 2], "d": [1, 1, 2]}


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL],
)
async def test_failures_are_tried_again_until_it_goes(running: Running, code: grpc.StatusCode) -> None:
    running.embedder.failures = [code] * 4
    running.worker.add(SPACE, "g1")
    await running.indexed(await running.upsert("a", "b"))
    assert set(running.vectors()) == {"a", "b"}


async def test_nothing_is_embedded_that_could_not_be_kept(running: Running) -> None:
    written = await running.upsert("a", "b")
    # As the writer notes it when the disk is full; its own probe would find it well again.
    problem, probe = "database or disk is full", running.catalogue._probe
    running.catalogue._probe = lambda: None  # type: ignore[method-assign]
    running.catalogue._disk_problem = problem
    running.worker.add(SPACE, "g1")
    await asyncio.sleep(0.5)
    assert not running.embedder.sizes
    running.catalogue._probe = probe  # type: ignore[method-assign]
    running.catalogue._probe()
    await running.indexed(written)


@pytest.mark.parametrize("wrong", ["space_version", "dim"])
async def test_vectors_of_another_space_are_not_kept(running: Running, wrong: str) -> None:
    right = getattr(running.embedder, wrong)
    setattr(running.embedder, wrong, "v2" if wrong == "space_version" else 2)
    running.worker.add(SPACE, "g1")
    written = await running.upsert("a")
    await running.embedder.wait_called(3)
    assert running.vectors() == {}
    setattr(running.embedder, wrong, right)
    await running.indexed(written)


async def test_another_generation_of_the_space_serves_as_well(running: Running) -> None:
    running.worker.add(SPACE, "g0")
    running.worker.add(SPACE, "g1")
    await running.indexed(await running.upsert("a"))
    assert running.embedder.generations[:1] == ["g0"]
    await running.worker.remove(SPACE.version, "g0")
    await running.indexed(await running.upsert("b"))
    await running.worker.remove(SPACE.version, "g1")
    await running.worker.remove(SPACE.version, "g1")
    await running.upsert("c")
    assert set(running.vectors()) == {"a", "b"}


async def test_a_text_that_changes_while_it_is_embedded_gets_the_vector_of_its_last_form(running: Running) -> None:
    running.embedder.hold.clear()
    running.worker.add(SPACE, "g1")
    first = await running.upsert("a")
    await running.embedder.wait_called(1)
    second = await running.upsert("a changed")
    assert second["a"] == first["a"] + 1
    running.embedder.hold.set()
    await running.indexed(second)
    assert running.vectors() == {"a": [9, 1, 2]}


async def test_waiting_ends_with_the_caller_and_with_the_item(running: Running) -> None:
    running.embedder.hold.clear()
    running.worker.add(SPACE, "g1")
    written = await running.upsert("a")
    with pytest.raises(TimeoutError):
        await running.indexed(written, seconds=0.1)
    waiting = asyncio.create_task(running.indexed(written))
    await asyncio.sleep(0)
    await asyncio.wrap_future(running.catalogue.delete([admin_pb2.ItemRef(item_id="a")]))
    await waiting
    assert running.arrivals._waiting == {}


async def test_more_new_items_than_are_remembered_are_found_all_the_same(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "_MAX_FRESH", 5)
    running.embedder.hold.clear()
    running.worker.add(SPACE, "g1")
    written: dict[str, int] = {}
    for start in range(0, 60, 6):
        written |= await running.upsert(*(f"item{n}" for n in range(start, start + 6)))
    running.embedder.hold.set()
    await running.indexed(written)
    assert set(running.vectors()) == set(written)
