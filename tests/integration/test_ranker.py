"""The ranker as a real process, with vectors from a retriever over real gRPC: orders, errors, generations, losses."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from services.domain.bundle import Bundle
from souk.coldstart.v1 import coldstart_pb2
from souk.ranker.v1 import ranker_pb2, ranker_pb2_grpc
from souk.types.v1 import generations_pb2, generations_pb2_grpc, types_pb2
from souk.vectors import unpack_vector
from tests.integration.processes import Process, spawn
from tests.ports import free_port
from tests.unit.ranker import tiny
from tests.unit.ranker.retriever import ArrayRetriever, serving

MODULE = "services.ranker"
VIEW, BOUGHT = types_pb2.EVENT_TYPE_VIEW, types_pb2.EVENT_TYPE_PURCHASE
INVALID = grpc.StatusCode.INVALID_ARGUMENT
ITEMS = [f"i{n}" for n in range(50)]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny.write_ranker_bundle(tmp_path_factory.mktemp("first") / "bundle")


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same behaviour space, heads that want the opposite: what a nightly training of the heads might give."""
    turned = {name: -value for name, value in tiny.COEFFICIENTS.items()}
    path = tmp_path_factory.mktemp("second") / "bundle"
    return tiny.write_ranker_bundle(path, heads=tiny.heads_network(coefficients=turned))


@pytest.fixture(scope="module")
def port() -> int:
    """Where the retriever of the module's process is, when it is there."""
    return free_port()


@pytest.fixture(scope="module")
def process(first: Bundle, port: int) -> Iterator[Process]:
    settings = {"ranker_retriever": f"127.0.0.1:{port}", "ranker_max_candidates": 200, "ranker_vector_seconds": 2}
    with spawn(MODULE, bundle=first.path, **settings) as process:
        yield process


@pytest.fixture
async def retriever(port: int) -> AsyncIterator[ArrayRetriever]:
    held = ArrayRetriever(tiny.item_vectors(60))  # type: ignore[abstract]
    async with serving(held, port):
        yield held


@pytest.fixture
async def stub(process: Process) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(process.address) as channel:
        yield ranker_pb2_grpc.RankerStub(channel)


def context(*events: tuple[str, types_pb2.EventType.ValueType]) -> coldstart_pb2.ShopperContext:
    return coldstart_pb2.ShopperContext(shopper_id="s", history=tiny.history(*events))


def encoding(*events: tuple[str, types_pb2.EventType.ValueType], generation: str = "") -> Any:
    return ranker_pb2.EncodeShopperRequest(context=context(*events), generation=generation)


