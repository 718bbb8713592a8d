"""Generations: prepared beside the one that serves, switched to when ready, retired when another serves."""

import asyncio
from pathlib import Path

import pytest

from services.domain.bundle import (
    Bundle,
    ColdstartManifest,
    EncoderManifest,
    Manifest,
    RankerManifest,
    read_bundle,
    write_bundle,
)
from services.domain.text import TextTemplate
from services.retriever.generations import Generations, Spoken, spoken_by
from services.runtime.errors import FailedPrecondition, NotFound, Overloaded
from souk.types.v1 import generations_pb2, types_pb2

READY, LOADING = generations_pb2.GENERATION_STATE_READY, generations_pb2.GENERATION_STATE_LOADING
FAILED = generations_pb2.GENERATION_STATE_FAILED


def bundle(path: Path, version: str, behaviour: str = "", topics: str = "") -> Bundle:
    encoder = EncoderManifest(4, 16, version, ("latin",), TextTemplate())
    ranker = RankerManifest(2, 8, behaviour, version, (), {}) if behaviour else None
    coldstart = ColdstartManifest(topics, version, ("tea",)) if topics else None
    files = [encoder.model, encoder.tokenizer]
    if ranker is not None:
        files += ranker.files
    if coldstart is not None:
        files.append(coldstart.topics)
    for name in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(Path(name).name)
    return write_bundle(path, Manifest(encoder, "2026-01-01T00:00:00Z", ranker=ranker, coldstart=coldstart))


def alone(bundle: Bundle) -> Spoken:
    """What a retriever without coldstart and primary serves of a bundle."""
    return spoken_by(bundle, coldstart=False, follower=False)


class Indexes:
    """What the generations are told to do; loading ends when the test says so."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.begun = asyncio.Event()
        self.ready = asyncio.Event()
        self.error: Exception | None = None
        self.pending = {"v2": 7}
        self.generations = Generations(
            alone, self.add, self.remove, self.serve, lambda version: self.pending.get(version, 0)
        )

    async def add(self, spoken: Spoken, generation: str) -> None:
        self.begun.set()
        await self.ready.wait()
        if self.error is not None:
            raise self.error
        self.done.append(f"add {spoken.versions[0]}")

    async def remove(self, spoken: Spoken, generation: str) -> None:
        self.done.append(f"remove {spoken.versions[0]}")

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


def test_a_bundle_with_a_ranker_speaks_two_spaces(tmp_path: Path) -> None:
    both = bundle(tmp_path / "both", "v1", "b1", "t1")
    spoken = spoken_by(both, coldstart=True, follower=False)
    assert [(s.space, s.version, s.dim) for s in spoken.spaces] == [
        (types_pb2.SPACE_CONTENT, "v1", 4),
        (types_pb2.SPACE_BEHAVIOUR, "b1", 2),
    ]
    assert spoken.profile is not None
    assert (spoken.profile.content, spoken.profile.behaviour) == spoken.spaces
    assert not spoken.missing
    # A follower replicates both spaces and tells no one.
    following = spoken_by(both, coldstart=True, follower=True)
    assert (following.spaces, following.profile, following.missing) == (spoken.spaces, None, "")
    # Without a ranker coldstart is told all the same; without a coldstart content is all there is.
    content = spoken_by(bundle(tmp_path / "content", "v1"), coldstart=True, follower=False)
    assert content.spaces == spoken.spaces[:1]
    assert content.profile is not None
    assert content.profile.behaviour is None
    without = alone(both)
    assert (without.spaces, without.profile) == (spoken.spaces[:1], None)
    assert "SOUK_RETRIEVER_COLDSTART" in without.missing
    assert not alone(read_bundle(tmp_path / "content")).missing


def test_what_coldstart_is_told_is_told_anew_for_other_spaces_alone(tmp_path: Path) -> None:
    def told(*versions: str, encoded: str = "v1") -> str:
        made = bundle(tmp_path / "-".join((encoded, *versions, str(len(list(tmp_path.iterdir()))))), encoded, *versions)
        profile = spoken_by(made, coldstart=True, follower=False).profile
        assert profile is not None
        return profile.version

    first = told("b1", "t1")
    assert told("b1", "t1") == first
    others = {told("b2", "t1"), told("b1", "t2"), told("b1"), told(), told("b1", "t1", encoded="v2"), told("b1t1")}
    assert len(others | {first}) == 7


async def test_a_space_that_cannot_be_served_is_told(tmp_path: Path) -> None:
    indexes = Indexes()
    both = bundle(tmp_path / "both", "v2", "b1")
    indexes.generations.begin(both)
    (listed,) = indexes.generations.list()
    assert (listed.state, listed.message) == (READY, "no behaviour vectors: SOUK_RETRIEVER_COLDSTART is not set")


async def test_pending_items_are_those_that_lack_a_vector_of_any_space(tmp_path: Path) -> None:
    pending = {"v1": 2, "b1": 5}

    async def nothing(spoken: Spoken, generation: str) -> None:
        """Nothing to bring in or to let go of."""

    generations = Generations(
        lambda bundle: spoken_by(bundle, coldstart=True, follower=False),
        nothing,
        nothing,
        lambda _generation: None,
        pending.__getitem__,
    )
    generations.begin(bundle(tmp_path / "both", "v1", "b1"))
    assert generations.list()[0].pending_items == 5
    pending["v1"] = 6
    assert generations.list()[0].pending_items == 6


async def test_who_asks_in_the_moment_a_load_ends_is_told_that_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexes = Indexes()
    old, new = bundle(tmp_path / "old", "v1"), bundle(tmp_path / "new", "v2")
    indexes.generations.begin(old)
    first = asyncio.create_task(indexes.generations.prepare(new.path, ""))
    await indexes.begun.wait()
    read = asyncio.Event()

    async def named(*_args: object) -> str:
        await read.wait()
        return new.generation

    monkeypatch.setattr("services.retriever.generations.asyncio.to_thread", named)
    second = asyncio.create_task(indexes.generations.prepare(new.path, ""))
    await asyncio.sleep(0)
    # Both go on in the same round of the loop: the load ends before the second caller looks for it.
    indexes.ready.set()
    read.set()
    assert (await second).state == READY
    assert (await first).state == READY
