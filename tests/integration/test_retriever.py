"""A retriever process beside an embedder process: written, found, kept."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import grpc
import numpy as np
import pytest

from services.domain.bundle import MANIFEST, Bundle, read_bundle, write_bundle
from services.domain.text import TextTemplate
from souk.retriever.v1 import admin_pb2, retriever_pb2
from souk.types.v1 import generations_pb2, types_pb2
from souk.types.v1.generations_pb2_grpc import GenerationsStub
from souk.vectors import unpack_matrix
from tests.integration.processes import Process, spawn
from tests.integration.retrievers import NOWHERE, Retriever, item, outcomes, shop, until

PRESENT, PENDING = retriever_pb2.PRESENCE_PRESENT, retriever_pb2.PRESENCE_PENDING
UNCOVERED, NOT_FOUND = retriever_pb2.PRESENCE_UNCOVERED, retriever_pb2.PRESENCE_NOT_FOUND


@pytest.fixture(scope="module")
def embedder(bundle: Path) -> Iterator[Process]:
    with spawn("services.embedder", bundle=bundle) as process:
        yield process


@pytest.fixture
def retriever(bundle: Path, tmp_path: Path, embedder: Process) -> Iterator[Retriever]:
    with Retriever(bundle, tmp_path / "data", embedder.address) as retriever:
        yield retriever


def failure(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """How a call failed."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code(), raised.value.details() or ""


def listed(retriever: Retriever) -> list[generations_pb2.Generation]:
    request = generations_pb2.ListGenerationsRequest()
    return list(retriever.generations.ListGenerations(request, timeout=30).generations)


def remade(bundle: Path, path: Path, **changes: Any) -> Bundle:
    """A bundle like another with some facts of its encoder changed."""
    copytree(bundle, path)
    (path / MANIFEST).unlink()
    manifest = read_bundle(bundle).manifest
    return write_bundle(path, replace(manifest, encoder=replace(manifest.encoder, **changes)))


def test_an_item_is_found_by_words_at_once_and_then_by_vector(retriever: Retriever) -> None:
    results = retriever.upsert(
        item("kettle", "Electric kettle of brushed steel"),
        item("teapot", "Porcelain teapot with lid"),
        item("drill", "Cordless power drill"),
    )
    assert outcomes(results) == ["CREATED"] * 3
    assert [r.sequence for r in results] == [1, 2, 3]
    assert retriever.words("kettle") == ["kettle"]
    until(lambda: list(retriever.vectors("kettle", "teapot", "drill").presence) == [PRESENT] * 3, "vectors")
    assert retriever.near("kettle") == ["teapot", "drill"]
    answer = retriever.vectors("kettle", "unknown")
    assert list(answer.presence) == [PRESENT, NOT_FOUND]
    assert list(answer.revisions) == [1, 0]
    assert np.linalg.norm(unpack_matrix(answer.vectors)[0]) == pytest.approx(1, abs=1e-5)
    info = retriever.info()
    assert (info.items, info.primary, info.sequence) == (3, True, 6)
    assert (info.indexes[0].pending, info.indexes[0].uncovered) == (0, 0)


def test_waiting_for_the_vector(retriever: Retriever) -> None:
    items = shop(150)
    assert outcomes(retriever.upsert(*items, wait=admin_pb2.WAIT_INDEXED, seconds=120)) == ["CREATED"] * 150
    assert set(retriever.vectors(*(i.id for i in items)).presence) == {PRESENT}
    assert outcomes(retriever.upsert(*items, wait=admin_pb2.WAIT_INDEXED)) == ["UNCHANGED"] * 150


def test_a_text_that_the_encoder_cannot_read_is_uncovered(retriever: Retriever) -> None:
    retriever.upsert(item("red", "红色男士运动鞋"), item("shoe", "running shoe"), wait=admin_pb2.WAIT_INDEXED)
    assert list(retriever.vectors("red", "shoe").presence) == [UNCOVERED, PRESENT]
    assert retriever.words("运动鞋") == ["red"]
    leg = retriever_pb2.Leg(name="i", item=retriever_pb2.ItemLeg(space=types_pb2.SPACE_CONTENT, item_id="red"))
    (report,) = retriever.reads.Search(retriever_pb2.SearchRequest(legs=[leg], k=5)).reports
    assert report.vector_missing


