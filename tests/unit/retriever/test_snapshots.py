"""Snapshots are whole or not there, and only whole ones are restored."""

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from services.domain.text import TextTemplate
from services.retriever import snapshots
from services.retriever.catalogue import FILE, Catalogue, CatalogueError
from services.retriever.writes import MadeVector, ProfileKey, SpaceKey, Transaction
from services.runtime.errors import FailedPrecondition
from souk.types.v1 import types_pb2


def save(directory: Path) -> None:
    """Stands for the indexes: a folder with a file."""
    (directory / "1").mkdir()
    (directory / "1" / "index").write_text("saved")


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    catalogue = Catalogue(tmp_path / "data")
    catalogue.start(lambda _changes, _head: None)
    catalogue.upsert([types_pb2.Item(id="a", title="Kettle"), types_pb2.Item(id="b", title="Teapot")]).result(10)
    yield catalogue
    catalogue.close()


def test_a_snapshot_is_restored_as_it_was(catalogue: Catalogue, tmp_path: Path) -> None:
    made = snapshots.create(catalogue, save, tmp_path / "s", keep=3)
    assert (made.sequence, made.items) == (2, 2)
    assert made.bytes > 4096
    catalogue.upsert([types_pb2.Item(id="c", title="Made later")]).result(10)
    assert snapshots.restore(tmp_path / "s", tmp_path / "other")
    other = Catalogue(tmp_path / "other")
    assert other.head == 2
    assert [item and item.title for item in other.items(["a", "b", "c"])[0]] == ["Kettle", "Teapot", None]
    saved = snapshots.saved_indexes(other, tmp_path / "other")
    assert saved is not None
    assert (saved / "1" / "index").read_text() == "saved"
    other.close()


