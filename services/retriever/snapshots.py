"""Snapshots: consistent copies of the catalogue with its indexes, and the indexes saved for the next start.

A snapshot is a directory: the catalogue's file, `indexes/`, and a manifest with the sha256 of each file. It is written
under another name and renamed when whole, so a directory without ".tmp" is complete.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.retriever.catalogue import FILE, Catalogue, CatalogueError
from services.runtime.errors import FailedPrecondition
from services.runtime.journal import meta
from services.runtime.telemetry import log
from souk.retriever.v1 import admin_pb2
from souk.types.v1 import types_pb2

FORMAT = 1
MANIFEST = "manifest.json"
INDEXES = "indexes"
_UNFINISHED = ".tmp"
_OWNER = "catalogue.txt"
_NAME = "%Y%m%dT%H%M%S.%fZ"

Save = Callable[[Path], object]


@dataclass(frozen=True)
class _Manifest:
    format: int
    sequence: int
    items: int
    created_at: str
    files: dict[str, str]


def create(catalogue: Catalogue, save: Save, folder: Path, keep: int) -> admin_pb2.Snapshot:
    """Writes a snapshot and removes all but the newest `keep`; `save` writes the indexes into the directory given.

    For one caller at a time. Raises FailedPrecondition where the folder cannot be written or has no room.
    """
    now = datetime.now(UTC)
    final = folder / _name(now, folder)
    unfinished = final.with_name(final.name + _UNFINISHED)
    try:
        for left in folder.glob(f"*{_UNFINISHED}"):  # From a process that was killed here.
            shutil.rmtree(left)
        unfinished.mkdir(parents=True)
        # Indexes first: what they lack of the catalogue's copy is replayed, what they had too much could not be undone.
        save_indexes(catalogue, save, unfinished)
        sequence, items = catalogue.backup(unfinished / FILE)
        manifest = _Manifest(FORMAT, sequence, items, now.isoformat(), _hashes(unfinished))
        (unfinished / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")
        _sync(unfinished)
        unfinished.rename(final)
        _sync_directory(folder)
        snapshot = _describe(final)
        for old in _newest_first(folder)[keep:]:
            shutil.rmtree(old)
    except (OSError, sqlite3.Error, RuntimeError) as error:  # RuntimeError is what FAISS raises of a full disk.
        shutil.rmtree(unfinished, ignore_errors=True)
        raise FailedPrecondition(
            f"no snapshot was made: {folder}: {error}; SOUK_RETRIEVER_SNAPSHOTS must name a directory with room"
        ) from error
    return snapshot


def found(folder: Path) -> list[admin_pb2.Snapshot]:
    """The whole snapshots in the folder, newest first."""
    snapshots = []
    for path in _newest_first(folder):
        try:
            snapshots.append(_describe(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("not a snapshot", path=str(path), problem=str(error))
    return snapshots


def restore(source: Path, data: Path) -> bool:
    """Copies a snapshot, or the newest of a directory of them, to `data`; False where that holds a catalogue already.

    Raises CatalogueError where there is no snapshot or one of its files is not what its manifest says.
    """
    if (data / FILE).exists():
        return False
    chosen = source if (source / MANIFEST).exists() else next(iter(_newest_first(source)), None)
    if chosen is None:
        raise CatalogueError(f"{source}: no snapshot there; look at SOUK_RETRIEVER_RESTORE")
    try:
        manifest = _read_manifest(chosen)
        if manifest.format != FORMAT:
            raise CatalogueError(f"{chosen}: format {manifest.format}; this version of Souk reads format {FORMAT}")
        if FILE not in manifest.files:
            raise CatalogueError(f"{chosen / MANIFEST}: does not name {FILE}")
        for name, sha256 in manifest.files.items():
            if _hash(chosen / name) != sha256:
                raise CatalogueError(f"{chosen / name}: its content is not what the manifest says")
        data.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(data / INDEXES, ignore_errors=True)
        shutil.copytree(chosen / INDEXES, data / INDEXES)
        # The catalogue comes last and whole: its file says that the rest is there.
        partial = data / (FILE + _UNFINISHED)
        shutil.copyfile(chosen / FILE, partial)
        _make_own(partial, data / INDEXES / _OWNER)
        # Left of a file that was taken away, it would be written into this one.
        for left in ("-wal", "-shm"):
            (data / (FILE + left)).unlink(missing_ok=True)
        _sync(data)
        partial.rename(data / FILE)
        _sync_directory(data)
    except (OSError, sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise CatalogueError(f"{chosen}: cannot be restored to {data}: {error}") from error
    log.info("catalogue restored", snapshot=str(chosen), sequence=manifest.sequence, items=manifest.items)
    return True


def save_indexes(catalogue: Catalogue, save: Save, directory: Path) -> None:
    """Saves the indexes below a directory, in place of ones of another catalogue. Raises OSError, RuntimeError."""
    folder = directory / INDEXES
    if saved_indexes(catalogue, directory) is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / _OWNER).write_text(catalogue.identity)
    save(folder)


def saved_indexes(catalogue: Catalogue, directory: Path) -> Path | None:
    """Where indexes of this catalogue are saved below a directory, if they are."""
    saved = directory / INDEXES
    try:
        own = (saved / _OWNER).read_text() == catalogue.identity
    except OSError:
        own = False
    return saved if own else None


def _make_own(file: Path, owner: Path) -> None:
    """A copy goes its own way: it gets an identity of its own, its indexes with it, and remembers the original's."""
    identity = uuid.uuid4().hex
    copy = sqlite3.connect(file)
    try:
        with copy:
            original = meta(copy, "identity")
            copy.execute("UPDATE meta SET value = ? WHERE name = 'identity'", (identity,))
            copy.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('copied_from', ?)", (original,))
            # Coldstart may have been told of later revisions since: it is told of everything again.
            unmark = "DELETE FROM vectors WHERE space IN (SELECT key FROM spaces WHERE space = ?)"
            copy.execute(unmark, (types_pb2.SPACE_UNSPECIFIED,))
    finally:
        copy.close()
    if owner.read_text() == original:
        owner.write_text(identity)


def _name(now: datetime, folder: Path) -> str:
    """The newest is known by its name, so a clock that was set back must not make it an old one's."""
    with suppress(OSError, ValueError):
        for newest in _newest_first(folder)[:1]:
            now = max(now, datetime.strptime(f"{newest.name}+0000", f"{_NAME}%z") + timedelta(microseconds=1))
    return now.strftime(_NAME)


def _newest_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    whole = (path for path in folder.iterdir() if (path / MANIFEST).exists() and path.suffix != _UNFINISHED)
    return sorted(whole, key=lambda path: path.name, reverse=True)


def _describe(path: Path) -> admin_pb2.Snapshot:
    manifest = _read_manifest(path)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    snapshot = admin_pb2.Snapshot(name=path.name, sequence=manifest.sequence, items=manifest.items, bytes=size)
    snapshot.created_at.FromDatetime(datetime.fromisoformat(manifest.created_at))
    return snapshot


def _read_manifest(path: Path) -> _Manifest:
    return _Manifest(**json.loads((path / MANIFEST).read_text()))


def _hashes(directory: Path) -> dict[str, str]:
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    return {str(file.relative_to(directory)): _hash(file) for file in files}


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(directory: Path) -> None:
    """Brings every file and directory below to the disk."""
    for path in [*directory.rglob("*"), directory]:
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        else:
            _sync_directory(path)


def _sync_directory(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