def test_a_price_keeps_the_vector_and_a_title_makes_another(retriever: Retriever) -> None:
    retriever.upsert(item("a", "Garden chair", 1), wait=admin_pb2.WAIT_INDEXED)
    before = unpack_matrix(retriever.vectors("a").vectors)
    retriever.upsert(item("a", "Garden chair", 2, price=49.0, currency="EUR", stock=3))
    answer = retriever.vectors("a")
    assert (answer.presence[0], answer.revisions[0]) == (PRESENT, 2)
    assert np.array_equal(unpack_matrix(answer.vectors), before)
    retriever.upsert(item("a", "Office chair", 3), wait=admin_pb2.WAIT_INDEXED)
    answer = retriever.vectors("a")
    assert answer.revisions[0] == 3
    assert not np.array_equal(unpack_matrix(answer.vectors), before)


def test_repeating_a_write_changes_nothing(retriever: Retriever) -> None:
    items = shop(20)
    first = retriever.upsert(*items)
    again = retriever.upsert(*items)
    assert outcomes(again) == ["UNCHANGED"] * 20
    assert [r.sequence for r in again] == [r.sequence for r in first]
    gone = admin_pb2.ItemRef(item_id="i3", revision=2)
    assert outcomes(retriever.delete(gone)) == ["DELETED"]
    assert outcomes(retriever.delete(gone)) == ["UNCHANGED"]
    assert outcomes(retriever.upsert(items[3])) == ["STALE"]
    assert retriever.held("i3", "i4")[0] is None
    assert "i3" not in retriever.words("3")


def test_wrong_writes_are_told_exactly(retriever: Retriever) -> None:
    results = retriever.upsert(item("a", "Good"), item("b", ""), item("", "No id"), item("c", "Price", price=-1))
    assert outcomes(results) == ["CREATED", "INVALID", "INVALID", "INVALID"]
    assert [r.message.split(":")[0] for r in results[1:]] == ["items[1].title", "items[2].id", "items[3].price"]
    empty = admin_pb2.UpsertRequest()
    good = admin_pb2.UpsertRequest(items=[item("d", "Before the bad batch")])
    answers: list[admin_pb2.UpsertResponse] = []
    stream = retriever.writes.Upsert(iter([good, empty]), timeout=30)
    assert failure(lambda: answers.extend(stream)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "items: holds 0; it must hold 1 to 1000",
    )
    assert len(answers) == 1
    assert retriever.held("d")[0] is not None
    code, message = failure(lambda: retriever.writes.Delete(admin_pb2.DeleteRequest(), timeout=30))
    assert (code, message) == (grpc.StatusCode.INVALID_ARGUMENT, "items: holds 0; it must hold 1 to 1000")
    code, message = failure(lambda: retriever.changes(after=10_000))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith("from_sequence: 10000 is ahead of this catalogue")
    code, _ = failure(lambda: retriever.held())
    assert code == grpc.StatusCode.INVALID_ARGUMENT


def test_a_batch_of_searches_has_a_result_each(retriever: Retriever) -> None:
    retriever.upsert(item("a", "Kettle"))
    good = retriever_pb2.SearchRequest(
        legs=[retriever_pb2.Leg(name="w", words=retriever_pb2.WordsLeg(query="kettle"))], k=5
    )
    unknown = retriever_pb2.SearchRequest(
        legs=[
            retriever_pb2.Leg(name="i", item=retriever_pb2.ItemLeg(space=types_pb2.SPACE_CONTENT, item_id="nowhere"))
        ],
        k=5,
    )
    malformed = retriever_pb2.SearchRequest(legs=good.legs, k=0)
    elsewhere = retriever_pb2.SearchRequest(legs=good.legs, k=5, generation="0" * 64)
    request = retriever_pb2.SearchBatchRequest(requests=[good, unknown, malformed, elsewhere])
    results = retriever.reads.SearchBatch(request, timeout=30).results
    assert list(results[0].value.candidates.id) == ["a"]
    assert [r.failure.code for r in results[1:]] == [
        grpc.StatusCode.NOT_FOUND.value[0],
        grpc.StatusCode.INVALID_ARGUMENT.value[0],
        grpc.StatusCode.FAILED_PRECONDITION.value[0],
    ]
    assert results[2].failure.message.startswith("k: 0")