def test_what_is_restored_is_a_catalogue_of_its_own_that_knows_whose_copy_it_is(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    snapshots.create(catalogue, save, tmp_path / "s", keep=3)
    identities = {catalogue.identity}
    for place in ("one", "other"):
        snapshots.restore(tmp_path / "s", tmp_path / place)
        restored = Catalogue(tmp_path / place)
        assert (catalogue.copied_from, restored.copied_from) == ("", catalogue.identity)
        identities.add(restored.identity)
        restored.close()
    assert len(identities) == 3


def test_coldstart_is_told_of_all_that_was_restored(catalogue: Catalogue, tmp_path: Path) -> None:
    """It may have heard of later revisions, and of removals, that the restored catalogue never saw."""
    content = SpaceKey(types_pb2.SPACE_CONTENT, "c1", 3, TextTemplate())
    key = ProfileKey("told:1", content, None)
    vectors = [MadeVector(item_id, 1, np.ones(3, np.float32)) for item_id in "ab"]
    catalogue.set_spaces([content])
    catalogue.submit(2, lambda t: t.put_vectors(content, vectors)).result(10)
    catalogue.submit(2, lambda t: t.put_profiles(key, vectors)).result(10)
    assert catalogue.pending("told:1", 0, 10, given="c1")[0] == []
    snapshots.create(catalogue, save, tmp_path / "s", keep=3)
    snapshots.restore(tmp_path / "s", tmp_path / "other")
    other = Catalogue(tmp_path / "other")
    assert other.pending("told:1", 0, 10, given="c1")[0] == ["a", "b"]
    assert other.pending("c1", 0, 10)[0] == []
    other.close()


def test_a_write_ahead_log_whose_file_was_taken_away_is_not_written_into_what_is_restored(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    snapshots.create(catalogue, save, tmp_path / "s", keep=3)
    catalogue.upsert([types_pb2.Item(id="c", title="Made later")]).result(10)
    # As a killed process leaves them, and somebody removes the file and not what stands beside it.
    (tmp_path / "killed").mkdir()
    for left in ("-wal", "-shm"):
        shutil.copyfile(tmp_path / "data" / (FILE + left), tmp_path / "killed" / (FILE + left))
    assert snapshots.restore(tmp_path / "s", tmp_path / "killed")
    other = Catalogue(tmp_path / "killed")
    assert (other.head, other.items(["c"])[0]) == (2, [None])
    other.close()


def test_a_catalogue_that_was_emptied_is_another_and_takes_no_indexes_of_the_former(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.start(lambda _changes, _head: None)
    catalogue.upsert([types_pb2.Item(id="a", title="Kettle")]).result(10)
    snapshots.save_indexes(catalogue, save, tmp_path)
    former = catalogue.identity
    catalogue.submit(0, Transaction.wipe).result(10)
    assert catalogue.identity != former
    assert snapshots.saved_indexes(catalogue, tmp_path) is None
    catalogue.upsert([types_pb2.Item(id="a", title="Teapot")]).result(10)
    catalogue.close()
    again = Catalogue(tmp_path)
    assert again.head == 1
    assert snapshots.saved_indexes(again, tmp_path) is None
    again.close()


def test_the_newest_is_restored_and_only_so_many_are_kept(catalogue: Catalogue, tmp_path: Path) -> None:
    names = []
    for number in range(4):
        catalogue.upsert([types_pb2.Item(id=f"n{number}", title="Another")]).result(10)
        names.append(snapshots.create(catalogue, save, tmp_path / "s", keep=2).name)
    assert [s.name for s in snapshots.found(tmp_path / "s")] == [names[3], names[2]]
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == names[2:]
    snapshots.restore(tmp_path / "s", tmp_path / "newest")
    snapshots.restore(tmp_path / "s" / names[2], tmp_path / "chosen")
    for place, head in (("newest", 6), ("chosen", 5)):
        other = Catalogue(tmp_path / place)
        assert other.head == head
        other.close()


def test_the_newest_is_the_newest_though_the_clock_was_set_back(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshots.create(catalogue, save, tmp_path / "s", keep=1)

    class SetBack(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) - timedelta(hours=1)

    monkeypatch.setattr(snapshots, "datetime", SetBack)
    after = snapshots.create(catalogue, save, tmp_path / "s", keep=1)
    assert [s.name for s in snapshots.found(tmp_path / "s")] == [after.name] != [before.name]


def test_a_catalogue_is_never_overwritten(catalogue: Catalogue, tmp_path: Path) -> None:
    snapshots.create(catalogue, save, tmp_path / "s", keep=1)
    assert not snapshots.restore(tmp_path / "s", tmp_path / "data")


def test_what_a_killed_process_left_is_no_snapshot(catalogue: Catalogue, tmp_path: Path) -> None:
    made = snapshots.create(catalogue, save, tmp_path / "s", keep=3)
    shutil.copytree(tmp_path / "s" / made.name, tmp_path / "s" / f"{made.name}9.tmp")
    assert [s.name for s in snapshots.found(tmp_path / "s")] == [made.name]
    snapshots.create(catalogue, save, tmp_path / "s", keep=3)
    assert not list((tmp_path / "s").glob("*.tmp"))


def test_a_folder_that_cannot_be_written_is_told_with_its_setting(catalogue: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPrecondition, match="SOUK_RETRIEVER_SNAPSHOTS"):
        snapshots.create(catalogue, save, tmp_path / "file", keep=1)


def test_indexes_that_cannot_be_saved_leave_no_half_a_snapshot(catalogue: Catalogue, tmp_path: Path) -> None:
    def full(_directory: Path) -> None:
        raise RuntimeError("No space left on device")

    with pytest.raises(FailedPrecondition, match="No space left"):
        snapshots.create(catalogue, full, tmp_path / "s", keep=1)
    assert list((tmp_path / "s").iterdir()) == []


@pytest.mark.parametrize("damage", [FILE, "indexes/1/index"])
def test_a_damaged_file_is_named(catalogue: Catalogue, tmp_path: Path, damage: str) -> None:
    made = snapshots.create(catalogue, save, tmp_path / "s", keep=1)
    file = tmp_path / "s" / made.name / damage
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CatalogueError, match=f"{damage}: its content is not what the manifest says"):
        snapshots.restore(tmp_path / "s", tmp_path / "other")
    assert not (tmp_path / "other" / FILE).exists()


def test_a_folder_without_snapshots_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="SOUK_RETRIEVER_RESTORE"):
        snapshots.restore(tmp_path / "nothing", tmp_path / "other")
    assert snapshots.found(tmp_path / "nothing") == []


def test_indexes_of_another_catalogue_are_not_taken(catalogue: Catalogue, tmp_path: Path) -> None:
    snapshots.save_indexes(catalogue, save, tmp_path / "data")
    assert snapshots.saved_indexes(catalogue, tmp_path / "data") is not None
    other = Catalogue(tmp_path / "other")
    shutil.copytree(tmp_path / "data" / "indexes", tmp_path / "other" / "indexes")
    assert snapshots.saved_indexes(other, tmp_path / "other") is None
    snapshots.save_indexes(other, save, tmp_path / "other")
    assert snapshots.saved_indexes(other, tmp_path / "other") is not None
    other.close()
