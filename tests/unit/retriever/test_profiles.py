"""Telling coldstart of items: what it is told and when, and what of its answers is kept."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from services.domain.text import TextTemplate
from services.retriever import backlog, profiles
from services.retriever.arrivals import Arrivals
from services.retriever.catalogue import Catalogue
from services.retriever.changes import AppliedChange
from services.retriever.profiles import ProfileWorker
from services.retriever.writes import MadeVector, ProfileKey, SpaceKey
from souk.coldstart.v1 import coldstart_pb2, coldstart_pb2_grpc
from souk.retriever.v1 import admin_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_vector, unpack_vector

CONTENT = SpaceKey(types_pb2.SPACE_CONTENT, "c1", 3, TextTemplate())
BEHAVIOUR = SpaceKey(types_pb2.SPACE_BEHAVIOUR, "b1", 2, TextTemplate())
KEY = ProfileKey("told:1", CONTENT, BEHAVIOUR)
CALLS = 2
_Context = grpc.aio.ServicerContext[Any, Any]
_Request = coldstart_pb2.ProfileItemRequest
"""One item that was told of."""


class Coldstart(coldstart_pb2_grpc.ColdstartServicer):
    """Behaviour vectors of the first two numbers of content, after the failures put into `failures`."""

    def __init__(self) -> None:
        self.failures: list[grpc.StatusCode] = []
        self.loaded = {"g1"}
        self.space_version = BEHAVIOUR.version
        self.alter: Callable[[Float32], Float32] = lambda vector: vector
        self.told: list[_Request] = []
        self.removed: list[tuple[str, int]] = []
        self.log_id = "log 1"
        self.cut_short = 0
        """Answers that lack an item."""
        self.at_once = 0
        self.most_at_once = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self._calls = asyncio.Semaphore(0)

    async def wait_called(self, times: int, seconds: float = 20) -> None:
        """Waits for calls."""
        async with asyncio.timeout(seconds):
            for _ in range(times):
                await self._calls.acquire()

    async def GetInfo(self, request: coldstart_pb2.GetInfoRequest, context: _Context) -> coldstart_pb2.GetInfoResponse:
        return coldstart_pb2.GetInfoResponse(log_id=self.log_id)

    async def RemoveItems(
        self, request: coldstart_pb2.RemoveItemsRequest, context: _Context
    ) -> coldstart_pb2.RemoveItemsResponse:
        await self.hold.wait()
        if self.failures:
            await context.abort(self.failures.pop(0), "as told")
        self.removed += [(item.item_id, item.revision) for item in request.items]
        return coldstart_pb2.RemoveItemsResponse(removed=len(request.items))

    async def ProfileItems(
        self, request: coldstart_pb2.ProfileItemsRequest, context: _Context
    ) -> coldstart_pb2.ProfileItemsResponse:
        self.told += [
            _Request(
                item=each.item,
                content=each.content if each.HasField("content") else None,
                content_space_version=request.content_space_version,
                generation=request.generation,
            )
            for each in request.items
        ]
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self._calls.release()
        await self.hold.wait()
        self.at_once -= 1
        assert context.time_remaining() is not None
        if self.failures:
            await context.abort(self.failures.pop(0), "as told")
        if request.generation not in self.loaded:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not loaded")
        if any("broken" in each.item.title for each in request.items):
            await context.abort(grpc.StatusCode.INTERNAL, "broken")
        answer = coldstart_pb2.ProfileItemsResponse(behaviour_space_version=self.space_version)
        for each in request.items:
            profile = answer.items.add()
            if "poison" in each.item.title:
                profile.refused = "item: poison"
            elif each.HasField("content"):
                profile.behaviour.CopyFrom(pack_vector(self.alter(unpack_vector(each.content)[:2])))
        if self.cut_short:
            self.cut_short -= 1
            del answer.items[-1]
        return answer


class Running:
    """A catalogue, a worker and the coldstart between them; the test stands for the embedder."""

    def __init__(self, directory: Path, coldstart: Coldstart, address: str) -> None:
        self.coldstart = coldstart
        self.catalogue = Catalogue(directory)
        self.catalogue.set_spaces([CONTENT, BEHAVIOUR])
        self.threads = ThreadPoolExecutor(2)
        self.worker = ProfileWorker(self.catalogue, address, self.threads)
        self.arrivals = Arrivals(self.catalogue, self.threads)
        self.changes: list[AppliedChange] = []
        loop = asyncio.get_running_loop()

        def told(changes: Sequence[AppliedChange], _head: int) -> None:
            loop.call_soon_threadsafe(self._note, changes)

        self.catalogue.start(told)

    def _note(self, changes: Sequence[AppliedChange]) -> None:
        self.changes += changes
        self.worker.note(changes)
        self.arrivals.note(changes)

    async def begin(self, key: ProfileKey = KEY, *generations: str) -> None:
        """Adds work and lets it search the catalogue: what is written from here on it is told once."""
        for generation in generations or ("g1",):
            self.worker.add(key, generation)
        await self.until(lambda: self.worker._backlogs[key.version]._scan is None)

    async def upsert(self, item_id: str, title: str = "", **fields: Any) -> int:
        """Writes an item; gives its revision."""
        item = types_pb2.Item(id=item_id, title=title or item_id, **fields)
        (result,) = await asyncio.wrap_future(self.catalogue.upsert([item]))
        return result.revision

    async def delete(self, item_id: str) -> int:
        """Takes an item out; gives the revision of the removal."""
        (result,) = await asyncio.wrap_future(self.catalogue.delete([admin_pb2.ItemRef(item_id=item_id)]))
        return result.revision

    async def embed(self, item_id: str, revision: int, *numbers: float) -> None:
        """Keeps a content vector; without numbers: the encoder cannot read the text."""
        made = MadeVector(item_id, revision, np.array(numbers, np.float32) if numbers else None)
        await asyncio.wrap_future(self.catalogue.submit(1, lambda t: t.put_vectors(CONTENT, [made])))

    async def write(self, item_id: str, title: str = "", **fields: Any) -> int:
        """An item with a content vector."""
        revision = await self.upsert(item_id, title, **fields)
        await self.embed(item_id, revision, 1, 2, 3)
        return revision

    def told_log(self) -> str:
        """The log that the marks are of."""
        with self.catalogue.reading() as db:
            (log_id,) = db.execute("SELECT value FROM meta WHERE name = 'told_log'").fetchone() or ("",)
        return str(log_id)

    async def profiled(self, key: ProfileKey = KEY) -> None:
        """Waits until nothing with a content vector is left to tell."""
        await self.until(lambda: not self.catalogue.pending(key.version, 0, 1, given=key.content.version)[0])

    async def until(self, condition: Callable[[], bool]) -> None:
        """Polls."""
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - what is waited for is on disk
                await asyncio.sleep(0.01)

    def behaviour(self) -> dict[str, list[float] | None]:
        """The behaviour vectors held."""
        changes = self.catalogue.changes(0, [BEHAVIOUR.version], items=False).changes
        return {c.item_id: None if c.vector is None else c.vector.tolist() for c in changes}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(profiles, "_LOOK_EVERY_SECONDS", 0.05)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    coldstart = Coldstart()  # type: ignore[abstract]  # The worker calls nothing else of it.
    server = grpc.aio.server()
    coldstart_pb2_grpc.add_ColdstartServicer_to_server(coldstart, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    running = Running(tmp_path / "data", coldstart, f"127.0.0.1:{port}")
    yield running
    coldstart.hold.set()
    await running.worker.stop()
    await server.stop(None)
    running.threads.shutdown()
    running.catalogue.close()


async def test_items_are_told_once_with_their_content_vector(running: Running) -> None:
    await running.write("before")
    await running.begin()
    await running.write("later")
    await running.profiled()
    assert running.behaviour() == {"before": [1, 2], "later": [1, 2]}
    assert sorted(request.item.id for request in running.coldstart.told) == ["before", "later"]
    request = running.coldstart.told[0]
    assert (request.item.revision, request.content_space_version, request.generation) == (1, "c1", "g1")
    assert unpack_vector(request.content).tolist() == [1, 2, 3]


async def test_a_coldstart_that_lost_its_log_is_told_of_everything_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "_UNMARKED_AT_ONCE", 2)
    await running.begin()
    for name in "abcde":
        await running.write(name)
    await running.profiled()
    before = running.catalogue.head
    await running.until(lambda: running.told_log() == "log 1")
    running.coldstart.log_id = "log 2"
    await running.until(lambda: len(running.coldstart.told) == 10)
    await running.profiled()
    assert sorted(request.item.id for request in running.coldstart.told[5:]) == list("abcde")
    assert running.catalogue.head == before  # No one else is told of it.
    assert running.told_log() == "log 2"
    await asyncio.sleep(0.3)
    assert len(running.coldstart.told) == 10


async def test_removals_are_told_once(running: Running) -> None:
    await running.write("before")
    gone = await running.delete("before")
    await running.begin()
    await running.write("later")
    await running.profiled()
    later = await running.delete("later")
    await running.profiled()
    assert sorted(running.coldstart.removed) == [("before", gone), ("later", later)]
    await running.write("later")
    await running.profiled()
    assert [request.item.revision for request in running.coldstart.told if request.item.id == "later"] == [1, 3]
    assert len(running.coldstart.removed) == 2


async def test_removals_are_told_until_coldstart_hears_them(running: Running) -> None:
    await running.begin()
    await running.write("a")
    await running.profiled()
    running.coldstart.failures = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED]
    gone = await running.delete("a")
    await running.profiled()
    assert running.coldstart.removed == [("a", gone)]
    assert not running.coldstart.failures


async def test_a_removal_that_is_overtaken_stays_to_be_told(running: Running) -> None:
    """The item comes back while coldstart is told that it went: only the mark of the last removal counts."""
    await running.begin()
    await running.write("a")
    await running.profiled()
    running.coldstart.hold.clear()
    first = await running.delete("a")
    await asyncio.sleep(0.2)
    await running.upsert("a")
    second = await running.delete("a")
    running.coldstart.hold.set()
    await running.profiled()
    await running.until(lambda: ("a", second) in running.coldstart.removed)
    assert set(running.coldstart.removed) == {("a", first), ("a", second)}


async def test_an_item_waits_for_its_content_vector_and_no_longer(running: Running) -> None:
    await running.begin()
    waiting = await running.upsert("waiting")
    unread = await running.upsert("unread", "红色")
    await running.write("other")
    await running.profiled()
    assert [request.item.id for request in running.coldstart.told] == ["other"]
    await running.embed("unread", unread)
    await running.embed("waiting", waiting, 4, 5, 6)
    await running.profiled()
    assert running.behaviour() == {"other": [1, 2], "unread": None, "waiting": [4, 5]}
    told = {request.item.id: request for request in running.coldstart.told}
    assert not told["unread"].HasField("content")
    assert told["unread"].content_space_version == "c1"


async def test_a_price_is_told_again_though_the_vectors_are_carried_over(running: Running) -> None:
    await running.begin()
    await running.write("a", price=1.0, currency="EUR")
    await running.profiled()
    revision = await running.upsert("a", price=2.0, currency="EUR", stock=4)
    await running.profiled()
    assert [(r.item.revision, r.item.price, r.item.stock) for r in running.coldstart.told] == [(1, 1, 0), (2, 2, 4)]
    assert running.coldstart.told[1].HasField("content")
    made = [(c.item_id, c.revision) for c in running.changes if c.space_version == BEHAVIOUR.version]
    # Carried over with the item, and not written once more by what coldstart answered.
    assert made == [("a", 1), ("a", revision)]


async def test_another_text_has_another_behaviour_vector(running: Running) -> None:
    await running.begin()
    await running.write("a")
    await running.profiled()
    revision = await running.upsert("a", "another")
    assert running.behaviour() == {}
    await running.embed("a", revision, 7, 8, 9)
    await running.profiled()
    assert running.behaviour() == {"a": [7, 8]}


async def test_an_answer_for_a_revision_that_is_gone_is_not_kept(running: Running) -> None:
    await running.begin()
    running.coldstart.hold.clear()
    await running.write("a")
    await running.write("gone")
    await running.coldstart.wait_called(2)
    revision = await running.upsert("a", "another")
    await running.embed("a", revision, 7, 8, 9)
    await asyncio.wrap_future(running.catalogue.delete([admin_pb2.ItemRef(item_id="gone")]))
    running.coldstart.hold.set()
    await running.profiled()
    assert running.behaviour() == {"a": [7, 8]}
    assert running.coldstart.told[-1].item.title == "another"


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED],
)
async def test_failures_are_tried_again_until_it_goes(running: Running, code: grpc.StatusCode) -> None:
    running.coldstart.failures = [code] * 5
    await running.begin()
    for item_id in "abc":
        await running.write(item_id)
    await running.profiled()
    assert set(running.behaviour()) == {"a", "b", "c"}


async def test_what_always_fails_holds_up_no_other(running: Running) -> None:
    for n in range(150):
        await running.write(f"item{n}", "broken" if n in (0, 70) else "")
    await running.begin()
    await running.until(lambda: len(running.behaviour()) == 148)
    told = [request.item.id for request in running.coldstart.told]
    # What failed beside others was tried alone; what succeeded then is kept, and not told again.
    assert all(told.count(f"item{n}") <= 2 for n in range(150) if n not in (0, 70))
    assert told.count("item149") == 1
    assert running.catalogue.pending(KEY.version, 0, 10)[0] == ["item0", "item70"]


async def test_an_item_that_is_refused_counts_as_told(running: Running) -> None:
    await running.begin()
    await running.write("a", "poison")
    await running.write("b")
    await running.profiled()
    assert running.behaviour() == {"a": None, "b": [1, 2]}


@pytest.mark.parametrize(
    ("space_version", "alter"),
    [
        ("b2", lambda vector: vector),
        ("b1", lambda vector: vector[:1]),
        ("b1", lambda vector: vector * np.float32("nan")),
    ],
)
async def test_vectors_of_another_space_are_not_kept(
    running: Running, space_version: str, alter: Callable[[Float32], Float32]
) -> None:
    running.coldstart.space_version, running.coldstart.alter = space_version, alter
    await running.begin()
    await running.write("a")
    await running.coldstart.wait_called(3)
    assert running.behaviour() == {}
    running.coldstart.space_version, running.coldstart.alter = "b1", lambda vector: vector
    await running.profiled()
    assert running.behaviour() == {"a": [1, 2]}


async def test_a_vector_without_direction_is_none(running: Running) -> None:
    running.coldstart.alter = lambda vector: vector * 0
    await running.begin()
    await running.write("a")
    await running.profiled()
    assert running.behaviour() == {"a": None}


async def test_an_answer_for_fewer_items_is_not_kept(running: Running) -> None:
    running.coldstart.cut_short = 2
    await running.begin()
    await running.write("a")
    await running.profiled()
    assert running.behaviour() == {"a": [1, 2]}
    assert len(running.coldstart.told) == 3


async def test_no_more_calls_at_once_than_coldstart_should_see(running: Running) -> None:
    for n in range(80):
        await running.write(f"item{n}")
    running.coldstart.hold.clear()
    running.worker.add(KEY, "g1")
    running.worker.add(ProfileKey("told:2", CONTENT, None), "g1")
    await running.coldstart.wait_called(CALLS)
    with pytest.raises(TimeoutError):
        await running.coldstart.wait_called(1, seconds=0.3)
    running.coldstart.hold.set()
    await running.profiled()
    assert running.coldstart.most_at_once == CALLS


async def test_without_a_behaviour_space_items_are_told_all_the_same(running: Running) -> None:
    key = ProfileKey("told:2", CONTENT, None)
    await running.begin(key)
    await running.write("a")
    await running.profiled(key)
    assert len(running.coldstart.told) == 1
    assert running.behaviour() == {}
    # No one else hears of it.
    assert [c.space_version for c in running.catalogue.changes(0, None).changes] == ["", "c1"]


async def test_another_generation_of_the_same_spaces_serves_as_well(running: Running) -> None:
    await running.begin(KEY, "g0", "g1")
    await running.write("a")
    await running.profiled()
    assert [r.generation for r in running.coldstart.told] == ["g0", "g1"]
    await running.worker.remove(KEY.version, "g1")
    await running.worker.remove(KEY.version, "g0")
    await running.write("b")
    assert set(running.behaviour()) == {"a"}


async def test_what_was_told_outlives_a_restart(running: Running, tmp_path: Path) -> None:
    await running.begin()
    await running.write("a")
    await running.profiled()
    await running.worker.remove(KEY.version, "g1")
    await running.write("b")
    running.catalogue.close()
    running.catalogue = Catalogue(tmp_path / "data")
    assert running.catalogue.pending(KEY.version, 0, 10, given=CONTENT.version)[0] == ["b"]
