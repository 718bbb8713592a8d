"""Vectors of items: one call for what is not held, never one of another revision, none waited for from the dead."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest

from services.ranker import vectors as module
from services.ranker.settings import RankerSettings
from services.ranker.vectors import ANY, ItemVectors
from services.runtime.channels import connect
from souk.retriever.v1 import retriever_pb2_grpc
from tests.unit.ranker import tiny
from tests.unit.ranker.retriever import ArrayRetriever, serving


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def retriever() -> ArrayRetriever:
    return ArrayRetriever(tiny.item_vectors(1500))  # type: ignore[abstract]


@pytest.fixture
async def held(retriever: ArrayRetriever, clock: Clock) -> AsyncIterator[Any]:
    async with serving(retriever) as address, connect(address) as channel:
        stub = retriever_pb2_grpc.RetrieverStub(channel)
        held = ItemVectors(stub, tiny.SPACE, tiny.DIM, RankerSettings(vector_seconds=5, vector_rows=4000))
        yield held
        await held.close()


async def test_one_call_serves_candidates_and_history_and_the_next_request_needs_none(
    held: ItemVectors, retriever: ArrayRetriever
) -> None:
    ids, revisions = ["i3", "i1", "i3", "nobody"], [1, 1, ANY, 1]
    for _ in range(2):
        found = await held.get(ids, revisions)
        assert found.present.tolist() == [True, True, True, False]
        assert not found.unreachable
        expected = [retriever.vectors["i3"], retriever.vectors["i1"], retriever.vectors["i3"], np.zeros(tiny.DIM)]
        np.testing.assert_array_equal(found.vectors, np.array(expected))
    assert len(retriever.asked) == 1


async def test_more_than_a_call_takes_are_asked_for_in_parts(held: ItemVectors, retriever: ArrayRetriever) -> None:
    found = await held.get([f"i{n}" for n in range(1500)], [1] * 1500)
    assert found.present.all()
    assert sorted(map(len, retriever.asked)) == [500, 1000]


async def test_a_vector_is_never_that_of_another_revision(held: ItemVectors, retriever: ArrayRetriever) -> None:
    old, new = retriever.vectors["i1"], retriever.vectors["i2"]
    assert (await held.get(["i1"], [1])).vectors[0].tolist() == old.tolist()
    retriever.vectors["i1"], retriever.revisions["i1"] = new, 2
    assert (await held.get(["i1"], [2])).vectors[0].tolist() == new.tolist()
    # A request that came by way of an older answer still has what that answer was about.
    assert (await held.get(["i1"], [1])).vectors[0].tolist() == old.tolist()
    # The catalogue asked is behind: it has no vector of that revision, and must not be remembered as if it had.
    assert not (await held.get(["i1"], [3])).present[0]
    retriever.revisions["i1"] = 3
    assert (await held.get(["i1"], [3])).present[0]


async def test_an_item_of_a_history_keeps_its_vector_for_ten_minutes_at_most(
    held: ItemVectors, retriever: ArrayRetriever, clock: Clock
) -> None:
    ids = [f"i{n}" for n in range(100)]
    await held.get(ids, [ANY] * 100)
    clock.now += 300
    await held.get(ids, [ANY] * 100)
    renewed = len(retriever.asked[-1]) if len(retriever.asked) > 1 else 0
    assert 0 < renewed < 100, "they run out one by one, not all at once"
    retriever.vectors["i7"] = retriever.vectors["i8"]
    clock.now += 600
    assert (await held.get(["i7"], [ANY])).vectors[0].tolist() == retriever.vectors["i8"].tolist()


async def test_what_is_still_to_be_made_is_asked_for_again(held: ItemVectors, retriever: ArrayRetriever) -> None:
    retriever.pending = {"i1"}
    assert not (await held.get(["i1"], [1])).present[0]
    retriever.pending = set()
    assert (await held.get(["i1"], [1])).present[0]


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION])
async def test_without_the_retriever_it_goes_on_with_what_it_holds(
    held: ItemVectors, retriever: ArrayRetriever, clock: Clock, code: grpc.StatusCode
) -> None:
    await held.get(["i1"], [1])
    retriever.refuses = code
    for _ in range(3):
        found = await held.get(["i1", "i2"], [1, 1])
        assert found.present.tolist() == [True, False]
        assert found.unreachable
    assert len(retriever.asked) == 2, "it is left alone for a while"
    retriever.refuses = None
    clock.now += 1.5
    found = await held.get(["i1", "i2"], [1, 1])
    assert found.present.all()
    assert not found.unreachable


async def test_a_retriever_that_hangs_costs_the_wait_once(retriever: ArrayRetriever) -> None:
    hanging = asyncio.Event()

    class Hanging(ArrayRetriever):
        async def GetVectors(self, request: Any, context: Any) -> Any:
            self.asked.append(list(request.item_ids))
            await hanging.wait()

    slow = Hanging({})  # type: ignore[abstract]
    async with serving(slow) as address, connect(address) as channel:
        stub = retriever_pb2_grpc.RetrieverStub(channel)
        held = ItemVectors(stub, tiny.SPACE, tiny.DIM, RankerSettings(vector_seconds=0.05))
        for _ in range(3):
            assert (await held.get(["i1"], [1])).unreachable
        assert len(slow.asked) == 1
        hanging.set()
        await held.close()


async def test_vectors_of_another_length_are_none(held: ItemVectors, retriever: ArrayRetriever) -> None:
    retriever.dim = 4
    retriever.vectors = {"i1": np.ones(4, np.float32)}
    found = await held.get(["i1"], [1])
    assert not found.present[0]
    assert found.unreachable
