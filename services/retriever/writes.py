"""What one write does to the tables of the catalogue: revisions, tombstones, and vectors that follow their item.

Every row of `vectors` was made from the revision its item has now: a write that changes the item's text removes it, a
write that leaves the text alone carries it over. So an item lacks a vector exactly where there is no row.

Rows without a vector of a version that is no space's mark the items and removals that coldstart was told of. These
never follow an item to a new revision, since coldstart must know its price and stock; no one else is told of them.
"""

import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from services.domain.text import TextTemplate, item_text
from services.retriever.changes import AppliedChange
from souk.retriever.v1 import admin_pb2, retriever_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_vector, unpack_vector

MAX_REVISION = 2**64 - 1
VECTOR_BYTES = np.dtype("<f4")


@dataclass(frozen=True)
class SpaceKey:
    """A vector space whose template is known, so that vectors can follow items whose text did not change."""

    space: types_pb2.Space.ValueType
    version: str
    dim: int
    template: TextTemplate


@dataclass(frozen=True)
class ProfileKey:
    """What coldstart is told of items, with their vectors of `content`, and the space of those that it answers with.

    `version` names the rows that mark the items told. `behaviour` is None for a bundle that has no such space.
    """

    version: str
    content: SpaceKey
    behaviour: SpaceKey | None


@dataclass(frozen=True)
class MadeVector:
    """A vector for an item's revision; `vector` is float32 of shape (dim,), None where there can be none."""

    item_id: str
    revision: int
    vector: Float32 | None


@dataclass(frozen=True)
class _Held:
    key: int
    revision: int
    sequence: int
    item: types_pb2.Item | None  # None: a tombstone


def to_column(revision: int) -> int:
    """A revision (64 bits without sign) as SQLite keeps it (64 bits with sign)."""
    return revision - 2**64 if revision >= 2**63 else revision


def from_column(value: int) -> int:
    """The revision that SQLite keeps as `value`."""
    return value + 2**64 if value < 0 else value


def read_vector(value: bytes | None) -> Float32 | None:
    """The float32 vector in a row; None where there can be none."""
    return None if value is None else np.frombuffer(value, dtype=VECTOR_BYTES).astype(np.float32, copy=False)


def _to_value(vector: Float32 | None) -> bytes | None:
    return None if vector is None else vector.astype(VECTOR_BYTES, copy=False).tobytes()


