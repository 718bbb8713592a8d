"""Generations: prepared beside the one that serves, switched to when ready, retired when another serves."""

import asyncio
from pathlib import Path

import pytest

from services.domain.bundle import Bundle, EncoderManifest, Manifest, write_bundle
from services.domain.text import TextTemplate
from services.retriever.generations import Generations
from services.retriever.writes import SpaceKey
from services.runtime.errors import FailedPrecondition, NotFound, Overloaded
from souk.types.v1 import generations_pb2

READY, LOADING = generations_pb2.GENERATION_STATE_READY, generations_pb2.GENERATION_STATE_LOADING
FAILED = generations_pb2.GENERATION_STATE_FAILED


def bundle(path: Path, version: str) -> Bundle:
    (path / "encoder").mkdir(parents=True)
    for name in ("model.onnx", "tokenizer.json"):
        (path / "encoder" / name).write_text(name)
    encoder = EncoderManifest(4, 16, version, ("latin",), TextTemplate())
    return write_bundle(path, Manifest(encoder, "2026-01-01T00:00:00Z"))


class Indexes:
    """What the generations are told to do; loading ends when the test says so."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.begun = asyncio.Event()
        self.ready = asyncio.Event()
        self.error: Exception | None = None
        self.generations = Generations(self.add, self.remove, self.serve, lambda _version: 7)

    async def add(self, space: SpaceKey, generation: str) -> None:
        self.begun.set()
        await self.ready.wait()
        if self.error is not None:
            raise self.error
        self.done.append(f"add {space.version}")

    async def remove(self, space: SpaceKey, generation: str) -> None:
        self.done.append(f"remove {space.version}")

    def serve(self, generation: str) -> None:
        self.done.append("serve")

    def states(self) -> list[tuple[str, int, bool]]:
        return [(g.generation, g.state, g.serving) for g in self.generations.list()]


async def test_a_generation_is_prepared_switched_to_and_the_old_one_retired(tmp_path: Path) -> None:
    indexes = Indexes()
    generations = indexes.generations
    old, new = bundle(tmp_path / "old", "v1"), bundle(tmp_path / "new", "v2")
    generations.begin(old)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await generations.prepare(new.path, new.generation)
    # The caller gave up, the loading did not.
    assert indexes.states() == [(old.generation, READY, True), (new.generation, LOADING, False)]
    with pytest.raises(FailedPrecondition, match="not loaded and ready"):
        generations.switch(new.generation)
    indexes.ready.set()
    answer = await generations.prepare(new.path, "")
    assert (answer.generation, answer.state, answer.serving, answer.pending_items) == (new.generation, READY, False, 7)
    assert (await generations.prepare(new.path, "")).state == READY
    with pytest.raises(FailedPrecondition, match="serves"):
        await generations.retire(old.generation)
    assert generations.switch(new.generation).serving
    await generations.retire(old.generation)
    await generations.retire(old.generation)
    assert indexes.done == ["add v2", "serve", "remove v1"]
    assert indexes.states() == [(new.generation, READY, True)]


async def test_no_more_than_two_are_held(tmp_path: Path) -> None:
    indexes = Indexes()
    indexes.ready.set()
    indexes.generations.begin(bundle(tmp_path / "a", "v1"))
    await indexes.generations.prepare(bundle(tmp_path / "b", "v2").path, "")
    with pytest.raises(Overloaded, match="2 generations are held"):
        await indexes.generations.prepare(bundle(tmp_path / "c", "v3").path, "")


async def test_what_cannot_be_loaded_is_told_and_the_old_one_goes_on(tmp_path: Path) -> None:
    indexes = Indexes()
    indexes.ready.set()
    old = bundle(tmp_path / "old", "v1")
    indexes.generations.begin(old)
    with pytest.raises(NotFound, match="no bundle there"):
        await indexes.generations.prepare(tmp_path / "nothing", "")
    other = bundle(tmp_path / "other", "v2")
    with pytest.raises(FailedPrecondition, match=f"holds generation {other.generation}, not"):
        await indexes.generations.prepare(other.path, old.generation)
    (other.path / "encoder/model.onnx").write_text("altered")
    with pytest.raises(FailedPrecondition, match=r"model\.onnx"):
        await indexes.generations.prepare(other.path, "")
    assert indexes.states() == [(old.generation, READY, True), (other.generation, FAILED, False)]
    # Mended, it loads; failing in the indexes it is told again.
    (other.path / "encoder/model.onnx").write_text("model.onnx")
    indexes.error = FailedPrecondition("no room for a second index")
    with pytest.raises(FailedPrecondition, match="no room"):
        await indexes.generations.prepare(other.path, "")
    assert indexes.states()[1] == (other.generation, FAILED, False)
    indexes.error = None
    assert (await indexes.generations.prepare(other.path, "")).state == READY
    assert [state for _, state, _ in indexes.states()] == [READY, READY]


async def test_one_that_is_still_loading_can_be_retired(tmp_path: Path) -> None:
    indexes = Indexes()
    indexes.generations.begin(bundle(tmp_path / "old", "v1"))
    new = bundle(tmp_path / "new", "v2")
    preparing = asyncio.create_task(indexes.generations.prepare(new.path, ""))
    async with asyncio.timeout(10):
        await indexes.begun.wait()
    await indexes.generations.retire(new.generation)
    with pytest.raises(FailedPrecondition, match="was retired while it was loading"):
        await preparing
    assert indexes.done == ["remove v2"]
    assert len(indexes.states()) == 1
