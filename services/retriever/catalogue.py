"""The catalogue's truth: items, revisions and vectors in SQLite, written by one thread, many batches to a commit."""

import fcntl
import heapq
import os
import sqlite3
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from services.domain.checks import Invalid, check_id, check_item
from services.retriever.changes import AppliedChange
from services.retriever.writes import SpaceKey, Transaction, from_column, read_vector
from services.runtime.errors import FailedPrecondition, Overloaded, Unavailable
from services.runtime.telemetry import (
    CATALOGUE_COMMIT_CHANGES,
    CATALOGUE_COMMIT_SECONDS,
    CATALOGUE_QUEUED,
    CATALOGUE_SEQUENCE,
    log,
)
from souk.retriever.v1 import admin_pb2
from souk.types.v1 import types_pb2

FILE = "catalogue.sqlite3"
LOCK = "catalogue.lock"
SCHEMA_VERSION = 1
_APPLICATION_ID = 0x536F756B  # "Souk"
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE items (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL, sequence INTEGER NOT NULL, item BLOB
);
CREATE INDEX items_by_sequence ON items (sequence);
CREATE TABLE spaces (key INTEGER PRIMARY KEY, version TEXT NOT NULL UNIQUE, space INTEGER NOT NULL);
CREATE TABLE vectors (
    key INTEGER PRIMARY KEY, item INTEGER NOT NULL, space INTEGER NOT NULL, sequence INTEGER NOT NULL, vector BLOB,
    UNIQUE (item, space)
);
CREATE INDEX vectors_by_sequence ON vectors (space, sequence);
"""
# Jobs that one commit may gather, in items: bounds how long a commit and the answer to its first batch take.
_COMMIT_ITEMS = 4_000
_PROBE_SECONDS = 1.0

T = TypeVar("T")
V = TypeVar("V")
Committed = Callable[[Sequence[AppliedChange], int], None]


class CatalogueError(Exception):
    """The data directory cannot serve as a catalogue; the message says which setting or file to look at."""


@dataclass(frozen=True)
class ChangePage:
    """Changes in order of sequence; `complete` where nothing up to `head` is left to read."""

    changes: list[AppliedChange]
    head: int
    complete: bool


@dataclass
class _Job(Generic[T]):
    size: int
    run: Callable[[Transaction], T]
    done: Future[T]


class Catalogue:
    """One directory with the catalogue, open in one process only.

    Writes are queued from any thread and answered through futures after the commit and after `committed` was told of
    the changes. Reads run in the caller's thread on a connection of its own.
    """

    def __init__(self, directory: Path, queue_items: int = 20_000) -> None:
        """Opens or creates the catalogue. Raises CatalogueError.

        `whole` says whether what was found is all of the catalogue it was copied from.
        """
        self._directory = directory
        self._queue_items = queue_items
        self._lock_file = _lock(directory)
        try:
            self._writer = _open(directory)
        except BaseException:
            os.close(self._lock_file)
            raise
        self.identity: str = _meta(self._writer, "identity")
        self.whole: bool = _meta(self._writer, "whole") == 1
        self._head: int = _meta(self._writer, "head")
        self._spaces: tuple[SpaceKey, ...] = ()
        self._committed: Committed = lambda _changes, _head: None
        self._queue: deque[_Job[Any]] = deque()
        self._queued = 0
        self._wake = threading.Condition()
        self._stopping = False
        self._disk_problem: str | None = None
        self._thread: threading.Thread | None = None
        self._readers = threading.local()
        self._open_readers: list[sqlite3.Connection] = []

    @property
    def head(self) -> int:
        """Sequence number of the last change committed."""
        return self._head

    def set_spaces(self, spaces: Sequence[SpaceKey]) -> None:
        """The spaces whose vectors follow an item to a new revision when its text stays the same."""
        self._spaces = tuple(spaces)

    def start(self, committed: Committed) -> None:
        """Starts the writer thread, which calls `committed(changes, head)` after each commit and before its answers."""
        self._committed = committed
        self._thread = threading.Thread(target=self._write_forever, name="catalogue-writer", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises Unavailable when writes can no longer be kept or reads no longer answered."""
        if self._thread is not None and not self._thread.is_alive():
            raise Unavailable("the catalogue's writer thread has ended")
        if self._disk_problem is not None:
            raise Unavailable(f"the catalogue cannot be written: {self._disk_problem}")
        if not (self._directory / FILE).exists():
            raise Unavailable(f"the catalogue's file is gone from {self._directory}")

    def close(self) -> None:
        """Answers what was queued, then closes the files. No read may be under way."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        for connection in self._open_readers:
            connection.close()
        self._writer.close()
        os.close(self._lock_file)

    # Writes.

    def submit(self, size: int, run: Callable[[Transaction], T]) -> Future[T]:
        """Queues a write of `size` items; the future ends after its commit.

        Raises Overloaded when too many items are waiting, Unavailable when closing. A future cancelled before its
        commit began is not written.
        """
        job = _Job(size, run, Future())
        with self._wake:
            if self._stopping or (self._thread is not None and not self._thread.is_alive()):
                raise Unavailable("the catalogue is closing")
            if self._queued + size > self._queue_items:
                raise Overloaded(
                    f"{self._queued} items are waiting to be written; the limit is {self._queue_items}: back off and "
                    "send them again"
                )
            self._queue.append(job)
            self._queued += size
            CATALOGUE_QUEUED.set(self._queued)
            self._wake.notify()
        return job.done

    def upsert(self, items: Sequence[types_pb2.Item]) -> Future[list[admin_pb2.WriteResult]]:
        """Writes items, taking them over; one result each. A malformed item is reported and stops no other."""
        refused = [_problem(check_item, item, f"items[{i}]") for i, item in enumerate(items)]

        def run(transaction: Transaction) -> list[admin_pb2.WriteResult]:
            return [
                transaction.upsert(item) if problem is None else _invalid(item.id, problem)
                for item, problem in zip(items, refused, strict=True)
            ]

        return self.submit(len(items), run)

    def delete(self, refs: Sequence[admin_pb2.ItemRef]) -> Future[list[admin_pb2.WriteResult]]:
        """Takes items out; one result each. A malformed id is reported and stops no other."""
        refused = [_problem(check_id, ref.item_id, f"items[{i}].item_id") for i, ref in enumerate(refs)]

        def run(transaction: Transaction) -> list[admin_pb2.WriteResult]:
            return [
                transaction.delete(ref) if problem is None else _invalid(ref.item_id, problem)
                for ref, problem in zip(refs, refused, strict=True)
            ]

        return self.submit(len(refs), run)

    def _write_forever(self) -> None:
        while jobs := self._take():
            jobs = [job for job in jobs if job.done.set_running_or_notify_cancel()]
            try:
                if jobs:
                    self._commit(jobs)
            except BaseException as error:
                self._give_up(jobs, error)
                return
        self._fail_queued(Unavailable("the catalogue is closing"))

    def _take(self) -> list[_Job[Any]]:
        """The jobs of the next commit, oldest first; empty when it is time to end."""
        with self._wake:
            while not self._queue and not self._stopping:
                self._wake.wait(None if self._disk_problem is None else _PROBE_SECONDS)
                if self._disk_problem is not None and not self._queue:
                    self._probe()
            jobs: list[_Job[Any]] = []
            size = 0
            while self._queue and (not jobs or size + self._queue[0].size <= _COMMIT_ITEMS):
                jobs.append(self._queue.popleft())
                size += jobs[-1].size
            self._queued -= size
            CATALOGUE_QUEUED.set(self._queued)
            return jobs

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        try:
            transaction, answers = self._run(jobs)
        except sqlite3.Error as error:
            self._note_disk_problem(error)
            refusal = FailedPrecondition(
                f"the catalogue cannot be written ({error}): mend the disk of {self._directory}, then send this again "
                "with the same revisions"
            )
            for job in jobs:
                job.done.set_exception(refusal)
            return
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].done.set_exception(error)
                return
            for job in jobs:  # One of them is at fault: the others must not share its fate.
                self._commit([job])
            return
        self._disk_problem = None
        self._head = transaction.head
        self._committed(transaction.changes, transaction.head)
        for job, answer in zip(jobs, answers, strict=True):
            job.done.set_result(answer)

    def _run(self, jobs: list[_Job[Any]]) -> tuple[Transaction, list[Any]]:
        began = time.perf_counter()
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            transaction = Transaction(self._writer, self._head, self._spaces, datetime.now(UTC))
            answers = [job.run(transaction) for job in jobs]
            if transaction.head != self._head:
                self._writer.execute("UPDATE meta SET value = ? WHERE name = 'head'", (transaction.head,))
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        CATALOGUE_COMMIT_SECONDS.observe(time.perf_counter() - began)
        CATALOGUE_COMMIT_CHANGES.observe(len(transaction.changes))
        CATALOGUE_SEQUENCE.set(transaction.head)
        return transaction, answers

    def _probe(self) -> None:
        """Tries whether the disk takes writes again."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.execute("UPDATE meta SET value = ? WHERE name = 'probe'", (time.time(),))
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            self._note_disk_problem(error)
        else:
            self._disk_problem = None
            log.info("the catalogue can be written again")

    def _note_disk_problem(self, error: sqlite3.Error) -> None:
        if self._disk_problem is None:
            log.error("the catalogue cannot be written", problem=str(error), directory=str(self._directory))
        self._disk_problem = str(error)

    def _give_up(self, jobs: list[_Job[Any]], error: BaseException) -> None:
        log.error("the catalogue's writer ends", exc_info=error)
        with self._wake:
            self._stopping = True
        for job in jobs:
            if not job.done.done():
                job.done.set_exception(Unavailable("the write may or may not have been kept: send it again"))
        self._fail_queued(Unavailable("the catalogue is closing"))

    def _fail_queued(self, error: Exception) -> None:
        with self._wake:
            jobs, self._queue, self._queued = self._queue, deque(), 0
        for job in jobs:
            if job.done.set_running_or_notify_cancel():
                job.done.set_exception(error)

    # Reads.

    def items(self, ids: Sequence[str]) -> tuple[list[types_pb2.Item | None], int]:
        """The items in order of the ids, None where not held, and the last change that the answer has seen."""
        marks = ",".join("?" * len(ids))
        with self._reading() as db:
            rows = db.execute(f"SELECT id, item FROM items WHERE item IS NOT NULL AND id IN ({marks})", ids).fetchall()
            head: int = _meta(db, "head")
        found = {item_id: types_pb2.Item.FromString(item) for item_id, item in rows}
        return [found.get(item_id) for item_id in ids], head

    def changes(
        self,
        after: int,
        versions: Sequence[str] | None = (),
        items: bool = True,
        max_changes: int = 1_000,
        max_bytes: int = 1 << 20,
    ) -> ChangePage:
        """Latest states with a sequence above `after`, with the vectors of the space versions named (None: of all).

        Raises Invalid where `after` is ahead of the catalogue. Ends a page at the first bound it meets, never between
        changes of one sequence number.
        """
        with self._reading() as db:
            head: int = _meta(db, "head")
            if after > head:
                raise Invalid(
                    "from_sequence",
                    f"{after} is ahead of this catalogue, whose last change is {head}: it is another catalogue's; "
                    "start from 0",
                )
            changes: list[AppliedChange] = []
            size = 0
            for sequence, content, change in _merged(db, after, versions, items):
                full = len(changes) >= max_changes or size >= max_bytes
                if full and sequence != changes[-1].sequence:
                    return ChangePage(changes, head, complete=False)
                changes.append(change)
                size += content
            return ChangePage(changes, head, complete=True)

    def pending(self, version: str, after_key: int, limit: int) -> tuple[list[str], int | None]:
        """Up to `limit` ids of items that lack a vector of the space version, and where to go on (None: the end)."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT i.key, i.id FROM items i WHERE i.key > ? AND i.item IS NOT NULL AND NOT EXISTS "
                "(SELECT 1 FROM vectors v JOIN spaces s ON s.key = v.space WHERE v.item = i.key AND s.version = ?) "
                "ORDER BY i.key LIMIT ?",
                (after_key, version, limit),
            ).fetchall()
        return [item_id for _, item_id in rows], rows[-1][0] if len(rows) == limit else None

    def counts(self, version: str) -> tuple[int, int]:
        """Items held, and vectors (or their absence for good) of a space version."""
        with self._reading() as db:
            items: int = db.execute("SELECT COUNT(*) FROM items WHERE item IS NOT NULL").fetchone()[0]
            vectors: int = db.execute(
                "SELECT COUNT(*) FROM vectors WHERE space = (SELECT key FROM spaces WHERE version = ?)", (version,)
            ).fetchone()[0]
        return items, vectors

    def lacking(self, version: str, ids: Sequence[str]) -> set[str]:
        """Which of the items held lack a vector of the space version."""
        marks = ",".join("?" * len(ids))
        with self._reading() as db:
            rows = db.execute(
                f"SELECT i.id FROM items i WHERE i.id IN ({marks}) AND i.item IS NOT NULL AND NOT EXISTS "
                "(SELECT 1 FROM vectors v JOIN spaces s ON s.key = v.space WHERE v.item = i.key AND s.version = ?)",
                (*ids, version),
            ).fetchall()
        return {item_id for (item_id,) in rows}

    def backup(self, target: Path) -> tuple[int, int]:
        """Copies the catalogue as it stands into a new file; returns its last change and how many items it holds."""
        copy = sqlite3.connect(target)
        try:
            with self._reading() as db:
                # All pages in one step: a write between two steps would start the copy over.
                db.backup(copy)
            head: int = _meta(copy, "head")
            items: int = copy.execute("SELECT COUNT(*) FROM items WHERE item IS NOT NULL").fetchone()[0]
            copy.execute("PRAGMA journal_mode = DELETE")
        finally:
            copy.close()
        return head, items

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent state of the catalogue, on this thread's own connection."""
        connection: sqlite3.Connection | None = getattr(self._readers, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._directory / FILE, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA query_only = ON")
            self._readers.connection = connection
            self._open_readers.append(connection)
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("COMMIT")


def _merged(
    db: sqlite3.Connection, after: int, versions: Sequence[str] | None, items: bool
) -> Iterator[tuple[int, int, AppliedChange]]:
    """Changes above `after` in order of sequence, items before their vectors, with their size in bytes."""
    streams = [_item_changes(db, after)] if items else []
    for key, version, space in db.execute("SELECT key, version, space FROM spaces").fetchall():
        if versions is None or version in versions:
            streams.append(_vector_changes(db, after, key, space, version))
    return heapq.merge(*streams, key=lambda change: change[0])


def _item_changes(db: sqlite3.Connection, after: int) -> Iterator[tuple[int, int, AppliedChange]]:
    rows = db.execute("SELECT sequence, id, revision, item FROM items WHERE sequence > ? ORDER BY sequence", (after,))
    for sequence, item_id, revision, item in rows:
        change = AppliedChange(
            sequence=sequence,
            item_id=item_id,
            revision=from_column(revision),
            item=None if item is None else types_pb2.Item.FromString(item),
            removed=item is None,
        )
        yield sequence, 64 + len(item or b""), change


def _vector_changes(
    db: sqlite3.Connection, after: int, space_key: int, space: types_pb2.Space.ValueType, version: str
) -> Iterator[tuple[int, int, AppliedChange]]:
    rows = db.execute(
        "SELECT v.sequence, i.id, i.revision, v.vector FROM vectors v CROSS JOIN items i ON i.key = v.item "
        "WHERE v.space = ? AND v.sequence > ? ORDER BY v.sequence",
        (space_key, after),
    )
    for sequence, item_id, revision, vector in rows:
        change = AppliedChange(
            sequence=sequence,
            item_id=item_id,
            revision=from_column(revision),
            space=space,
            space_version=version,
            vector=read_vector(vector),
            covered=vector is not None,
        )
        yield sequence, 128 + len(vector or b""), change


def _lock(directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CatalogueError(
            f"{directory}: {error.strerror}; SOUK_RETRIEVER_DATA must name a directory that can be written"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise CatalogueError(
            f"{directory}: another process has this catalogue open; give each its own SOUK_RETRIEVER_DATA"
        ) from None
    return file


def _open(directory: Path) -> sqlite3.Connection:
    file = directory / FILE
    try:
        connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise CatalogueError(f"{file}: {error}; look at SOUK_RETRIEVER_DATA") from None
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]
        if tables and application != _APPLICATION_ID:
            raise CatalogueError(f"{file}: not a catalogue of Souk")
        if tables and version != SCHEMA_VERSION:
            raise CatalogueError(
                f"{file}: schema version {version}; this version of Souk reads {SCHEMA_VERSION}: run the version that "
                "wrote it"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -65536")
        if not tables:
            _create(connection)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise CatalogueError(
            f"{file}: {error}; SOUK_RETRIEVER_DATA must name a directory that can be written"
        ) from None
    except CatalogueError:
        connection.close()
        raise
    return connection


def _create(connection: sqlite3.Connection) -> None:
    values = {"head": 0, "identity": uuid.uuid4().hex, "whole": 1, "probe": 0}
    inserts = "".join(f"INSERT INTO meta VALUES ('{name}', {value!r});\n" for name, value in values.items())
    connection.executescript(
        f"BEGIN IMMEDIATE;\n{_SCHEMA}{inserts}PRAGMA application_id = {_APPLICATION_ID};\n"
        f"PRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;"
    )


def _meta(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]


def _problem(check: Callable[[V, str], None], value: V, field: str) -> str | None:
    try:
        check(value, field)
    except Invalid as error:
        return str(error)
    return None


def _invalid(item_id: str, problem: str) -> admin_pb2.WriteResult:
    return admin_pb2.WriteResult(item_id=item_id, outcome=admin_pb2.OUTCOME_INVALID, message=problem)
