"""A truth in one SQLite file: one process, one writer thread, many writes to a commit, answered after the commit."""

import fcntl
import os
import sqlite3
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from prometheus_client import Gauge, Histogram

from services.runtime.errors import Overloaded, SoukError, Unavailable
from services.runtime.telemetry import log

_APPLICATION_ID = 0x536F756B  # "Souk"
# Jobs that one commit may gather, in units of their size: bounds how long a commit and its first answer take.
_COMMIT_SIZE = 4_000
_PROBE_SECONDS = 1.0

T = TypeVar("T")
B = TypeVar("B")


class JournalError(Exception):
    """The data directory cannot serve; the message says which setting or file to look at."""


@dataclass(frozen=True)
class Layout:
    """What distinguishes one truth from another."""

    name: str
    """In messages ("catalogue")."""
    file: str
    lock: str
    schema: str
    """Statements that make the tables; `meta` (name, value) is made beside them."""
    schema_version: int
    setting: str
    """Names the directory."""
    unit: str
    """What a write is counted in ("items")."""
    refusal: type[SoukError]
    """Raised where the disk takes no writes."""
    again: str
    """How to repeat a write that was refused ("with the same revisions")."""
    queued: Gauge
    commit_seconds: Histogram
    meta: dict[str, int] = field(default_factory=dict)


@dataclass
class _Job(Generic[T]):
    size: int
    run: Callable[[Any], T]
    done: Future[T]


class Journal(ABC, Generic[B]):
    """One directory with one truth, open in one process only.

    Writes are queued from any thread and answered through futures after the commit and after `_told` was told of it.
    Reads run in the caller's thread on a connection of its own.
    """

    def __init__(self, directory: Path, layout: Layout, queue_limit: int) -> None:
        """Opens or creates the file. Raises JournalError."""
        self._directory = directory
        self._layout = layout
        self._queue_limit = queue_limit
        self._lock_file = _lock(directory, layout)
        try:
            self._writer = _open(directory, layout)
        except BaseException:
            os.close(self._lock_file)
            raise
        self._queue: deque[_Job[Any]] = deque()
        self._queued = 0
        self._wake = threading.Condition()
        self._stopping = False
        self._disk_problem: str | None = None
        self._thread: threading.Thread | None = None
        self._readers = threading.local()
        self._open_readers: list[sqlite3.Connection] = []

    @abstractmethod
    def _begin(self) -> B:
        """What the writes of one commit are given; the transaction has begun."""

    @abstractmethod
    def _seal(self, batch: B) -> None:
        """Writes what closes the batch, just before its commit."""

    @abstractmethod
    def _told(self, batch: B) -> None:
        """Called after a commit and before its answers. An exception ends the writer."""

    def check(self) -> None:
        """Raises Unavailable when writes can no longer be kept or reads no longer answered."""
        name = self._layout.name
        if self._thread is not None and not self._thread.is_alive():
            raise Unavailable(f"the {name}'s writer thread has ended")
        if self._disk_problem is not None:
            raise Unavailable(f"the {name} cannot be written: {self._disk_problem}")
        if not (self._directory / self._layout.file).exists():
            raise Unavailable(f"the {name}'s file is gone from {self._directory}")

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

    def submit(self, size: int, run: Callable[[B], T]) -> Future[T]:
        """Queues a write of `size` units; the future ends after its commit.

        Raises Overloaded when too many units are waiting, Unavailable when closing. A future cancelled before its
        commit began is not written.
        """
        job = _Job(size, run, Future())
        with self._wake:
            if self._stopping or (self._thread is not None and not self._thread.is_alive()):
                raise Unavailable(f"the {self._layout.name} is closing")
            if self._queued + size > self._queue_limit:
                raise Overloaded(
                    f"{self._queued} {self._layout.unit} are waiting to be written; the limit is {self._queue_limit}: "
                    "back off and send them again"
                )
            self._queue.append(job)
            self._queued += size
            self._layout.queued.set(self._queued)
            self._wake.notify()
        return job.done

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent state of the tables, on this thread's own connection."""
        connection: sqlite3.Connection | None = getattr(self._readers, "connection", None)
        if connection is None:
            file = self._directory / self._layout.file
            connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA query_only = ON")
            self._readers.connection = connection
            self._open_readers.append(connection)
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("COMMIT")

    def _start_writer(self) -> None:
        self._thread = threading.Thread(target=self._write_forever, name=f"{self._layout.name}-writer", daemon=True)
        self._thread.start()

    def _write_forever(self) -> None:
        while jobs := self._take():
            jobs = [job for job in jobs if job.done.set_running_or_notify_cancel()]
            try:
                if jobs:
                    self._commit(jobs)
            except BaseException as error:
                self._give_up(jobs, error)
                return
        self._fail_queued(Unavailable(f"the {self._layout.name} is closing"))

    def _take(self) -> list[_Job[Any]]:
        """The jobs of the next commit, oldest first; empty when it is time to end."""
        with self._wake:
            while not self._queue and not self._stopping:
                self._wake.wait(None if self._disk_problem is None else _PROBE_SECONDS)
                if self._disk_problem is not None and not self._queue:
                    self._probe()
            jobs: list[_Job[Any]] = []
            size = 0
            while self._queue and (not jobs or size + self._queue[0].size <= _COMMIT_SIZE):
                jobs.append(self._queue.popleft())
                size += jobs[-1].size
            self._queued -= size
            self._layout.queued.set(self._queued)
            return jobs

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        layout = self._layout
        try:
            batch, answers = self._run(jobs)
        except sqlite3.Error as error:
            self._note_disk_problem(error)
            refusal = layout.refusal(
                f"the {layout.name} cannot be written ({error}): mend the disk of {self._directory}, then send this "
                f"again {layout.again}"
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
        self._told(batch)
        for job, answer in zip(jobs, answers, strict=True):
            job.done.set_result(answer)

    def _run(self, jobs: list[_Job[Any]]) -> tuple[B, list[Any]]:
        began = time.perf_counter()
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            batch = self._begin()
            answers = [job.run(batch) for job in jobs]
            self._seal(batch)
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        self._layout.commit_seconds.observe(time.perf_counter() - began)
        return batch, answers

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
            log.info(f"the {self._layout.name} can be written again")

    def _note_disk_problem(self, error: sqlite3.Error) -> None:
        if self._disk_problem is None:
            log.error(f"the {self._layout.name} cannot be written", problem=str(error), directory=str(self._directory))
        self._disk_problem = str(error)

    def _give_up(self, jobs: list[_Job[Any]], error: BaseException) -> None:
        log.error(f"the {self._layout.name}'s writer ends", exc_info=error)
        with self._wake:
            self._stopping = True
        for job in jobs:
            if not job.done.done():
                job.done.set_exception(Unavailable("the write may or may not have been kept: send it again"))
        self._fail_queued(Unavailable(f"the {self._layout.name} is closing"))

    def _fail_queued(self, error: Exception) -> None:
        with self._wake:
            jobs, self._queue, self._queued = self._queue, deque(), 0
        for job in jobs:
            if job.done.set_running_or_notify_cancel():
                job.done.set_exception(error)


def meta(connection: sqlite3.Connection, name: str) -> Any:
    """A value of the table `meta`."""
    return connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]


