"""The catalogue's truth: items, revisions and vectors in SQLite, written by one thread, many batches to a commit."""

import heapq
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from services.domain.checks import Invalid, check_id, check_item
from services.retriever.changes import AppliedChange
from services.retriever.writes import SpaceKey, Transaction, from_column, read_vector
from services.runtime.errors import FailedPrecondition
from services.runtime.journal import Journal, JournalError, Layout, meta
from services.runtime.telemetry import (
    CATALOGUE_COMMIT_CHANGES,
    CATALOGUE_COMMIT_SECONDS,
    CATALOGUE_QUEUED,
    CATALOGUE_SEQUENCE,
)
from souk.retriever.v1 import admin_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32

FILE = "catalogue.sqlite3"
LOCK = "catalogue.lock"
SCHEMA_VERSION = 1
_SCHEMA = """
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
_LAYOUT = Layout(
    name="catalogue",
    file=FILE,
    lock=LOCK,
    schema=_SCHEMA,
    schema_version=SCHEMA_VERSION,
    setting="SOUK_RETRIEVER_DATA",
    unit="items",
    refusal=FailedPrecondition,
    again="with the same revisions",
    queued=CATALOGUE_QUEUED,
    commit_seconds=CATALOGUE_COMMIT_SECONDS,
    meta={"whole": 1},
)

CatalogueError = JournalError
V = TypeVar("V")
Committed = Callable[[Sequence[AppliedChange], int], None]


@dataclass(frozen=True)
class ChangePage:
    """Changes in order of sequence; `complete` where nothing up to `head` is left to read."""

    changes: list[AppliedChange]
    head: int
    catalogue: str
    """Whose sequence numbers these are."""
    complete: bool


class Catalogue(Journal[Transaction]):
    """One directory with the catalogue, open in one process only; see Journal."""

    def __init__(self, directory: Path, queue_items: int = 20_000) -> None:
        """Opens or creates the catalogue. Raises CatalogueError.

        `whole` says whether what was found is all of the catalogue it was copied from.
        """
        super().__init__(directory, _LAYOUT, queue_items)
        self.identity: str = meta(self._writer, "identity")
        """Of this catalogue and no other; a new one whenever it is emptied or restored."""
        copied = self._writer.execute("SELECT value FROM meta WHERE name = 'copied_from'").fetchone()
        self.copied_from: str = copied[0] if copied else ""
        """Identity of the catalogue that what was found is a copy of; empty where it is none's."""
        self.whole: bool = meta(self._writer, "whole") == 1
        self._head: int = meta(self._writer, "head")
        self._spaces: tuple[SpaceKey, ...] = ()
        self._committed: Committed = lambda _changes, _head: None

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
        self._start_writer()

    # Writes.

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

    def _begin(self) -> Transaction:
        return Transaction(self._writer, self._head, self._spaces, datetime.now(UTC))

    def _seal(self, batch: Transaction) -> None:
        if batch.head != self._head:
            self._writer.execute("UPDATE meta SET value = ? WHERE name = 'head'", (batch.head,))

    def _told(self, batch: Transaction) -> None:
        CATALOGUE_COMMIT_CHANGES.observe(len(batch.changes))
        CATALOGUE_SEQUENCE.set(batch.head)
        emptied = batch.head < self._head
        self._head = batch.head
        self._committed(batch.changes, batch.head)
        if emptied:
            # Last: indexes that were saved of what was here before do not count as those of what comes.
            self.identity = meta(self._writer, "identity")

    # Reads.

    def items(self, ids: Sequence[str]) -> tuple[list[types_pb2.Item | None], int]:
        """The items in order of the ids, None where not held, and the last change that the answer has seen."""
        marks = ",".join("?" * len(ids))
        with self.reading() as db:
            rows = db.execute(f"SELECT id, item FROM items WHERE item IS NOT NULL AND id IN ({marks})", ids).fetchall()
            head: int = meta(db, "head")
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
        with self.reading() as db:
            head: int = meta(db, "head")
            catalogue: str = meta(db, "identity")
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
                    return ChangePage(changes, head, catalogue, complete=False)
                changes.append(change)
                size += content
            return ChangePage(changes, head, catalogue, complete=True)

    def pending(
        self, version: str, after_key: int, limit: int, given: str | None = None
    ) -> tuple[list[str], int | None]:
        """Up to `limit` ids of items that lack a row of the version, and where to go on (None: the end).

        `given`: only of those that do not lack one of this version, and of those that were removed.
        """
        there = "i.item IS NOT NULL" if given is None else f"(i.item IS NULL OR {_has_row('given')})"
        with self.reading() as db:
            rows = db.execute(
                f"SELECT i.key, i.id FROM items i WHERE i.key > :after AND {there} "
                f"AND NOT {_has_row('version')} ORDER BY i.key LIMIT :limit",
                {"after": after_key, "version": version, "given": given, "limit": limit},
            ).fetchall()
        return [item_id for _, item_id in rows], rows[-1][0] if len(rows) == limit else None

    def untold(self, told: str, content: str, ids: Sequence[str]) -> list[tuple[types_pb2.Item, Float32 | None]]:
        """Of the items named those that are not marked by `told`, though they do not lack a vector of the `content`
        version, each with that vector; None where the encoder cannot read the text."""
        names = {f"id{i}": item_id for i, item_id in enumerate(ids)}
        with self.reading() as db:
            rows = db.execute(
                # CROSS: from the items named. Left to itself SQLite reads every vector of the space to find theirs.
                "SELECT i.item, c.vector FROM items i CROSS JOIN vectors c ON c.item = i.key "
                "WHERE c.space = (SELECT key FROM spaces WHERE version = :content) AND i.item IS NOT NULL "
                f"AND i.id IN ({','.join(f':{name}' for name in names)}) AND NOT {_has_row('told')}",
                {"told": told, "content": content, **names},
            ).fetchall()
        return [(types_pb2.Item.FromString(item), read_vector(vector)) for item, vector in rows]

    def untold_removals(self, told: str, ids: Sequence[str]) -> list[tuple[str, int]]:
        """Of the items named those that were removed and are not marked by `told`, with the revision of the removal."""
        names = {f"id{i}": item_id for i, item_id in enumerate(ids)}
        with self.reading() as db:
            rows = db.execute(
                "SELECT i.id, i.revision FROM items i WHERE i.item IS NULL "
                f"AND i.id IN ({','.join(f':{name}' for name in names)}) AND NOT {_has_row('told')}",
                {"told": told, **names},
            ).fetchall()
        return [(item_id, from_column(revision)) for item_id, revision in rows]

    def counts(self, version: str) -> tuple[int, int]:
        """Items held, and vectors (or their absence for good) of a space version."""
        with self.reading() as db:
            items: int = db.execute("SELECT COUNT(*) FROM items WHERE item IS NOT NULL").fetchone()[0]
            vectors: int = db.execute(
                "SELECT COUNT(*) FROM vectors WHERE space = (SELECT key FROM spaces WHERE version = ?)", (version,)
            ).fetchone()[0]
        return items, vectors

    def lacking(self, version: str, ids: Sequence[str]) -> set[str]:
        """Which of the items held lack a vector of the space version."""
        names = {f"id{i}": item_id for i, item_id in enumerate(ids)}
        with self.reading() as db:
            rows = db.execute(
                "SELECT i.id FROM items i WHERE i.item IS NOT NULL "
                f"AND i.id IN ({','.join(f':{name}' for name in names)}) AND NOT {_has_row('version')}",
                {"version": version, **names},
            ).fetchall()
        return {item_id for (item_id,) in rows}

    def backup(self, target: Path) -> tuple[int, int]:
        """Copies the catalogue as it stands into a new file; returns its last change and how many items it holds."""
        copy = sqlite3.connect(target)
        try:
            with self.reading() as db:
                # All pages in one step: a write between two steps would start the copy over.
                db.backup(copy)
            head: int = meta(copy, "head")
            items: int = copy.execute("SELECT COUNT(*) FROM items WHERE item IS NOT NULL").fetchone()[0]
            copy.execute("PRAGMA journal_mode = DELETE")
        finally:
            copy.close()
        return head, items


def _has_row(version: str) -> str:
    """SQL: the item `i` has a row of the version that is bound to this name."""
    return (
        "EXISTS (SELECT 1 FROM vectors v JOIN spaces s ON s.key = v.space "
        f"WHERE v.item = i.key AND s.version = :{version})"
    )


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


def _problem(check: Callable[[V, str], None], value: V, field: str) -> str | None:
    try:
        check(value, field)
    except Invalid as error:
        return str(error)
    return None


def _invalid(item_id: str, problem: str) -> admin_pb2.WriteResult:
    return admin_pb2.WriteResult(item_id=item_id, outcome=admin_pb2.OUTCOME_INVALID, message=problem)