class Transaction:
    """The writes of one commit. Nothing of it counts before the commit, `changes` included."""

    def __init__(self, connection: sqlite3.Connection, head: int, spaces: Sequence[SpaceKey], now: datetime) -> None:
        self.head = head
        self.changes: list[AppliedChange] = []
        self._db = connection
        self._spaces = {space.version: space for space in spaces}
        self._now = now.astimezone(UTC)

    def upsert(self, item: types_pb2.Item) -> admin_pb2.WriteResult:
        """Writes a checked item; `item` is taken over and completed (revision, created_at)."""
        held = self._held(item.id)
        held_revision = held.revision if held else 0
        before = held.item if held else None
        if not item.HasField("created_at"):
            if before is not None:
                item.created_at.CopyFrom(before.created_at)
            else:
                item.created_at.FromDatetime(self._now)
        if item.revision == 0:
            if before is not None:
                item.revision = held_revision
                if item == before:
                    return self._unchanged(item.id, held, admin_pb2.OUTCOME_UNCHANGED)
            if held_revision == MAX_REVISION:
                return _no_revision_left(item.id)
            item.revision = held_revision + 1
        elif held and item.revision <= held_revision:
            same = item.revision == held_revision and before is not None
            return self._unchanged(item.id, held, admin_pb2.OUTCOME_UNCHANGED if same else admin_pb2.OUTCOME_STALE)
        sequence = self._next()
        self._write_item(item, sequence, held)
        outcome = admin_pb2.OUTCOME_CREATED if before is None else admin_pb2.OUTCOME_UPDATED
        return admin_pb2.WriteResult(item_id=item.id, outcome=outcome, revision=item.revision, sequence=sequence)

    def delete(self, ref: admin_pb2.ItemRef) -> admin_pb2.WriteResult:
        """Takes an item out and leaves a tombstone with the revision of the removal."""
        held = self._held(ref.item_id)
        held_revision = held.revision if held else 0
        gone = held is None or held.item is None
        if ref.revision and held:
            if ref.revision == held_revision:
                return self._unchanged(ref.item_id, held, admin_pb2.OUTCOME_UNCHANGED)
            if ref.revision < held_revision:
                return self._unchanged(ref.item_id, held, admin_pb2.OUTCOME_STALE)
        elif held and gone:
            return self._unchanged(ref.item_id, held, admin_pb2.OUTCOME_NOT_FOUND)
        if not ref.revision and held_revision == MAX_REVISION:
            return _no_revision_left(ref.item_id)
        revision = ref.revision or held_revision + 1
        sequence = self._next()
        self._write_removal(ref.item_id, revision, sequence, held)
        outcome = admin_pb2.OUTCOME_NOT_FOUND if gone else admin_pb2.OUTCOME_DELETED
        return admin_pb2.WriteResult(item_id=ref.item_id, outcome=outcome, revision=revision, sequence=sequence)

    def put_vectors(self, space: SpaceKey, made: Sequence[MadeVector]) -> int:
        """Keeps the vectors whose item still has the revision they were made from; returns how many."""
        kept = 0
        for vector in made:
            held = self._held(vector.item_id)
            if held is None or held.item is None or held.revision != vector.revision:
                continue
            self._write_vector(held.key, vector, space.space, space.version, self._next())
            kept += 1
        return kept

    def put_profiles(self, key: ProfileKey, made: Sequence[MadeVector]) -> int:
        """Marks the items as told whose revision is still that of the profile, and keeps the behaviour vectors.

        Returns how many. A vector that is held already is no change.
        """
        kept = 0
        for vector in made:
            held = self._held(vector.item_id)
            if held is None or held.item is None or held.revision != vector.revision:
                continue
            space = key.behaviour
            if space is not None and not self._holds(held.key, vector, space.version):
                self._write_vector(held.key, vector, space.space, space.version, self._next())
            # A sequence that no one reads from: it is no change to those who follow the catalogue.
            self._put_row(held.key, types_pb2.SPACE_UNSPECIFIED, key.version, 0, None)
            kept += 1
        return kept

    def put_removals(self, key: ProfileKey, removed: Sequence[tuple[str, int]]) -> None:
        """Marks removals as told, each an id and its revision, where they are still the last that happened."""
        for item_id, revision in removed:
            held = self._held(item_id)
            if held is not None and held.item is None and held.revision == revision:
                self._put_row(held.key, types_pb2.SPACE_UNSPECIFIED, key.version, 0, None)

    def replicate(self, changes: Sequence[retriever_pb2.Change]) -> None:
        """Applies a primary's changes under the primary's sequence numbers; older than what is held: passed over."""
        for change in changes:
            self.head = max(self.head, change.sequence)
            match change.WhichOneof("change"):
                case "item":
                    held = self._held(change.item.id)
                    if held is None or held.sequence < change.sequence:
                        self._write_item(change.item, change.sequence, held, carry_at=change.sequence)
                case "removal":
                    held = self._held(change.removal.item_id)
                    if held is None or held.sequence < change.sequence:
                        self._write_removal(change.removal.item_id, change.removal.revision, change.sequence, held)
                case "vector":
                    self._replicate_vector(change.vector, change.sequence)

    def advance(self, head: int) -> None:
        """Notes that nothing is missing up to `head`, though the last changes before it are not for this process."""
        self.head = max(self.head, head)

    def mark_whole(self, whole: bool) -> None:
        """Remembers whether a copy of another catalogue is complete up to `head`."""
        self._db.execute("UPDATE meta SET value = ? WHERE name = 'whole'", (int(whole),))

    def announce(self, vectors: Sequence[AppliedChange]) -> None:
        """Tells of vectors once more, where they still count, for an index that did not hold their space before."""
        for change in vectors:
            held = self._held(change.item_id)
            if held is not None and held.item is not None and held.revision == change.revision:
                self.changes.append(change)

    def told_anew(self, log_id: str, limit: int) -> int:
        """Takes the marks off up to `limit` items told to another log than this; returns how many were marked.

        None left: from now on the marks are of this log.
        """
        (told,) = self._db.execute("SELECT value FROM meta WHERE name = 'told_log'").fetchone() or ("",)
        if told == log_id:
            return 0
        dropped = 0
        if told:
            dropped = self._db.execute(
                "DELETE FROM vectors WHERE key IN (SELECT v.key FROM vectors v JOIN spaces s ON s.key = v.space "
                "WHERE s.space = ? LIMIT ?)",
                (types_pb2.SPACE_UNSPECIFIED, limit),
            ).rowcount
        if dropped < limit:
            self._db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('told_log', ?)", (log_id,))
        return dropped

    def drop_vectors(self, version: str, limit: int) -> int:
        """Removes up to `limit` rows of a version; returns how many there were."""
        cursor = self._db.execute(
            "DELETE FROM vectors WHERE key IN (SELECT v.key FROM vectors v JOIN spaces s ON s.key = v.space "
            "WHERE s.version = ? LIMIT ?)",
            (version, limit),
        )
        return cursor.rowcount

    def wipe(self) -> None:
        """Empties the catalogue, to begin again from another primary's history; it is then another catalogue."""
        self._db.execute("DELETE FROM vectors")
        self._db.execute("DELETE FROM items")
        self._db.execute("UPDATE meta SET value = ? WHERE name = 'identity'", (uuid.uuid4().hex,))
        self.copy_of("")
        self.mark_whole(False)
        self.head = 0

    def copy_of(self, catalogue: str) -> None:
        """Remembers the identity of the catalogue that this one is a copy of; empty: none's."""
        self._db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('copied_from', ?)", (catalogue,))

    def _next(self) -> int:
        self.head += 1
        return self.head

    def _held(self, item_id: str) -> _Held | None:
        row = self._db.execute("SELECT key, revision, sequence, item FROM items WHERE id = ?", (item_id,)).fetchone()
        if row is None:
            return None
        key, revision, sequence, item = row
        return _Held(key, from_column(revision), sequence, None if item is None else types_pb2.Item.FromString(item))

    def _unchanged(
        self, item_id: str, held: _Held | None, outcome: admin_pb2.Outcome.ValueType
    ) -> admin_pb2.WriteResult:
        assert held is not None
        return admin_pb2.WriteResult(item_id=item_id, outcome=outcome, revision=held.revision, sequence=held.sequence)

    def _write_item(self, item: types_pb2.Item, sequence: int, held: _Held | None, carry_at: int | None = None) -> None:
        content = item.SerializeToString(deterministic=True)
        self._write_row(item.id, item.revision, sequence, content)
        self.changes.append(AppliedChange(sequence=sequence, item_id=item.id, revision=item.revision, item=item))
        if held is not None and held.item is not None:
            self._carry_over(held, item, carry_at)
        elif held is not None:  # Back again: that coldstart was told of the removal counts no more.
            self._db.execute("DELETE FROM vectors WHERE item = ?", (held.key,))

    def _write_removal(self, item_id: str, revision: int, sequence: int, held: _Held | None) -> None:
        self._write_row(item_id, revision, sequence, None)
        if held is not None:
            self._db.execute("DELETE FROM vectors WHERE item = ?", (held.key,))
        self.changes.append(AppliedChange(sequence=sequence, item_id=item_id, revision=revision, removed=True))

    def _write_row(self, item_id: str, revision: int, sequence: int, content: bytes | None) -> None:
        self._db.execute(
            "INSERT INTO items (id, revision, sequence, item) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "revision = excluded.revision, sequence = excluded.sequence, item = excluded.item",
            (item_id, to_column(revision), sequence, content),
        )

    def _carry_over(self, held: _Held, item: types_pb2.Item, carry_at: int | None) -> None:
        """Moves the vectors of an item to its new revision where its text is the same, else removes them.

        So do behaviour vectors follow, which are guessed from the same text or known by the item's id.

        A move is a change of its own; a follower, which numbers nothing itself, puts it under the item's (`carry_at`).
        """
        assert held.item is not None
        rows = self._db.execute(
            "SELECT v.key, s.version, v.vector FROM vectors v JOIN spaces s ON s.key = v.space WHERE v.item = ?",
            (held.key,),
        ).fetchall()
        for key, version, value in rows:
            space = self._spaces.get(version)
            if space is None or item_text(held.item, space.template) != item_text(item, space.template):
                self._db.execute("DELETE FROM vectors WHERE key = ?", (key,))
                continue
            sequence = carry_at or self._next()
            self._db.execute("UPDATE vectors SET sequence = ? WHERE key = ?", (sequence, key))
            made = MadeVector(item.id, item.revision, read_vector(value))
            self.changes.append(_vector_change(made, space.space, version, sequence))

    def _replicate_vector(self, change: retriever_pb2.VectorChange, sequence: int) -> None:
        held = self._held(change.item_id)
        if held is None or held.item is None or held.revision != change.revision:
            return
        vector = unpack_vector(change.vector) if change.HasField("vector") else None
        space = self._spaces.get(change.space_version)
        if space is not None and vector is not None and vector.shape != (space.dim,):
            raise ValueError(f"vector of {change.item_id!r}: {len(vector)} numbers; its space has {space.dim}")
        made = MadeVector(change.item_id, change.revision, vector)
        known = self._db.execute(
            "SELECT v.sequence FROM vectors v JOIN spaces s ON s.key = v.space WHERE v.item = ? AND s.version = ?",
            (held.key, change.space_version),
        ).fetchone()
        if known is not None and known[0] >= sequence:
            return
        self._write_vector(held.key, made, change.space, change.space_version, sequence)

    def _write_vector(
        self, item: int, made: MadeVector, space: types_pb2.Space.ValueType, version: str, sequence: int
    ) -> None:
        self._put_row(item, space, version, sequence, _to_value(made.vector))
        self.changes.append(_vector_change(made, space, version, sequence))

    def _holds(self, item: int, made: MadeVector, version: str) -> bool:
        row = self._db.execute(
            "SELECT vector FROM vectors WHERE item = ? AND space = (SELECT key FROM spaces WHERE version = ?)",
            (item, version),
        ).fetchone()
        return row is not None and row[0] == _to_value(made.vector)

    def _put_row(
        self, item: int, space: types_pb2.Space.ValueType, version: str, sequence: int, value: bytes | None
    ) -> None:
        self._db.execute("INSERT OR IGNORE INTO spaces (version, space) VALUES (?, ?)", (version, space))
        self._db.execute(
            "INSERT INTO vectors (item, space, sequence, vector) "
            "VALUES (?, (SELECT key FROM spaces WHERE version = ?), ?, ?) "
            "ON CONFLICT (item, space) DO UPDATE SET sequence = excluded.sequence, vector = excluded.vector",
            (item, version, sequence, value),
        )


