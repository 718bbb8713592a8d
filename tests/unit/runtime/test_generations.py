"""Generations: prepared beside what serves, switched, retired only when their requests have ended."""

import asyncio
from pathlib import Path

import pytest

from services.domain.bundle import Bundle, EncoderManifest, Manifest, write_bundle
from services.domain.checks import Invalid
from services.domain.text import TextTemplate
from services.runtime.errors import FailedPrecondition, NotFound, Overloaded
from services.runtime.generations import Generations
from souk.types.v1 import generations_pb2

READY = generations_pb2.GENERATION_STATE_READY
LOADING = generations_pb2.GENERATION_STATE_LOADING
FAILED = generations_pb2.GENERATION_STATE_FAILED


class Model:
    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.closed = False

    def check(self) -> None:
        if self.closed:
            raise RuntimeError("gone")

    async def close(self) -> None:
        self.closed = True


async def _load(bundle: Bundle) -> Model:
    return Model(bundle)


@pytest.fixture
def bundles(tmp_path: Path) -> list[Path]:
    """Three bundles; what their files hold is nobody's concern here."""
    made = []
    for n in range(3):
        path = tmp_path / f"bundle{n}"
        (path / "encoder").mkdir(parents=True)
        (path / "encoder/model.onnx").write_bytes(b"model")
        (path / "encoder/tokenizer.json").write_text("tokenizer")
        encoder = EncoderManifest(
            dim=4, max_tokens=16, space_version=f"{n:064x}", scripts=("latin",), template=TextTemplate()
        )
        write_bundle(path, Manifest(encoder, created_at=""))
        made.append(path)
    return made


async def test_the_first_serves_and_a_second_stands_beside_it_until_switched(bundles: list[Path]) -> None:
    generations = Generations(_load)
    first = await generations.prepare(bundles[0])
    second = await generations.prepare(bundles[1])
    assert (first.state, first.serving, second.serving) == (READY, True, False)
    assert await generations.prepare(bundles[1]) == second
    with generations.use("") as model:
        assert model.bundle.generation == first.generation
    with generations.use(second.generation) as model:
        assert model.bundle.generation == second.generation
    assert generations.switch(second.generation).serving
    with generations.use("") as model:
        assert model.bundle.generation == second.generation
    with pytest.raises(Overloaded, match="2 generations are held"):
        await generations.prepare(bundles[2])


async def test_one_is_let_go_only_when_its_requests_have_ended(bundles: list[Path]) -> None:
    generations = Generations(_load)
    first = (await generations.prepare(bundles[0])).generation
    second = (await generations.prepare(bundles[1])).generation
    with pytest.raises(FailedPrecondition, match="serves"):
        await generations.retire(first)
    with generations.use(second) as model:
        retiring = asyncio.create_task(generations.retire(second))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not model.closed
        assert not retiring.done()
        with pytest.raises(FailedPrecondition, match="not loaded"), generations.use(second):
            pass
    await retiring
    assert model.closed
    await generations.retire(second)
    assert [one.generation for one in generations.list()] == [first]


async def test_what_cannot_be_loaded_is_told_and_changes_nothing(bundles: list[Path], tmp_path: Path) -> None:
    async def load(bundle: Bundle) -> Model:
        if bundle.path == bundles[1]:
            raise RuntimeError("no such operator")
        return Model(bundle)

    generations = Generations(load)
    first = (await generations.prepare(bundles[0])).generation
    with pytest.raises(FailedPrecondition, match="no such operator"):
        await generations.prepare(bundles[1])
    assert [(one.state, one.serving) for one in generations.list()] == [(READY, True), (FAILED, False)]
    (bundles[2] / "encoder/tokenizer.json").write_text("{}")
    with pytest.raises(FailedPrecondition, match=r"tokenizer\.json"):
        await generations.prepare(bundles[2])
    with pytest.raises(NotFound, match="no bundle there"):
        await generations.prepare(tmp_path / "nowhere")
    with pytest.raises(FailedPrecondition, match="holds generation"):
        await generations.prepare(bundles[0], "0" * 64)
    with pytest.raises(FailedPrecondition, match="not loaded"):
        generations.switch("0" * 64)
    with pytest.raises(Invalid, match="64 hexadecimal"), generations.use("latest"):
        pass
    with generations.use("") as model:
        assert model.bundle.generation == first


async def test_a_caller_that_gives_up_leaves_the_loading_under_way(bundles: list[Path]) -> None:
    may_go_on, loading = asyncio.Event(), asyncio.Event()

    async def load(bundle: Bundle) -> Model:
        loading.set()
        await may_go_on.wait()
        return Model(bundle)

    generations = Generations(load)
    impatient = asyncio.create_task(generations.prepare(bundles[0]))
    await loading.wait()
    impatient.cancel()
    assert [one.state for one in generations.list()] == [LOADING]
    patient = asyncio.create_task(generations.prepare(bundles[0]))
    may_go_on.set()
    assert (await patient).state == READY
    generations.check()
    await generations.close()
    with pytest.raises(RuntimeError, match="gone"):
        generations.check()
