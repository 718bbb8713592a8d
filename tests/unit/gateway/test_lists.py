"""Held lists are those of the catalogue as it is: a change, an own write and age end them, and they are bounded."""

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import grpc.aio
import pytest

from services.gateway.lists import Lists
from services.gateway.peers import Peers
from services.gateway.settings import GatewaySettings
from services.gateway.stages import Journey
from souk.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from souk.types.v1 import types_pb2


class Catalogue(retriever_pb2_grpc.RetrieverServicer):
    """Tells its last change; may take long to."""

    def __init__(self) -> None:
        self.sequence = 7
        self.told = 0
        self.slow = asyncio.Event()
        self.slow.set()

    async def GetInfo(
        self,
        request: retriever_pb2.GetInfoRequest,
        context: "grpc.aio.ServicerContext[retriever_pb2.GetInfoRequest, retriever_pb2.GetInfoResponse]",
    ) -> retriever_pb2.GetInfoResponse:
        now = self.sequence
        await self.slow.wait()
        self.told += 1
        return retriever_pb2.GetInfoResponse(sequence=now)


@pytest.fixture
async def catalogue() -> Catalogue:
    return Catalogue()  # type: ignore[abstract]


@pytest.fixture
async def lists(catalogue: Catalogue) -> AsyncIterator[Lists]:
    server = grpc.aio.server()
    retriever_pb2_grpc.add_RetrieverServicer_to_server(catalogue, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    settings = GatewaySettings(retriever=f"127.0.0.1:{port}", embedder="127.0.0.1:1", page_key="k" * 32)
    peers = Peers(settings)
    made = Lists(peers, 2, 60.0)
    made.start()
    yield made
    await made.stop()
    await peers.stop()
    await server.stop(None)


def journey(*reasons: types_pb2.DegradationReason.ValueType) -> Journey:
    """That met these degradations."""
    made = Journey("g", 1.0)
    for reason in reasons:
        made.degrade("embed", reason, "words only")
    return made


def found(sequence: int, *ids: str) -> retriever_pb2.SearchResponse:
    return retriever_pb2.SearchResponse(sequence=sequence, candidates=types_pb2.CandidateColumns(id=ids))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for is another process's number
            await asyncio.sleep(0.01)


async def until_found(lists: Lists, key: bytes) -> list[str]:
    await until(lambda: lists.find(key, journey()) is not None)
    return list((lists.find(key, journey()) or types_pb2.CandidateColumns()).id)


async def test_a_list_is_held_until_the_catalogue_changes(lists: Lists, catalogue: Catalogue) -> None:
    assert lists.find(b"mug", journey()) is None
    lists.keep(b"mug", found(7, "a"), journey())
    assert await until_found(lists, b"mug") == ["a"]
    catalogue.sequence = 8
    await until(lambda: lists.find(b"mug", journey()) is None)
    lists.keep(b"mug", found(8, "b"), journey())
    assert await until_found(lists, b"mug") == ["b"]


async def test_what_an_older_catalogue_answered_is_not_used(lists: Lists) -> None:
    lists.keep(b"cup", found(6, "from a follower"), journey())
    lists.keep(b"mug", found(7, "a"), journey())
    await until_found(lists, b"mug")
    assert lists.find(b"cup", journey()) is None


async def test_an_own_write_ends_all_at_once_and_what_was_asked_before_it_counts_no_more(
    lists: Lists, catalogue: Catalogue
) -> None:
    lists.keep(b"mug", found(7, "a"), journey())
    await until_found(lists, b"mug")
    catalogue.slow.clear()
    # A question is on its way that will be answered with the number from before the write.
    await asyncio.sleep(0.25)
    catalogue.sequence = 8
    lists.written()
    assert lists.find(b"mug", journey()) is None
    told = catalogue.told
    catalogue.slow.set()
    seen = []
    await until(lambda: seen.append(lists.find(b"mug", journey())) is not None or catalogue.told >= told + 3)  # type: ignore[func-returns-value]
    assert not any(seen)


async def test_lists_grow_old_and_the_one_not_used_for_longest_goes(lists: Lists) -> None:
    for key in (b"a", b"b"):
        lists.keep(key, found(7, key.decode()), journey())
    await until_found(lists, b"a")
    lists.keep(b"c", found(7, "c"), journey())
    assert lists.find(b"b", journey()) is None
    assert lists.find(b"a", journey()) is not None
    lists._seconds = 0.05
    lists.keep(b"a", found(7, "a"), journey())
    assert lists.find(b"a", journey()) is not None
    await asyncio.sleep(0.06)
    assert lists.find(b"a", journey()) is None


async def test_what_would_stand_in_again_is_told_again_and_what_may_be_back_is_not_held(lists: Lists) -> None:
    lists.keep(b"mug", found(7, "a"), journey())
    await until_found(lists, b"mug")
    lists.keep(b"cup", found(7, "words"), journey(types_pb2.DEGRADATION_REASON_VOCABULARY))
    lists.keep(b"pot", found(7, "words"), journey(types_pb2.DEGRADATION_REASON_TIMEOUT))
    asked = journey()
    held = lists.find(b"cup", asked)
    assert held is not None
    assert [(one.stage, one.substitute) for one in asked.degradations] == [("embed", "words only")]
    assert lists.find(b"pot", journey()) is None


async def test_without_an_answer_nothing_is_used(lists: Lists, catalogue: Catalogue) -> None:
    lists.keep(b"mug", found(7, "a"), journey())
    await until_found(lists, b"mug")
    catalogue.slow.clear()
    await until(lambda: lists.find(b"mug", journey()) is None)
    catalogue.slow.set()
    await until_found(lists, b"mug")
