"""Generations a process holds, and the cache of query vectors, on real bundles."""

import asyncio
import json
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from services.embedder.models import Engine, Model, generations
from services.embedder.settings import EmbedderSettings
from services.runtime.errors import FailedPrecondition, NotFound, Overloaded
from services.runtime.generations import Generations
from services.runtime.telemetry import StageClock
from souk.types.v1 import generations_pb2

Models = Generations[Model]
READY, FAILED = generations_pb2.GENERATION_STATE_READY, generations_pb2.GENERATION_STATE_FAILED


def another(bundle: Path, path: Path, **changes: object) -> Path:
    """A bundle of the same files under another manifest, so another generation."""
    shutil.copytree(bundle, path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["encoder"] |= changes
    manifest["created_at"] = path.name
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


@pytest.fixture
async def engine(bundle: Path) -> AsyncIterator[Engine]:
    engine = Engine.of(EmbedderSettings(bundle=bundle, cache_rows=100, threads=2))
    yield engine
    engine.close()


@pytest.fixture
async def models(engine: Engine, bundle: Path) -> AsyncIterator[Models]:
    models = generations(engine)
    await models.prepare(bundle)
    yield models
    await models.close()


async def test_the_first_generation_serves_and_the_next_waits_for_the_switch(
    models: Models, bundle: Path, tmp_path: Path
) -> None:
    old = models.serving
    new = (await models.prepare(another(bundle, tmp_path / "new"))).generation
    assert models.serving == old
    with models.use("") as first, models.use(new) as second:
        assert (first.generation, second.generation) == (old, new)
    with pytest.raises(FailedPrecondition, match="Switch first"):
        await models.retire(old)
    assert models.switch(new).serving
    assert models.serving == new
    await models.retire(old)
    await models.retire(old)
    with pytest.raises(FailedPrecondition, match=f"generation {old} is not loaded; {new} serves"):
        models.use(old).__enter__()
    assert [each.generation for each in models.list()] == [new]


async def test_two_are_held_at_most(models: Models, bundle: Path, tmp_path: Path) -> None:
    second = another(bundle, tmp_path / "second")
    first_time = await models.prepare(second)
    assert await models.prepare(second) == first_time
    with pytest.raises(Overloaded, match="2 generations are held"):
        await models.prepare(another(bundle, tmp_path / "third"))


async def test_what_cannot_be_loaded_is_told_and_what_served_goes_on(
    models: Models, bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        await models.prepare(tmp_path / "nowhere")
    with pytest.raises(FailedPrecondition, match="holds generation [0-9a-f]{64}, not " + "0" * 64):
        await models.prepare(bundle, "0" * 64)
    broken = another(bundle, tmp_path / "broken")
    with (broken / "encoder/model.onnx").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(FailedPrecondition, match=r"encoder/model\.onnx: 1000 bytes"):
        await models.prepare(broken)
    mistaken = another(bundle, tmp_path / "mistaken", dim=100)
    with pytest.raises(
        FailedPrecondition, match=r"cannot be loaded: the model gave \(4, 384\) for 4 texts of 100 dimensions"
    ):
        await models.prepare(mistaken)
    assert [each.state for each in models.list()] == [READY, FAILED]
    with models.use("") as model:
        assert len((await model.embed(["shoes"], StageClock())).tokens) == 1


async def test_retire_waits_for_the_requests_under_way(models: Models, bundle: Path, tmp_path: Path) -> None:
    old = models.serving
    models.switch((await models.prepare(another(bundle, tmp_path / "new"))).generation)
    with models.use(old) as model:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await models.retire(old)
        assert (await model.embed(["shoes"], StageClock())).vectors.shape == (1, 384)
    await models.retire(old)


async def test_a_cached_query_is_the_same_and_not_computed_again(models: Models) -> None:
    texts = ["red shoes", "无线耳机", "word " * 300, "red shoes"]
    first_clock, second_clock = StageClock(), StageClock()
    with models.use("") as model:
        plain = await model.embed(texts, StageClock())
        first = await model.embed(texts, first_clock, cached=True)
        second = await model.embed(texts, second_clock, cached=True)
    for each in (first, second):
        np.testing.assert_allclose(each.vectors, plain.vectors, atol=1e-5)
        assert (each.tokens, each.truncated, each.covered) == (plain.tokens, plain.truncated, plain.covered)
    assert plain.truncated == [False, False, True, False]
    assert plain.covered == [True, False, True, True]
    assert [timing.stage for timing in first_clock.timings()] == ["tokenise", "queue", "inference"]
    assert second_clock.timings() == []


async def test_a_short_text_does_not_wait_for_the_tokenisers_thread(models: Models, engine: Engine) -> None:
    go = threading.Event()
    engine.tokeniser.submit(go.wait, 10)
    with models.use("") as model:
        long = asyncio.create_task(model.embed(["a long text " * 100], StageClock()))
        try:
            short = await asyncio.wait_for(model.embed(["red shoes", "blue shoes"], StageClock()), 5)
            assert short.tokens == [4, 4]
            assert not long.done()
        finally:
            go.set()
        assert (await long).truncated == [True]