def test_without_an_embedder_words_find_and_the_vectors_come_later(bundle: Path, tmp_path: Path) -> None:
    with Retriever(bundle, tmp_path / "data", NOWHERE) as retriever:
        retriever.upsert(item("a", "Kettle"))
        assert retriever.words("kettle") == ["a"]
        assert list(retriever.vectors("a").presence) == [PENDING]
        code, _ = failure(lambda: retriever.upsert(item("b", "Pot"), wait=admin_pb2.WAIT_INDEXED, seconds=1))
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        assert retriever.words("pot") == ["b"]
        assert retriever.process.stop() == 0
    with (
        spawn("services.embedder", bundle=bundle) as embedder,
        Retriever(bundle, tmp_path / "data", embedder.address) as retriever,
    ):
        until(lambda: list(retriever.vectors("a", "b").presence) == [PRESENT, PRESENT], "vectors")


def test_a_restart_finds_all_as_it_was(bundle: Path, tmp_path: Path, embedder: Process) -> None:
    with Retriever(bundle, tmp_path / "data", embedder.address) as first:
        first.upsert(*shop(60), wait=admin_pb2.WAIT_INDEXED)
        first.delete(admin_pb2.ItemRef(item_id="i7"))
        vectors = first.vectors("i1", "i2")
        near, words, sequence = first.near("i1", 20), first.words("kettle", 20), first.info().sequence
        assert first.process.stop() == 0
    with Retriever(bundle, tmp_path / "data", NOWHERE) as again:
        assert again.info().sequence == sequence
        assert again.near("i1", 20) == near
        assert again.words("kettle", 20) == words
        assert again.vectors("i1", "i2") == vectors
        again.process.kill()
    # Killed: nothing was saved on the way out, and the older indexes are brought up to date.
    with Retriever(bundle, tmp_path / "data", NOWHERE) as third:
        assert third.near("i1", 20) == near
        assert third.upsert(item("new", "Kettle with a whistle"))[0].sequence == sequence + 1
        third.process.kill()
    with Retriever(bundle, tmp_path / "data", NOWHERE) as fourth:
        assert fourth.near("i1", 20) == near
        assert "new" in fourth.words("kettle", 20)


def test_vectors_of_a_space_outlive_a_start_with_another(bundle: Path, tmp_path: Path, embedder: Process) -> None:
    with Retriever(bundle, tmp_path / "data", embedder.address) as first:
        first.upsert(*shop(30), wait=admin_pb2.WAIT_INDEXED)
        near = first.near("i1", 20)
    other = remade(bundle, tmp_path / "other", space_version="f" * 64)
    with Retriever(other.path, tmp_path / "data", NOWHERE) as second:
        assert second.info().generation == other.generation
        assert second.info().indexes[0].pending == 30
        assert len(second.words("kettle", 30)) == 5
    with Retriever(bundle, tmp_path / "data", NOWHERE) as third:
        assert third.info().indexes[0].pending == 0
        assert third.near("i1", 20) == near