async def status(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def near(stub: Any) -> None:
    """Waits until the ranker has found the retriever, which may have been away."""
    give_up = asyncio.get_running_loop().time() + 20
    while True:
        try:
            await stub.EncodeShopper(encoding(("i59", VIEW)), timeout=5)
            return
        except grpc.aio.AioRpcError:
            assert asyncio.get_running_loop().time() < give_up
            await asyncio.sleep(0.05)


async def test_a_shoppers_list(stub: Any, retriever: ArrayRetriever, first: Bundle) -> None:
    await near(stub)
    retriever.asked.clear()
    columns = tiny.candidates(*ITEMS, popularity=[0.0] * 50)
    scene = types_pb2.SCENE_SPONSORED
    events = (("i51", VIEW), ("i52", BOUGHT))
    asked = tiny.request(columns, context=context(*events), scene=scene, top_k=10, explain=True)
    answer = await stub.Rank(asked, timeout=5)
    assert len(retriever.asked) == 1, "vectors of candidates and history come with one call"
    shopper = await stub.EncodeShopper(encoding(*events), timeout=5)
    vector = unpack_vector(shopper.vector)
    assert len(retriever.asked) == 1
    nearest = sorted(range(50), key=lambda row: -float(retriever.vectors[ITEMS[row]] @ vector))[:10]
    assert list(answer.order) == nearest
    assert list(answer.score) == sorted(answer.score, reverse=True)
    assert answer.reasons[0].reasons[0].text.startswith("near what you ")
    assert answer.reasons[0].reasons[0].subject in ("i51", "i52")
    assert [timing.stage for timing in answer.timings] == ["vectors", "inference", "list"]
    assert (answer.generation, shopper.generation) == (first.generation, first.generation)
    assert shopper.space_version == tiny.SPACE
    np.testing.assert_allclose(np.linalg.norm(vector), 1, rtol=1e-5)


async def test_info(stub: Any, first: Bundle) -> None:
    info = await stub.GetInfo(ranker_pb2.GetInfoRequest(), timeout=5)
    assert (info.generation, info.max_candidates, info.max_history) == (first.generation, 200, tiny.MAX_HISTORY)
    assert (info.space.space, info.space.version, info.space.dim) == (types_pb2.SPACE_BEHAVIOUR, tiny.SPACE, tiny.DIM)
    assert info.provider == "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (tiny.request(tiny.candidates()), INVALID, "candidates.id: holds 0; it must hold 1 to 200"),
        (tiny.request(tiny.candidates(*map(str, range(201)))), INVALID, "candidates.id: holds 201; it must hold 1 to"),
        (tiny.request(tiny.candidates("a", score=[float("nan")])), INVALID, "candidates.score[0]: nan; it must be"),
        (tiny.request(tiny.candidates("a", price=[])), INVALID, "candidates.price: holds 0; candidates.id holds 1"),
        (tiny.request(tiny.candidates("a"), top_k=2), INVALID, "top_k: 2; it must be 0 to 1"),
        (tiny.request(tiny.candidates("a"), query="q" * 513), INVALID, "query: 513 bytes; the limit is 512"),
        (tiny.request(tiny.candidates("a"), generation="new"), INVALID, "generation: is not a generation"),
        (tiny.request(tiny.candidates("a"), context=context(*[("i", VIEW)] * 257)), INVALID, "context.history: holds"),
        (
            tiny.request(tiny.candidates("a"), generation="0" * 64),
            grpc.StatusCode.FAILED_PRECONDITION,
            f"generation {'0' * 64} is not loaded",
        ),
    ],
)
async def test_bad_input_is_named(stub: Any, asked: ranker_pb2.RankRequest, code: grpc.StatusCode, words: str) -> None:
    got, message = await status(stub.Rank(asked, timeout=5))
    assert got == code
    assert message.startswith(words)


async def test_nobody_has_no_vector(stub: Any, retriever: ArrayRetriever) -> None:
    await near(stub)
    assert await status(stub.EncodeShopper(encoding(), timeout=5)) == (
        INVALID,
        "context.history: is empty: nobody's vector; search by popularity instead",
    )
    code, message = await status(stub.EncodeShopper(encoding(("unheard of", VIEW)), timeout=5))
    assert code == INVALID
    assert message.startswith("context.history: none of its items has a behaviour vector")


async def test_without_the_retriever_lists_go_on_and_vectors_come_back_with_it(stub: Any, port: int) -> None:
    columns = tiny.candidates("far", "away", popularity=[1.0, 100.0])
    asked = tiny.request(columns, context=context(("i53", VIEW)))
    assert list((await stub.Rank(asked, timeout=5)).order) == [1, 0]
    code, message = await status(stub.EncodeShopper(encoding(("gone", VIEW)), timeout=5))
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "retriever" in message
    held = ArrayRetriever(tiny.item_vectors(60))  # type: ignore[abstract]
    async with serving(held, port):
        await near(stub)


