import json
from pathlib import Path

import numpy as np
import pytest

from services.retriever import index_files
from services.retriever.index_files import MANIFEST, Damaged, Writer, finished, read_arrays, read_facts


def write(directory: Path, sequence: int) -> Path:
    writer = Writer(directory, sequence)
    writer.arrays("some", {"numbers": np.arange(5)})
    return writer.finish({"sequence": sequence})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "new", 7)
    assert read_facts(folder) == {"sequence": 7}
    assert read_arrays(folder, "some")["numbers"].tolist() == [0, 1, 2, 3, 4]


def test_nobody_finds_a_folder_before_it_is_finished(tmp_path: Path) -> None:
    Writer(tmp_path, 1).arrays("some", {"numbers": np.arange(5)})
    assert list(finished(tmp_path)) == []


def test_a_failed_write_leaves_the_older_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = write(tmp_path, 1)

    def full(path: Path) -> None:
        raise OSError("no room")

    monkeypatch.setattr(index_files, "_sync", full)
    with pytest.raises(OSError, match="no room"):
        write(tmp_path, 2)
    assert list(finished(tmp_path)) == [older]
    monkeypatch.undo()
    newest = write(tmp_path, 3)
    assert list(tmp_path.iterdir()) == [newest]


def test_damage_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, 1)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["content"]["facts"]["sequence"] = 2
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(Damaged, match=r"index\.json: the checksum differs"):
        read_facts(folder)
    folder = write(tmp_path, 3)
    (folder / "some.npz").write_bytes(b"nothing")
    with pytest.raises(Damaged, match=r"some\.npz: the checksum differs"):
        read_facts(folder)