def _lock(directory: Path, layout: Layout) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = os.open(directory / layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(
            f"{directory}: {error.strerror}; {layout.setting} must name a directory that can be written"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise JournalError(
            f"{directory}: another process has this {layout.name} open; give each its own {layout.setting}"
        ) from None
    return file


def _open(directory: Path, layout: Layout) -> sqlite3.Connection:
    file = directory / layout.file
    try:
        connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise JournalError(f"{file}: {error}; look at {layout.setting}") from None
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]
        if tables and application != _APPLICATION_ID:
            raise JournalError(f"{file}: not a {layout.name} of Souk")
        if tables and version != layout.schema_version:
            raise JournalError(
                f"{file}: schema version {version}; this version of Souk reads {layout.schema_version}: run the "
                "version that wrote it"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -65536")
        if not tables:
            _create(connection, layout)
    except sqlite3.Error as error:
        connection.close()
        raise JournalError(f"{file}: {error}; {layout.setting} must name a directory that can be written") from None
    except JournalError:
        connection.close()
        raise
    return connection


def _create(connection: sqlite3.Connection, layout: Layout) -> None:
    values = {"head": 0, "identity": uuid.uuid4().hex, "probe": 0, **layout.meta}
    inserts = "".join(f"INSERT INTO meta VALUES ('{name}', {value!r});\n" for name, value in values.items())
    connection.executescript(
        "BEGIN IMMEDIATE;\nCREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;\n"
        f"{layout.schema}{inserts}PRAGMA application_id = {_APPLICATION_ID};\n"
        f"PRAGMA user_version = {layout.schema_version};\nCOMMIT;"
    )
