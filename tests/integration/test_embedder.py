"""The embedder as a real process: vectors, errors, abandoned calls, overload, drain."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from services.embedder.encoder import CPU
from services.runtime.bfloat16 import OPENVINO
from souk.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from souk.types.v1 import generations_pb2, generations_pb2_grpc, types_pb2
from souk.vectors import unpack_matrix, unpack_vector
from tests.integration.processes import Process, spawn
from training.encoder.export import default_model

MODULE = "services.embedder"
INVALID = grpc.StatusCode.INVALID_ARGUMENT
ITEM = types_pb2.Item(id="1", title="Desk lamp", brand="Halo", category_path=["Home", "Lamps"])


@pytest.fixture(scope="module")
def process(bundle: Path) -> Iterator[Process]:
    with spawn(MODULE, bundle=bundle) as process:
        yield process


@pytest.fixture
async def stub(process: Process) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(process.address) as channel:
        yield embedder_pb2_grpc.EmbedderStub(channel)


@pytest.fixture
async def generations(process: Process) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(process.address) as channel:
        yield generations_pb2_grpc.GenerationsStub(channel)


def request(*texts: str, **options: Any) -> embedder_pb2.EmbedRequest:
    return embedder_pb2.EmbedRequest(
        inputs=[embedder_pb2.Input(text=text) for text in texts], options=embedder_pb2.Options(**options)
    )


async def status(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def _answer(call: Any) -> Any:
    return await call


async def test_vectors_are_those_of_transformers(stub: Any) -> None:
    texts = ["headphones", "a lamp for two desks, dimmable, warm white", "WH-1000XM4", "word " * 400]
    tokenizer, model = AutoTokenizer.from_pretrained(default_model()), AutoModel.from_pretrained(default_model())
    read = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        hidden = model.eval()(**read).last_hidden_state
    mask = read["attention_mask"].unsqueeze(-1)
    pooled = ((hidden * mask).sum(1) / mask.sum(1)).numpy()

    info = await stub.GetInfo(embedder_pb2.GetInfoRequest(), timeout=5)
    near = 1e-5 if info.provider == CPU else 3e-3  # bfloat16 has three digits
    answer = await stub.Embed(request(*texts), timeout=20)
    scaled = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(unpack_matrix(answer.vectors), scaled, atol=near)
    assert [reading.tokens for reading in answer.readings] == read["attention_mask"].sum(1).tolist()
    assert [reading.truncated for reading in answer.readings] == [False, False, False, True]

    answer = await stub.Embed(request(*texts, normalize=False), timeout=20)
    np.testing.assert_allclose(unpack_matrix(answer.vectors), pooled, atol=near * np.linalg.norm(pooled, axis=1).max())

    answer = await stub.Embed(request(*texts, dimensions=8), timeout=20)
    cut = pooled[:, :8]
    np.testing.assert_allclose(
        unpack_matrix(answer.vectors), cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=10 * near
    )


async def test_a_text_has_one_vector_in_any_company(stub: Any) -> None:
    texts = ["tv", "noise cancelling headphones", "a stand for two monitors " * 8, "word " * 300, "HP 305XL"]
    # As items: their vectors are not cached, so each call computes.
    item = embedder_pb2.ROLE_ITEM
    together = unpack_matrix((await stub.Embed(request(*texts, role=item), timeout=20)).vectors)
    alone = await asyncio.gather(*(stub.Embed(request(text, role=item), timeout=20) for text in texts))
    for row, answer in zip(together, alone, strict=True):
        assert row @ unpack_matrix(answer.vectors)[0] > 0.9999


async def test_an_item_is_its_text(stub: Any) -> None:
    answer = await stub.Embed(embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(item=ITEM)]), timeout=10)
    text = await stub.Embed(request("Desk lamp. Halo. Home, Lamps"), timeout=10)
    np.testing.assert_allclose(unpack_matrix(answer.vectors), unpack_matrix(text.vectors), atol=1e-5)
    assert [timing.stage for timing in answer.timings] == ["tokenise", "queue", "inference"]


async def test_it_says_what_it_cannot_read(stub: Any) -> None:
    answer = await stub.Embed(request("red shoes", "无线蓝牙耳机", "sony wh-1000xm4 耳机"), timeout=10)
    assert [reading.covered for reading in answer.readings] == [True, False, True]
    assert unpack_matrix(answer.vectors).any(axis=1).tolist() == [True, False, True]


async def test_what_it_cannot_read_costs_no_inference(stub: Any) -> None:
    answer = await stub.Embed(request("蓝牙音箱", role=embedder_pb2.ROLE_ITEM), timeout=10)
    assert [timing.stage for timing in answer.timings] == ["tokenise"]


async def test_info(stub: Any, process: Process) -> None:
    info = await stub.GetInfo(embedder_pb2.GetInfoRequest(), timeout=5)
    answer = await stub.Embed(request("shoes"), timeout=5)
    assert (info.space.dim, info.max_tokens, info.max_batch) == (384, 256, 256)
    assert info.provider in (CPU, OPENVINO), "what auto has found"
    assert list(info.scripts) == ["latin"]
    assert (info.generation, info.space.version) == (answer.generation, answer.space_version)


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (request(), INVALID, "inputs: holds 0; it must hold 1 to 256"),
        (request(*["a"] * 257), INVALID, "inputs: holds 257; it must hold 1 to 256"),
        (request("a", " "), INVALID, "inputs[1].text: is empty"),
        (request("a", "b", "x" * 32_769), INVALID, "inputs[2].text: 32769 bytes; the limit is 32768"),
        (request("a\0b"), INVALID, "inputs[0].text: holds a null character"),
        (embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input()]), INVALID, "inputs[0]: holds neither text nor item"),
        (
            embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(item=types_pb2.Item(id="1"))]),
            INVALID,
            "inputs[0].item.title: is empty",
        ),
        (request("a", role=7), INVALID, "options.role: 7 is not a role"),
        (request("a", dimensions=0), INVALID, "options.dimensions: 0; it must be 1 to 384"),
        (request("a", dimensions=385), INVALID, "options.dimensions: 385; it must be 1 to 384"),
        (request("a", "word " * 400, truncate=False), INVALID, "inputs[1]: more than the 256 tokens"),
        (
            request("a", "word " * 400, truncate=False, role=embedder_pb2.ROLE_ITEM),
            INVALID,
            "inputs[1]: more than the 256 tokens",
        ),
        (request("a", generation="latest"), INVALID, "options.generation: is not a generation: 64 hexadecimal digits"),
        (request("a", generation="0" * 64), grpc.StatusCode.FAILED_PRECONDITION, f"generation {'0' * 64} is not load"),
    ],
)
async def test_bad_input_is_named(
    stub: Any, asked: embedder_pb2.EmbedRequest, code: grpc.StatusCode, words: str
) -> None:
    got, message = await status(stub.Embed(asked, timeout=10))
    assert got == code
    assert message.startswith(words)


async def test_a_stream_answers_each_input(stub: Any) -> None:
    texts = [f"article number {n}" for n in range(200)]
    texts[50], texts[51] = "", "x" * 40_000

    async def inputs() -> AsyncIterator[embedder_pb2.EmbedStreamRequest]:
        for n, text in enumerate(texts):
            yield embedder_pb2.EmbedStreamRequest(index=n, input=embedder_pb2.Input(text=text))

    answers = {answer.index: answer async for answer in stub.EmbedStream(inputs(), timeout=30)}
    assert sorted(answers) == list(range(200))
    assert {n for n, answer in answers.items() if answer.HasField("failure")} == {50, 51}
    assert answers[50].failure.code == INVALID.value[0]
    assert answers[51].failure.message == "inputs[0].text: 40000 bytes; the limit is 32768"
    one = await stub.Embed(request(texts[7]), timeout=5)
    np.testing.assert_allclose(unpack_vector(answers[7].value.vector), unpack_matrix(one.vectors)[0], atol=1e-5)


async def test_it_outlives_a_thousand_calls_of_which_many_are_abandoned(process: Process, stub: Any) -> None:
    dice = random.Random(7)
    slots = asyncio.Semaphore(64)
    ends: list[str] = []

    async def call(n: int) -> None:
        async with slots:
            kind = dice.choice(["good", "good", "bad", "cancelled", "hurried", "disconnected"])
            texts = [f"call {n} " + "word " * dice.randrange(30) for _ in range(dice.choice([1, 1, 1, 4]))]
            if kind == "bad":
                texts[0] = dice.choice(["", "a\0", "y" * 33_000])
            if kind == "disconnected":
                channel = grpc.aio.insecure_channel(process.address, options=[("grpc.use_local_subchannel_pool", 1)])
                pending = embedder_pb2_grpc.EmbedderStub(channel).Embed(request(*texts), timeout=20)
                await asyncio.sleep(dice.random() * 0.02)
                await channel.close()
            else:
                pending = stub.Embed(request(*texts), timeout=dice.random() * 0.02 if kind == "hurried" else 20)
            if kind == "cancelled":
                await asyncio.sleep(dice.random() * 0.02)
                pending.cancel()
            try:
                await pending
                ends.append("good" if kind == "good" else "other")
            except (grpc.aio.AioRpcError, asyncio.CancelledError):
                assert kind != "good"

    await asyncio.wait_for(asyncio.gather(*(call(n) for n in range(1000))), 120)
    assert ends.count("good") > 200
    answer = await stub.Embed(request("and one more"), timeout=5)
    assert answer.vectors.rows == 1


async def test_a_generation_is_changed_under_traffic(
    generations: Any, stub: Any, process: Process, bundle: Path, tmp_path: Path
) -> None:
    (old,) = (await generations.ListGenerations(generations_pb2.ListGenerationsRequest(), timeout=5)).generations
    shutil.copytree(bundle, tmp_path / "new")
    manifest = tmp_path / "new/manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    stop = asyncio.Event()
    seen: list[str] = []

    async def traffic() -> None:
        while not stop.is_set():
            seen.append((await stub.Embed(request(f"text {len(seen)}"), timeout=10)).generation)

    running = asyncio.create_task(traffic())
    prepare = generations_pb2.PrepareRequest(bundle=str(tmp_path / "new"))
    new = (await generations.Prepare(prepare, timeout=30)).generation
    assert new.state == generations_pb2.GENERATION_STATE_READY
    pinned = await stub.Embed(request("pinned", generation=new.generation), timeout=10)
    assert pinned.generation == new.generation
    await generations.Switch(generations_pb2.SwitchRequest(generation=new.generation), timeout=10)
    await generations.Retire(generations_pb2.RetireRequest(generation=old.generation), timeout=10)
    assert (await stub.Embed(request("after"), timeout=10)).generation == new.generation
    stop.set()
    await running
    assert set(seen) <= {old.generation, new.generation}
    # Back, for the other tests.
    await generations.Prepare(generations_pb2.PrepareRequest(bundle=str(bundle)), timeout=30)
    await generations.Switch(generations_pb2.SwitchRequest(generation=old.generation), timeout=10)
    await generations.Retire(generations_pb2.RetireRequest(generation=new.generation), timeout=10)


async def test_a_bundle_that_cannot_be_prepared_is_named(generations: Any, bundle: Path, tmp_path: Path) -> None:
    nowhere = generations_pb2.PrepareRequest(bundle=str(tmp_path / "nowhere"))
    assert (await status(generations.Prepare(nowhere, timeout=10)))[0] == grpc.StatusCode.NOT_FOUND
    shutil.copytree(bundle, tmp_path / "broken")
    with (tmp_path / "broken/encoder/model.onnx").open("r+b") as file:
        file.truncate(50_000)
        # Another generation, else it would be known already.
    (tmp_path / "broken/manifest.json").write_text((tmp_path / "broken/manifest.json").read_text() + "\n\n")
    broken = generations_pb2.PrepareRequest(bundle=str(tmp_path / "broken"))
    code, message = await status(generations.Prepare(broken, timeout=10))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "broken/encoder/model.onnx: 50000 bytes" in message


async def test_too_much_work_is_refused_while_small_work_passes(bundle: Path) -> None:
    with spawn(MODULE, bundle=bundle, embedder_max_pending_tokens=4096) as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            stub: Any = embedder_pb2_grpc.EmbedderStub(channel)
            large = request(*["word " * 200] * 16, role=embedder_pb2.ROLE_ITEM)
            calls = [stub.Embed(large, timeout=60) for _ in range(4)]
            ends = await asyncio.gather(*calls, return_exceptions=True)
            codes = [end.code() for end in ends if isinstance(end, grpc.aio.AioRpcError)]
            assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 3
            assert (await stub.Embed(request("small"), timeout=10)).vectors.rows == 1
            code, message = await status(
                stub.Embed(request(*["word " * 200] * 32, role=large.options.role), timeout=10)
            )
            assert code == INVALID
            assert message == "inputs: 6464 tokens; at most 4096 may wait or run at once"


async def test_sigterm_lets_the_work_under_way_end(bundle: Path) -> None:
    with spawn(MODULE, bundle=bundle, threads=1, drain_seconds=10) as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            stub: Any = embedder_pb2_grpc.EmbedderStub(channel)
            stream = stub.EmbedStream(timeout=60)
            await stream.write(embedder_pb2.EmbedStreamRequest(input=embedder_pb2.Input(text="begun")))
            assert (await stream.read()).value.vector.dim == 384
            calls = [
                asyncio.create_task(_answer(stub.Embed(request(*[f"{n} " + "word " * 100] * 8), timeout=60)))
                for n in range(8)
            ]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            process.terminate()
            answers = await asyncio.gather(*calls)
            assert [answer.vectors.rows for answer in answers] == [8] * 8
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert process.wait(15) == 0, process.log()


def test_a_damaged_bundle_fails_the_start_and_is_named(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    with (tmp_path / "bundle/encoder/model.onnx").open("r+b") as file:
        file.truncate(1_000_000)
    with Process(MODULE, bundle=tmp_path / "bundle") as process:
        assert process.wait() == 1
        assert f"{tmp_path}/bundle/encoder/model.onnx: 1000000 bytes" in process.log()


def test_a_missing_bundle_names_the_setting(tmp_path: Path) -> None:
    with Process(MODULE, bundle=tmp_path / "nowhere") as process:
        assert process.wait() == 1
        assert "SOUK_BUNDLE must name the directory of a bundle" in process.log()


async def test_exactly_float32_by_setting(bundle: Path) -> None:
    with spawn(MODULE, bundle=bundle, embedder_provider=CPU) as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            info = await embedder_pb2_grpc.EmbedderStub(channel).GetInfo(embedder_pb2.GetInfoRequest(), timeout=5)
            assert info.provider == CPU


def test_a_provider_that_is_not_here_fails_the_start(bundle: Path) -> None:
    with Process(MODULE, bundle=bundle, embedder_provider="CUDAExecutionProvider") as process:
        assert process.wait() == 1
        assert "provider CUDAExecutionProvider is not installed; here are" in process.log()