def test_changes_are_told_in_order_and_followed(retriever: Retriever) -> None:
    retriever.upsert(*shop(5), wait=admin_pb2.WAIT_INDEXED)
    changes = retriever.changes()
    assert [c.sequence for c in changes] == list(range(1, 11))
    assert [c.WhichOneof("change") for c in changes] == ["item"] * 5 + ["vector"] * 5
    assert [c.item.id for c in retriever.changes(vectors=False)] == ["i0", "i1", "i2", "i3", "i4"]
    assert [c.vector.item_id for c in retriever.changes(after=9)] == [changes[-1].vector.item_id]
    request = retriever_pb2.StreamChangesRequest(from_sequence=10, follow=True)
    stream = retriever.reads.StreamChanges(request, timeout=60)
    first = next(stream)
    assert (len(first.changes), first.head_sequence) == (0, 10)
    retriever.delete(admin_pb2.ItemRef(item_id="i2", revision=9))
    told = next(response for response in stream if response.changes)
    assert [(c.removal.item_id, c.removal.revision) for c in told.changes] == [("i2", 9)]
    retriever.process.terminate()
    assert failure(lambda: list(stream))[0] == grpc.StatusCode.UNAVAILABLE
    assert retriever.process.wait() == 0


def test_a_snapshot_restored_into_an_empty_directory_answers_alike(
    bundle: Path, tmp_path: Path, embedder: Process
) -> None:
    with Retriever(bundle, tmp_path / "data", embedder.address, keep_snapshots=2) as retriever:
        retriever.upsert(*shop(50), wait=admin_pb2.WAIT_INDEXED)
        made = [retriever.writes.CreateSnapshot(admin_pb2.CreateSnapshotRequest()).snapshot for _ in range(3)]
        assert (made[-1].sequence, made[-1].items) == (100, 50)
        held = retriever.writes.ListSnapshots(admin_pb2.ListSnapshotsRequest()).snapshots
        assert [s.name for s in held] == [made[2].name, made[1].name]
        assert held[0].bytes > 50 * 4 * 384
        near, words, changes = retriever.near("i1", 20), retriever.words("lamp", 20), retriever.changes()
        retriever.upsert(item("later", "Desk lamp made after the snapshot"))
    with Retriever(bundle, tmp_path / "other", NOWHERE, restore=tmp_path / "data-snapshots") as other:
        assert other.near("i1", 20) == near
        assert other.words("lamp", 20) == words
        assert other.changes() == changes
        assert other.upsert(item("x", "Goes on counting"))[0].sequence == 101


def test_a_damaged_snapshot_is_refused(bundle: Path, tmp_path: Path) -> None:
    with Retriever(bundle, tmp_path / "data") as retriever:
        retriever.upsert(*shop(5))
        name = retriever.writes.CreateSnapshot(admin_pb2.CreateSnapshotRequest()).snapshot.name
    file = tmp_path / "data-snapshots" / name / "catalogue.sqlite3"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    process = Process("services.retriever", bundle=bundle, data=tmp_path / "b", restore=file.parent)
    assert process.wait() == 1
    assert "its content is not what the manifest says" in process.log()
    process.__exit__(None, None, None)
    assert not (tmp_path / "b" / "catalogue.sqlite3").exists()


def test_two_processes_cannot_share_a_catalogue(bundle: Path, tmp_path: Path) -> None:
    with (
        Retriever(bundle, tmp_path / "data"),
        Process("services.retriever", bundle=bundle, data=tmp_path / "data") as second,
    ):
        assert second.wait() == 1
        assert "another process has this catalogue open" in second.log()


def test_a_generation_of_the_same_space_is_ready_at_once(retriever: Retriever, bundle: Path, tmp_path: Path) -> None:
    retriever.upsert(*shop(30), wait=admin_pb2.WAIT_INDEXED)
    sequence = retriever.info().sequence
    old = retriever.info().generation
    new = remade(bundle, tmp_path / "new", max_tokens=read_bundle(bundle).manifest.encoder.max_tokens - 1)
    prepared = retriever.generations.Prepare(generations_pb2.PrepareRequest(bundle=str(new.path)), timeout=30)
    assert prepared.generation.state == generations_pb2.GENERATION_STATE_READY
    assert not prepared.generation.serving
    retriever.generations.Switch(generations_pb2.SwitchRequest(generation=new.generation), timeout=30)
    retriever.generations.Retire(generations_pb2.RetireRequest(generation=old), timeout=30)
    assert [(g.generation, g.serving) for g in listed(retriever)] == [(new.generation, True)]
    info = retriever.info()
    assert (info.generation, info.sequence, info.indexes[0].pending) == (new.generation, sequence, 0)
    assert len(retriever.near("i1", 40)) == 29


