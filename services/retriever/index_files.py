"""A folder of arrays and FAISS indexes with a checksum for each file: written whole or not at all."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

MANIFEST = "index.json"
_UNFINISHED = ".unfinished"

Arrays = dict[str, NDArray[Any]]


class Damaged(Exception):
    """A folder is not what was written; the message names the file."""


class Writer:
    """A folder being written; nobody finds it before `finish`."""

    def __init__(self, directory: Path, sequence: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.glob(f"*{_UNFINISHED}"):
            shutil.rmtree(left)
        self._final = directory / f"{sequence:020d}-{time.time_ns()}"
        self._folder = directory / (self._final.name + _UNFINISHED)
        self._folder.mkdir()

    def arrays(self, name: str, arrays: Arrays) -> None:
        """Adds a file of arrays."""
        np.savez(self._folder / f"{name}.npz", allow_pickle=False, **arrays)

    def index(self, name: str, index: Any) -> None:
        """Adds a FAISS index."""
        faiss.write_index(index, str(self._folder / f"{name}.faiss"))

    def finish(self, facts: dict[str, Any]) -> Path:
        """Adds the checksums and `facts`, forces all to disk, gives the folder its name and removes older ones."""
        content = {"files": {path.name: _digest(path) for path in self._folder.iterdir()}, "facts": facts}
        (self._folder / MANIFEST).write_text(json.dumps({"content": content, "sha256": _digest_of(content)}))
        for path in (*self._folder.iterdir(), self._folder):
            _sync(path)
        self._folder.rename(self._final)
        _sync(self._final.parent)
        for older in finished(self._final.parent):
            if older.name < self._final.name:
                shutil.rmtree(older)
        return self._final


def finished(directory: Path) -> Iterator[Path]:
    """Finished folders, newest first."""
    folders = [path.parent for path in directory.glob(f"*/{MANIFEST}") if not path.parent.name.endswith(_UNFINISHED)]
    yield from sorted(folders, reverse=True)


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts of a folder whose every file is as it was written. Raises Damaged, OSError, KeyError or
    ValueError."""
    manifest = json.loads((folder / MANIFEST).read_text())
    content = manifest["content"]
    if _digest_of(content) != manifest["sha256"]:
        raise Damaged(f"{MANIFEST}: the checksum differs")
    for name, digest in content["files"].items():
        if _digest(folder / name) != digest:
            raise Damaged(f"{name}: the checksum differs")
    facts: dict[str, Any] = content["facts"]
    return facts


def read_arrays(folder: Path, name: str) -> Arrays:
    """A file of arrays."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def read_index(folder: Path, name: str) -> Any:
    """A FAISS index."""
    return faiss.read_index(str(folder / f"{name}.faiss"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _digest_of(content: dict[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
