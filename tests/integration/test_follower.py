"""A follower process copies its primary, answers like it, and goes on without it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from souk.retriever.v1 import admin_pb2
from tests.integration.processes import Process, spawn
from tests.integration.retrievers import NOWHERE, Retriever, item, shop, until


@pytest.fixture(scope="module")
def embedder(bundle: Path) -> Iterator[Process]:
    with spawn("services.embedder", bundle=bundle) as process:
        yield process


@pytest.fixture
def primary(bundle: Path, tmp_path: Path, embedder: Process) -> Iterator[Retriever]:
    with Retriever(bundle, tmp_path / "primary", embedder.address) as primary:
        primary.upsert(*shop(40), wait=admin_pb2.WAIT_INDEXED)
        primary.delete(admin_pb2.ItemRef(item_id="i5"))
        yield primary


def level(follower: Retriever, primary: Retriever) -> None:
    """Waits until the follower has what the primary has."""
    head = primary.info().sequence
    until(lambda: follower.info().sequence >= head, f"follower at {head}")


def alike(one: Retriever, other: Retriever) -> None:
    """Both answer the same."""
    assert one.changes() == other.changes()
    for number in (1, 7, 20):
        assert one.near(f"i{number}", 15) == other.near(f"i{number}", 15)
    assert one.words("lamp", 20) == other.words("lamp", 20)


def test_a_follower_copies_then_follows(bundle: Path, tmp_path: Path, primary: Retriever) -> None:
    with Retriever(bundle, tmp_path / "follower", NOWHERE, primary=primary.address) as follower:
        alike(follower, primary)
        info = follower.info()
        assert (info.primary, info.lag_changes, info.sequence) == (False, 0, primary.info().sequence)
        primary.upsert(item("new", "Desk lamp of glass"), item("i1", "Another title", 2), wait=admin_pb2.WAIT_INDEXED)
        primary.upsert(item("i2", shop(3)[2].title, 2, price=1.0, currency="EUR"))
        primary.delete(admin_pb2.ItemRef(item_id="i3"))
        level(follower, primary)
        alike(follower, primary)
        assert "new" in follower.words("glass")


def test_a_follower_refuses_writes_and_names_the_primary(bundle: Path, tmp_path: Path, primary: Retriever) -> None:
    with Retriever(bundle, tmp_path / "follower", NOWHERE, primary=primary.address) as follower:
        ref = admin_pb2.ItemRef(item_id="i1")
        calls: list[Callable[[], object]] = [
            lambda: follower.upsert(item("x", "X")),
            lambda: follower.delete(ref),
            lambda: follower.writes.CreateSnapshot(admin_pb2.CreateSnapshotRequest(), timeout=10),
        ]
        for call in calls:
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert f"write to its primary {primary.address}" in (refused.value.details() or "")
        assert follower.held("x", "i1")[0] is None


def test_a_follower_answers_while_its_primary_is_dead_and_catches_up(
    bundle: Path, tmp_path: Path, primary: Retriever, embedder: Process
) -> None:
    with Retriever(bundle, tmp_path / "follower", NOWHERE, primary=primary.address) as follower:
        words, near, port = follower.words("lamp", 20), follower.near("i1", 20), primary.process.port
        primary.process.kill()
        assert follower.words("lamp", 20) == words
        assert follower.near("i1", 20) == near
        # Restarted, it comes up without its primary.
        follower.process.kill()
        with Retriever(bundle, tmp_path / "follower", NOWHERE, primary=primary.address) as again:
            assert again.words("lamp", 20) == words
            with Retriever(bundle, tmp_path / "primary", embedder.address, port=port) as revived:
                revived.upsert(item("back", "The primary is back"), wait=admin_pb2.WAIT_INDEXED)
                level(again, revived)
                alike(again, revived)


def test_a_follower_begins_with_a_snapshot(bundle: Path, tmp_path: Path, primary: Retriever) -> None:
    made = primary.writes.CreateSnapshot(admin_pb2.CreateSnapshotRequest(), timeout=60).snapshot
    primary.upsert(item("later", "Made after the snapshot"), wait=admin_pb2.WAIT_INDEXED)
    source = tmp_path / "primary-snapshots" / made.name
    with Retriever(bundle, tmp_path / "follower", NOWHERE, primary=primary.address, restore=source) as follower:
        level(follower, primary)
        alike(follower, primary)
        assert f'"sequence": {made.sequence}, "items": 39, "event": "catalogue opened"' in follower.process.log()


def test_a_primary_restored_from_an_older_state_is_copied_anew(
    bundle: Path, tmp_path: Path, primary: Retriever, embedder: Process
) -> None:
    primary.writes.CreateSnapshot(admin_pb2.CreateSnapshotRequest(), timeout=60)
    primary.upsert(item("lost", "Made after the snapshot"), wait=admin_pb2.WAIT_INDEXED)
    with Retriever(bundle, tmp_path / "follower", NOWHERE, primary=primary.address) as follower:
        assert follower.words("snapshot") == ["lost"]
        port = primary.process.port
        primary.process.kill()
        shutil.rmtree(tmp_path / "primary")
        with Retriever(
            bundle, tmp_path / "primary", embedder.address, port=port, restore=tmp_path / "primary-snapshots"
        ) as restored:
            until(lambda: follower.words("snapshot") == [], "the lost item is gone here too")
            level(follower, restored)
            until(lambda: follower.info().sequence == restored.info().sequence, "same sequence")
            alike(follower, restored)
            assert "the primary's is another catalogue; copying it anew" in follower.process.log()


def test_a_primary_that_went_another_way_while_a_follower_was_away_is_copied_anew(
    bundle: Path, tmp_path: Path, primary: Retriever, embedder: Process
) -> None:
    primary.writes.CreateSnapshot(admin_pb2.CreateSnapshotRequest(), timeout=60)
    primary.upsert(item("lost", "Made after the snapshot"), wait=admin_pb2.WAIT_INDEXED)
    with Retriever(bundle, tmp_path / "follower", NOWHERE, primary=primary.address) as follower:
        held = follower.info().sequence
        follower.process.kill()
    port = primary.process.port
    primary.process.kill()
    shutil.rmtree(tmp_path / "primary")
    snapshots = tmp_path / "primary-snapshots"
    with Retriever(bundle, tmp_path / "primary", embedder.address, port=port, restore=snapshots) as restored:
        restored.upsert(
            *(item(f"n{i}", f"Written on the other way {i}") for i in range(5)), wait=admin_pb2.WAIT_INDEXED
        )
        assert restored.info().sequence > held
        with Retriever(bundle, tmp_path / "follower", NOWHERE, primary=restored.address) as follower:
            until(lambda: "n4" in follower.words("way", 20), "what the primary holds now")
            level(follower, restored)
            alike(follower, restored)
            assert follower.words("snapshot") == []
            follower.process.kill()
        # Emptied and copied again, it is found so by the next start.
        with Retriever(bundle, tmp_path / "follower", NOWHERE, primary=restored.address) as again:
            alike(again, restored)