async def test_generations_change_under_traffic(
    stub: Any, process: Process, retriever: ArrayRetriever, first: Bundle, second: Bundle, tmp_path: Path
) -> None:
    await near(stub)
    columns = tiny.candidates("i1", "i2", popularity=[0.0, 1000.0])
    orders = {first.generation: [1, 0], second.generation: [0, 1]}
    seen: set[str] = set()
    done = asyncio.Event()

    async def ask() -> None:
        while not done.is_set():
            answer = await stub.Rank(tiny.request(columns), timeout=5)
            assert list(answer.order) == orders[answer.generation]
            seen.add(answer.generation)

    async with grpc.aio.insecure_channel(process.address) as channel:
        generations: Any = generations_pb2_grpc.GenerationsStub(channel)
        traffic = [asyncio.create_task(ask()) for _ in range(4)]
        prepare = generations_pb2.PrepareRequest(bundle=str(second.path), generation=second.generation)
        ready = (await generations.Prepare(prepare, timeout=20)).generation
        assert (ready.generation, ready.serving) == (second.generation, False)
        # The one prepared answers who asks for it by name, with the vectors that are held already.
        retriever.asked.clear()
        named = tiny.request(columns, generation=second.generation)
        assert list((await stub.Rank(named, timeout=5)).order) == [0, 1]
        assert retriever.asked == []
        third = tiny.write_ranker_bundle(tmp_path / "third", created_at="later")
        code, _ = await status(generations.Prepare(generations_pb2.PrepareRequest(bundle=str(third.path)), timeout=20))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        await generations.Switch(generations_pb2.SwitchRequest(generation=second.generation), timeout=5)
        await generations.Retire(generations_pb2.RetireRequest(generation=first.generation), timeout=5)
        old = tiny.request(columns, generation=first.generation)
        assert (await status(stub.Rank(old, timeout=5)))[0] == grpc.StatusCode.FAILED_PRECONDITION
        await stub.Rank(tiny.request(columns), timeout=5)

        none = tiny.write_ranker_bundle(tmp_path / "none", ranker=False)
        code, message = await status(
            generations.Prepare(generations_pb2.PrepareRequest(bundle=str(none.path)), timeout=20)
        )
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert "holds no ranker" in message

        # And back, so that the process is as the other tests expect it.
        await generations.Prepare(generations_pb2.PrepareRequest(bundle=str(first.path)), timeout=20)
        await generations.Switch(generations_pb2.SwitchRequest(generation=first.generation), timeout=5)
        await generations.Retire(generations_pb2.RetireRequest(generation=second.generation), timeout=5)
        done.set()
        await asyncio.gather(*traffic)
        assert seen == set(orders)


async def test_too_much_at_once_is_refused_and_the_rest_is_answered(first: Bundle) -> None:
    settings = {"ranker_max_candidates": 10_000, "ranker_max_waiting": 0, "ranker_retriever": "127.0.0.1:9"}
    with spawn(MODULE, bundle=first.path, **settings) as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            stub: Any = ranker_pb2_grpc.RankerStub(channel)
            asked = tiny.request(tiny.candidates(*map(str, range(6000))))

            async def ask() -> Any:
                return await stub.Rank(asked, timeout=20)

            answers = await asyncio.gather(*(ask() for _ in range(8)), return_exceptions=True)
            refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
            assert 0 < len(refused) < 8
            assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert len((await ask()).order) == 6000


def test_a_bundle_without_a_ranker_is_refused_with_what_to_run(tmp_path: Path) -> None:
    bundle = tiny.write_ranker_bundle(tmp_path / "bundle", ranker=False)
    with Process(MODULE, bundle=bundle.path) as process:
        assert process.wait(60) == 1
        assert "holds no ranker; train one with `python -m training train ranker`" in process.log()


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    bundle = tiny.write_ranker_bundle(tmp_path / "bundle")
    heads = bundle.path / "ranker/heads.onnx"
    heads.write_bytes(heads.read_bytes()[:-1] + b"?")
    with Process(MODULE, bundle=bundle.path) as process:
        assert process.wait(60) == 1
        assert "heads.onnx: its content is not what the manifest says" in process.log()


def test_it_drains(first: Bundle) -> None:
    with spawn(MODULE, bundle=first.path) as process:
        assert process.stop() == 0