def test_a_new_space_is_embedded_behind_the_one_that_serves(
    bundle: Path, tmp_path: Path, retriever: Retriever, embedder: Process
) -> None:
    retriever.upsert(*shop(40), wait=admin_pb2.WAIT_INDEXED)
    old = retriever.info().generation
    new = remade(bundle, tmp_path / "new", space_version="f" * 64, template=TextTemplate(fields=(("title", 8),)))
    request = generations_pb2.PrepareRequest(bundle=str(new.path), generation=new.generation)
    # The embedder does not hold it yet: it goes on loading here, and the old one serves.
    assert failure(lambda: retriever.generations.Prepare(request, timeout=1))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
    state = {g.generation: g for g in listed(retriever)}
    assert state[new.generation].state == generations_pb2.GENERATION_STATE_LOADING
    assert state[new.generation].pending_items == 40
    switch = generations_pb2.SwitchRequest(generation=new.generation)
    assert failure(lambda: retriever.generations.Switch(switch))[0] == grpc.StatusCode.FAILED_PRECONDITION
    retriever.upsert(item("late", "Written while the new space is made"), wait=admin_pb2.WAIT_INDEXED)
    with grpc.insecure_channel(embedder.address) as channel:
        at_embedder = GenerationsStub(channel)
        at_embedder.Prepare(request, timeout=60)
        ready = retriever.generations.Prepare(request, timeout=60).generation
        assert (ready.state, ready.pending_items) == (generations_pb2.GENERATION_STATE_READY, 0)
        assert retriever.vectors("i1").space_version != "f" * 64
        retriever.generations.Switch(switch, timeout=30)
        assert list(retriever.vectors("i1", "late").presence) == [PRESENT, PRESENT]
        assert retriever.vectors("i1").space_version == "f" * 64
        # A price change carries the vectors of both spaces over.
        retriever.upsert(item("i1", shop(2)[1].title, 2, price=1.5, currency="EUR"))
        for version in ("f" * 64, read_bundle(bundle).manifest.encoder.space_version):
            named = retriever_pb2.GetVectorsRequest(
                item_ids=["i1"], space=types_pb2.SPACE_CONTENT, space_version=version
            )
            answer = retriever.reads.GetVectors(named, timeout=30)
            assert (answer.presence[0], answer.revisions[0]) == (PRESENT, 2)
        retire = generations_pb2.RetireRequest(generation=old)
        retriever.generations.Retire(retire, timeout=30)
        until(lambda: {c.vector.space_version for c in retriever.changes()} == {"", "f" * 64}, "old vectors gone")
        code, _ = failure(
            lambda: retriever.generations.Retire(generations_pb2.RetireRequest(generation=new.generation))
        )
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        at_embedder.Retire(generations_pb2.RetireRequest(generation=new.generation), timeout=30)


def test_a_bundle_that_is_not_there_or_damaged_is_refused(retriever: Retriever, bundle: Path, tmp_path: Path) -> None:
    def prepare(path: Path, generation: str = "") -> tuple[grpc.StatusCode, str]:
        request = generations_pb2.PrepareRequest(bundle=str(path), generation=generation)
        return failure(lambda: retriever.generations.Prepare(request, timeout=30))

    assert prepare(tmp_path / "nothing")[0] == grpc.StatusCode.NOT_FOUND
    assert prepare(bundle, "0" * 64)[0] == grpc.StatusCode.FAILED_PRECONDITION
    assert prepare(bundle, "not a hash")[0] == grpc.StatusCode.INVALID_ARGUMENT
    damaged = remade(bundle, tmp_path / "damaged", max_tokens=12)
    (damaged.path / "encoder/tokenizer.json").write_text("{}")
    code, message = prepare(damaged.path)
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "tokenizer.json" in message
    states = [g.state for g in listed(retriever)]
    assert states == [generations_pb2.GENERATION_STATE_READY, generations_pb2.GENERATION_STATE_FAILED]
