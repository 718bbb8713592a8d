"""Waiting for vectors: each wait ends with its vector, its item or its caller, and nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from services.domain.text import TextTemplate
from services.retriever.arrivals import Arrivals
from services.retriever.catalogue import Catalogue
from services.retriever.changes import AppliedChange
from services.retriever.writes import MadeVector, SpaceKey
from souk.retriever.v1 import admin_pb2
from souk.types.v1 import types_pb2

CONTENT = SpaceKey(types_pb2.SPACE_CONTENT, "c1", 3, TextTemplate())
BEHAVIOUR = SpaceKey(types_pb2.SPACE_BEHAVIOUR, "b1", 3, TextTemplate())


class Running:
    """A catalogue and who waits for what is written to it."""

    def __init__(self, directory: Path) -> None:
        self.catalogue = Catalogue(directory)
        self.threads = ThreadPoolExecutor(1)
        self.arrivals = Arrivals(self.catalogue, self.threads)
        loop = asyncio.get_running_loop()

        def told(changes: Sequence[AppliedChange], _head: int) -> None:
            loop.call_soon_threadsafe(self.arrivals.note, changes)

        self.catalogue.start(told)

    async def upsert(self, item_id: str, title: str) -> None:
        await asyncio.wrap_future(self.catalogue.upsert([types_pb2.Item(id=item_id, title=title)]))

    async def put(self, space: SpaceKey, item_id: str, revision: int, covered: bool = True) -> None:
        made = MadeVector(item_id, revision, np.ones(3, np.float32) if covered else None)
        await asyncio.wrap_future(self.catalogue.submit(1, lambda t: t.put_vectors(space, [made])))

    def waiting(self, space: SpaceKey, **revisions: int) -> "asyncio.Task[None]":
        return asyncio.create_task(self.arrivals.wait(space.version, revisions))


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    running = Running(tmp_path / "data")
    yield running
    assert running.arrivals._waiting == {}
    running.threads.shutdown()
    running.catalogue.close()


async def ended(task: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(20):
        await task


async def test_a_wait_ends_with_the_vector_of_its_space(running: Running) -> None:
    await running.upsert("a", "a")
    await running.upsert("b", "b")
    content, behaviour = running.waiting(CONTENT, a=1, b=1), running.waiting(BEHAVIOUR, a=1)
    await running.put(CONTENT, "a", 1)
    await running.put(CONTENT, "b", 1, covered=False)
    await ended(content)
    assert not behaviour.done()
    await running.put(BEHAVIOUR, "a", 1)
    await ended(behaviour)
    await ended(running.waiting(CONTENT, a=1, b=1))  # Already there: answered at once.


async def test_a_wait_ends_with_a_later_revision_and_with_the_item(running: Running) -> None:
    await running.upsert("a", "a")
    await running.upsert("b", "b")
    one, other = running.waiting(CONTENT, a=1), running.waiting(BEHAVIOUR, b=1)
    await asyncio.sleep(0)
    await running.upsert("a", "another")
    await running.put(CONTENT, "a", 2)
    await ended(one)
    await asyncio.wrap_future(running.catalogue.delete([admin_pb2.ItemRef(item_id="b")]))
    await ended(other)


async def test_a_caller_that_gives_up_leaves_nothing_behind(running: Running) -> None:
    await running.upsert("a", "a")
    patient = running.waiting(CONTENT, a=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await running.waiting(CONTENT, a=1)
    await running.put(CONTENT, "a", 1)
    await ended(patient)