def to_wire(change: AppliedChange) -> retriever_pb2.Change:
    """A change as it is sent to those who follow the catalogue; `Transaction.replicate` takes it in."""
    wire = retriever_pb2.Change(sequence=change.sequence)
    if change.space:
        wire.vector.item_id, wire.vector.revision = change.item_id, change.revision
        wire.vector.space, wire.vector.space_version = change.space, change.space_version
        if change.vector is not None:
            wire.vector.vector.CopyFrom(pack_vector(change.vector))
    elif change.item is None:
        wire.removal.item_id, wire.removal.revision = change.item_id, change.revision
    else:
        wire.item.CopyFrom(change.item)
    return wire


def _vector_change(made: MadeVector, space: types_pb2.Space.ValueType, version: str, sequence: int) -> AppliedChange:
    return AppliedChange(
        sequence=sequence,
        item_id=made.item_id,
        revision=made.revision,
        space=space,
        space_version=version,
        vector=made.vector,
        covered=made.vector is not None,
    )


def _no_revision_left(item_id: str) -> admin_pb2.WriteResult:
    return admin_pb2.WriteResult(
        item_id=item_id,
        outcome=admin_pb2.OUTCOME_INVALID,
        revision=MAX_REVISION,
        message=f"revision: the held revision {MAX_REVISION} is the last there can be",
    )
