"""The log's truth: events, impressions, shoppers and what was forgotten, in SQLite; and what was told of items.

Events are kept in the order of their commits (`sequence`) and read in the order of their times. A time ahead of the
clock of this process is set to the moment of receipt, since nothing can have happened later; what was told is kept
beside it (`told_ms`). An event for an item that is not known waits: it counts from the start and is joined when the
item is told of. What is forgotten is deleted and the file made anew without it (VACUUM: deleting alone, even with
secure_delete, leaves copies in pages that were split), before the answer where that was not done just before.
"""

import heapq
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from services.coldstart.requests import (
    MAX_SHOPPER_ATTRIBUTES,
    check_events,
    check_impressions,
    check_shopper_attributes,
)
from services.domain.checks import Invalid
from services.domain.offers import is_campaign
from services.runtime import telemetry
from services.runtime.errors import Unavailable
from services.runtime.journal import Journal, Layout, meta
from souk.coldstart.v1 import coldstart_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32

FILE = "coldstart.sqlite3"
_SCHEMA = """
CREATE TABLE shoppers (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, sequence INTEGER, segment TEXT NOT NULL,
    shopper BLOB
);
CREATE INDEX shoppers_by_sequence ON shoppers (sequence) WHERE sequence IS NOT NULL;
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, shopper INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    told_ms INTEGER, type INTEGER NOT NULL, item TEXT, quantity INTEGER NOT NULL, price REAL, again INTEGER NOT NULL,
    event BLOB NOT NULL
);
CREATE INDEX events_by_shopper ON events (shopper, sequence);
CREATE INDEX events_by_time ON events (shopper, time_ms, sequence, type, item, quantity, price) WHERE item IS NOT NULL;
CREATE INDEX events_bought ON events (shopper, item, time_ms) WHERE type = 6;
CREATE TABLE waiting (item TEXT NOT NULL, event INTEGER NOT NULL, PRIMARY KEY (item, event)) WITHOUT ROWID;
CREATE INDEX waiting_by_event ON waiting (event);
CREATE TABLE impressions (
    sequence INTEGER PRIMARY KEY, request_id TEXT NOT NULL, shopper INTEGER, impression BLOB NOT NULL
);
CREATE INDEX impressions_by_request ON impressions (request_id);
CREATE INDEX impressions_by_shopper ON impressions (shopper, sequence) WHERE shopper IS NOT NULL;
CREATE TABLE forgotten (sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
CREATE TABLE items (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, revision TEXT NOT NULL, title TEXT NOT NULL, brand TEXT NOT NULL,
    category TEXT NOT NULL, price REAL, created_at REAL NOT NULL, sellable INTEGER NOT NULL, popularity REAL NOT NULL,
    shown INTEGER NOT NULL DEFAULT 0, clicked INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE vectors (
    item INTEGER NOT NULL, space TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (item, space)
) WITHOUT ROWID;
"""
_LAYOUT = Layout(
    name="log",
    file=FILE,
    lock="coldstart.lock",
    schema=_SCHEMA,
    schema_version=1,
    setting="SOUK_COLDSTART_DATA",
    unit="entries",
    refusal=Unavailable,
    again="with the same ids",
    queued=telemetry.LOG_QUEUED,
    commit_seconds=telemetry.LOG_COMMIT_SECONDS,
    meta={"unscrubbed": 0},
)
# Attributes that part shoppers into segments.
SEGMENT_ATTRIBUTES = ("country", "age_band")
CATEGORY_SEPARATOR = " > "
# A purchase of the same item so long before or after is a re-buy, not the same basket told in parts.
_AGAIN_MS = 12 * 3600 * 1000
_PAGE_BYTES = 1 << 20
_SCRUB_WAIT_MS = 200
_SCRUB_REST = 9
# Joins segments in one column: no attribute holds it.
_NO_TEXT = "\x00"
_IDS_AT_ONCE = 500
_VECTOR = np.dtype("<f2")
_FACTS = "revision, title, brand, category, price, created_at, sellable, popularity"

Told = Callable[["Batch"], None]


@dataclass(frozen=True)
class Facts:
    """What is remembered of an item; `popularity` is the shop's own, `created_at` in seconds since 1970 UTC."""

    revision: int
    title: str
    brand: str
    category: str
    price: float | None
    created_at: float
    sellable: bool
    popularity: float

    @classmethod
    def of(cls, item: types_pb2.Item, now: float) -> "Facts":
        """From an item as it is told; `now` stands in for a missing created_at."""
        return cls(
            revision=item.revision,
            title=item.title,
            brand=item.brand,
            category=CATEGORY_SEPARATOR.join(item.category_path),
            price=item.price if item.HasField("price") else None,
            created_at=item.created_at.ToNanoseconds() / 1e9 if item.HasField("created_at") else now,
            sellable=(item.visible or not item.HasField("visible"))
            and (item.stock > 0 or not item.HasField("stock"))
            # Shown in a scene of their own, they are neither popular nor new items.
            and not is_campaign(item),
            popularity=item.popularity if item.HasField("popularity") else 0.0,
        )


class Happening(NamedTuple):
    """One event with an item, as what is derived from all shoppers reads it. `shopper` is a key of the log, no id."""

    shopper: int
    segment: str
    """Several, joined; see `segments`."""
    time_ms: int
    type: int
    item: str
    again: bool

    @property
    def segments(self) -> list[str]:
        """The segments the shopper was in."""
        return self.segment.split(_NO_TEXT) if self.segment else []


class Entry(NamedTuple):
    """One event with an item, as a shopper's own state reads it."""

    time_ms: int
    type: int
    item: str
    quantity: int
    price: float | None


class Held(NamedTuple):
    """What is held of a shopper beside events; `version` grows with all that changes the shopper's context."""

    key: int
    version: int
    attributes: Sequence[types_pb2.Attribute]


class _Prepared(NamedTuple):
    event: types_pb2.Event
    time_ms: int
    told_ms: int | None
    content: bytes


@dataclass
class Counts:
    """How much the log holds."""

    events: int = 0
    impressions: int = 0
    shoppers: int = 0
    waiting: int = 0
    purchases: int = 0
    rebuys: int = 0
    latest_ms: int | None = None


@dataclass
class Batch:
    """The writes of one commit. Nothing of it counts before the commit."""

    db: sqlite3.Connection
    head: int
    counts: Counts = field(default_factory=Counts)
    """How the counts change."""
    happened: list[Happening] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    clicked: list[str] = field(default_factory=list)
    joined: list[tuple[str, int]] = field(default_factory=list)
    """Items that are known and the types of events that now count for them."""
    items: dict[str, Facts] = field(default_factory=dict)
    forgotten: list[int] = field(default_factory=list)
    _met: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Shoppers looked up in this batch."""

    def record(self, events: Sequence[_Prepared]) -> coldstart_pb2.RecordEventsResponse:
        """Writes checked events."""
        answer = coldstart_pb2.RecordEventsResponse()
        versions: dict[int, int] = {}
        told = self._among("SELECT event_id FROM events WHERE event_id", [each.event.event_id for each in events])
        known = self._among("SELECT id FROM items WHERE id", [each.event.item_id for each in events])
        for prepared in events:
            event = prepared.event
            if event.event_id in told:
                answer.duplicates += 1
                continue
            told.add(event.event_id)
            key, segment = self._shopper(event.shopper_id)
            sequence = self._next()
            again = event.type == types_pb2.EVENT_TYPE_PURCHASE and self._found(
                "SELECT 1 FROM events WHERE shopper = ? AND item = ? AND type = 6 AND (time_ms < ? OR time_ms > ?)",
                key,
                event.item_id,
                prepared.time_ms - _AGAIN_MS,
                prepared.time_ms + _AGAIN_MS,
            )
            quantity = event.quantity if event.HasField("quantity") else 1
            price = event.price if event.HasField("price") else None
            self.db.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    sequence,
                    event.event_id,
                    key,
                    prepared.time_ms,
                    prepared.told_ms,
                    event.type,
                    event.item_id or None,
                    quantity,
                    price,
                    again,
                    prepared.content,
                ),
            )
            versions[key] = sequence
            answer.accepted += 1
            self.counts.latest_ms = max(self.counts.latest_ms or prepared.time_ms, prepared.time_ms)
            if event.item_id:
                happening = Happening(key, segment, prepared.time_ms, event.type, event.item_id, again)
                answer.unknown_items += self._join(happening, sequence, event.item_id in known)
        for key, version in versions.items():
            self.db.execute("UPDATE shoppers SET version = ? WHERE key = ?", (version, key))
        self.counts.events += answer.accepted
        return answer

    def impress(
        self, impressions: Sequence[tuple[types_pb2.Impression, bytes]]
    ) -> coldstart_pb2.RecordImpressionsResponse:
        """Writes checked impressions; of an answer that is known in part, the places that are new."""
        answer = coldstart_pb2.RecordImpressionsResponse()
        for impression, content in impressions:
            known = self._known_positions(impression.request_id)
            items = [item for item in impression.items if known is None or item.position not in known]
            if known is not None and not items:
                answer.duplicates += 1
                continue
            whose = impression.shopper_id
            # Written behind the answer it may come after the forgetting, and must not make the shopper anew.
            nobody = not whose or self._is_forgotten(whose)
            if len(items) < len(impression.items) or (whose and nobody):
                part = types_pb2.Impression.FromString(content)
                del part.items[:]
                part.items.extend(items)
                if nobody:
                    part.ClearField("shopper_id")
                content = part.SerializeToString()
            key = None if nobody else self._shopper(whose)[0]
            self.db.execute(
                "INSERT INTO impressions VALUES (?, ?, ?, ?)", (self._next(), impression.request_id, key, content)
            )
            for item in items:
                self.db.execute("UPDATE items SET shown = shown + 1 WHERE id = ?", (item.item_id,))
            self.shown += [item.item_id for item in items]
            answer.accepted += 1
        self.counts.impressions += answer.accepted
        return answer

    def put_attributes(self, shopper_id: str, attributes: Sequence[types_pb2.Attribute]) -> None:
        """Keeps attributes, each name replacing its former values. Raises Invalid for more than 32 in all."""
        key, _ = self._shopper(shopper_id)
        content = self.db.execute("SELECT shopper FROM shoppers WHERE key = ?", (key,)).fetchone()[0]
        held = types_pb2.Shopper.FromString(content or b"").attributes
        merged = merged_attributes(held, attributes)
        if merged == list(held):
            return
        if len(merged) > MAX_SHOPPER_ATTRIBUTES:
            raise Invalid(
                "attributes", f"the shopper would have {len(merged)} attributes; the limit is {MAX_SHOPPER_ATTRIBUTES}"
            )
        sequence = self._next()
        shopper = types_pb2.Shopper(id=shopper_id, attributes=merged)
        self.db.execute(
            "UPDATE shoppers SET version = ?, sequence = ?, segment = ?, shopper = ? WHERE key = ?",
            (sequence, sequence, _NO_TEXT.join(segments_of(merged)), shopper.SerializeToString(), key),
        )
        self._met.pop(shopper_id, None)

    def put_item(self, item_id: str, facts: Facts, space: str, vector: Float32 | None) -> None:
        """Remembers an item and its content vector, unless a later revision is known. Joins the events that wait."""
        row = self.db.execute("SELECT key, revision FROM items WHERE id = ?", (item_id,)).fetchone()
        if row is not None and int(row[1]) > facts.revision:
            return
        values = (
            str(facts.revision),
            facts.title,
            facts.brand,
            facts.category,
            facts.price,
            facts.created_at,
            facts.sellable,
            facts.popularity,
        )
        if row is None:
            cursor = self.db.execute(
                "INSERT INTO items (revision, title, brand, category, price, created_at, sellable, popularity, id) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*values, item_id),
            )
            key = cursor.lastrowid
            self._end_waiting(item_id)
        else:
            key = row[0]
            self.db.execute(
                "UPDATE items SET revision = ?, title = ?, brand = ?, category = ?, price = ?, created_at = ?, "
                "sellable = ?, popularity = ? WHERE key = ?",
                (*values, key),
            )
            if int(row[1]) < facts.revision:
                self.db.execute("DELETE FROM vectors WHERE item = ?", (key,))
        if vector is not None:
            self.db.execute(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", (key, space, vector.astype(_VECTOR).tobytes())
            )
        self.items[item_id] = facts

    def follow(self, catalogue: str) -> None:
        """Where another catalogue tells of items than before, the revisions known say nothing of its own."""
        row = self.db.execute("SELECT value FROM meta WHERE name = 'catalogue'").fetchone()
        if catalogue and (row is None or row[0] != catalogue):
            if row is not None:
                self.db.execute("UPDATE items SET revision = '0'")
            self.db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('catalogue', ?)", (catalogue,))

    def remove_item(self, item_id: str, revision: int, now: float) -> bool:
        """Remembers that an item can no longer be sold, unless a later revision is known.

        One that nobody told of is remembered too: what was told of it before may come late.
        """
        row = self.db.execute(f"SELECT {_FACTS} FROM items WHERE id = ?", (item_id,)).fetchone()
        held = Facts(revision, "", "", "", None, now, False, 0.0) if row is None else _facts(row)
        if held.revision > revision:
            return False
        gone = replace(held, revision=revision, sellable=False)
        if row is None:
            self.put_item(item_id, gone, "", None)
        else:
            self.db.execute("UPDATE items SET revision = ?, sellable = 0 WHERE id = ?", (str(revision), item_id))
            self.items[item_id] = gone
        return True

    def drop_vectors(self, space: str, limit: int) -> int:
        """Removes up to `limit` vectors of a space version; returns how many there were."""
        return self.db.execute(
            "DELETE FROM vectors WHERE (item, space) IN (SELECT item, space FROM vectors WHERE space = ? LIMIT ?)",
            (space, limit),
        ).rowcount

    def forget(self, shopper_id: str) -> coldstart_pb2.ForgetShopperResponse:
        """Erases a shopper and leaves a tombstone; nothing where nothing is held."""
        row = self.db.execute("SELECT key FROM shoppers WHERE id = ?", (shopper_id,)).fetchone()
        if row is None:
            return coldstart_pb2.ForgetShopperResponse()
        (key,) = row
        purchases, rebuys = self.db.execute(
            "SELECT COUNT(*), COALESCE(SUM(again), 0) FROM events WHERE shopper = ? AND type = 6", row
        ).fetchone()
        waiting = self.db.execute(
            "DELETE FROM waiting WHERE event IN (SELECT sequence FROM events WHERE shopper = ?)", row
        ).rowcount
        events = self.db.execute("DELETE FROM events WHERE shopper = ?", row).rowcount
        impressions = self.db.execute("DELETE FROM impressions WHERE shopper = ?", row).rowcount
        self.db.execute("DELETE FROM shoppers WHERE key = ?", row)
        self._met.pop(shopper_id, None)
        self.db.execute("INSERT OR REPLACE INTO forgotten VALUES (?, ?)", (self._next(), shopper_id))
        self.db.execute("UPDATE meta SET value = 1 WHERE name = 'unscrubbed'")
        self.counts.events -= events
        self.counts.impressions -= impressions
        self.counts.waiting -= waiting
        self.counts.purchases -= purchases
        self.counts.rebuys -= rebuys
        self.counts.shoppers -= 1
        self.forgotten.append(key)
        self.happened = [happening for happening in self.happened if happening.shopper != key]
        return coldstart_pb2.ForgetShopperResponse(events=events, impressions=impressions)

    def _next(self) -> int:
        self.head += 1
        return self.head

    def _among(self, select: str, ids: Sequence[str]) -> set[str]:
        """Which of the ids a column holds."""
        found: set[str] = set()
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[start : start + _IDS_AT_ONCE]
            found.update(value for (value,) in self.db.execute(f"{select} IN ({','.join('?' * len(some))})", some))
        return found

    def _found(self, query: str, *values: object) -> bool:
        return self.db.execute(query, values).fetchone() is not None

    def _is_forgotten(self, shopper_id: str) -> bool:
        """Whether nothing is held of a shopper of whom something was."""
        return (
            shopper_id not in self._met
            and not self._found("SELECT 1 FROM shoppers WHERE id = ?", shopper_id)
            and self._found("SELECT 1 FROM forgotten WHERE id = ?", shopper_id)
        )

    def _shopper(self, shopper_id: str) -> tuple[int, str]:
        """Key and segment, made where the shopper is new.

        A key is a sequence number: never used again, so that nothing derived under it can be taken for another's.
        """
        if (met := self._met.get(shopper_id)) is not None:
            return met
        row = self.db.execute("SELECT key, segment FROM shoppers WHERE id = ?", (shopper_id,)).fetchone()
        if row is not None:
            self._met[shopper_id] = row
            return row[0], row[1]
        sequence = self._next()
        self.db.execute(
            "INSERT INTO shoppers (key, id, version, segment) VALUES (?, ?, ?, '')", (sequence, shopper_id, sequence)
        )
        self.counts.shoppers += 1
        return sequence, ""

    def _join(self, happening: Happening, sequence: int, known: bool) -> bool:
        """Counts an event for its item; True where the item is not known and the event waits."""
        self.happened.append(happening)
        if happening.type == types_pb2.EVENT_TYPE_PURCHASE:
            self.counts.purchases += 1
            self.counts.rebuys += happening.again
        if not known:
            self.db.execute("INSERT INTO waiting VALUES (?, ?)", (happening.item, sequence))
            self.counts.waiting += 1
            return True
        self.joined.append((happening.item, happening.type))
        if happening.type == types_pb2.EVENT_TYPE_CLICK:
            self.db.execute("UPDATE items SET clicked = clicked + 1 WHERE id = ?", (happening.item,))
            self.clicked.append(happening.item)
        return False

    def _end_waiting(self, item_id: str) -> None:
        """The contexts of those whose events waited are other ones now: their versions move."""
        kinds = self.db.execute(
            "SELECT e.type FROM waiting w JOIN events e ON e.sequence = w.event WHERE w.item = ?", (item_id,)
        ).fetchall()
        if not kinds:
            return
        self.joined += [(item_id, kind) for (kind,) in kinds]
        version = self._next()
        self.db.execute(
            "UPDATE shoppers SET version = ? WHERE key IN (SELECT e.shopper FROM waiting w JOIN events e "
            "ON e.sequence = w.event WHERE w.item = ?)",
            (version, item_id),
        )
        self.counts.waiting -= self.db.execute("DELETE FROM waiting WHERE item = ?", (item_id,)).rowcount

    def _known_positions(self, request_id: str) -> set[int] | None:
        rows = self.db.execute("SELECT impression FROM impressions WHERE request_id = ?", (request_id,)).fetchall()
        if not rows:
            return None
        return {item.position for (content,) in rows for item in types_pb2.Impression.FromString(content).items}


class Log(Journal[Batch]):
    """One directory with the log, open in one process only; see Journal. Reads block: call them from a thread."""

    def __init__(self, directory: Path, queue_limit: int = 20_000, clock: Callable[[], float] = time.time) -> None:
        """Opens or creates the log; `clock` gives seconds since 1970. Raises JournalError."""
        super().__init__(directory, _LAYOUT, queue_limit)
        self._clock = clock
        self.identity: str = meta(self._writer, "identity")
        """Of this log and no other, however often a directory is emptied."""
        self._head: int = meta(self._writer, "head")
        self._tell: Told = lambda _batch: None
        self._unscrubbed: bool = meta(self._writer, "unscrubbed") == 1
        self._scrub_after = 0.0
        self.counts = self._count()
        self._scrub()

    @property
    def head(self) -> int:
        """Sequence number of the last entry committed."""
        return self._head

    def start(self, tell: Told) -> None:
        """Starts the writer thread, which calls `tell(batch)` after each commit and before its answers."""
        self._tell = tell
        self._start_writer()

    # Writes. Messages are taken over. All raise Invalid, and Overloaded or Unavailable as Journal.submit.

    def record(self, events: Sequence[types_pb2.Event]) -> Future[coldstart_pb2.RecordEventsResponse]:
        """Writes a batch of events, all or none."""
        check_events(events)
        now_ns = int(self._clock() * 1e9)
        prepared = [_prepare(event, now_ns) for event in events]
        return self.submit(len(events), lambda batch: batch.record(prepared))

    def impress(self, impressions: Sequence[types_pb2.Impression]) -> Future[coldstart_pb2.RecordImpressionsResponse]:
        """Writes a batch of impressions, all or none."""
        check_impressions(impressions)
        now_ns = int(self._clock() * 1e9)
        for impression in impressions:
            if not impression.HasField("time") or impression.time.ToNanoseconds() > now_ns:
                impression.time.FromNanoseconds(now_ns)
        prepared = [(impression, impression.SerializeToString()) for impression in impressions]
        return self.submit(
            sum(1 + len(each.items) // 10 for each in impressions), lambda batch: batch.impress(prepared)
        )

    def put_attributes(self, shopper_id: str, attributes: Sequence[types_pb2.Attribute]) -> Future[None]:
        """Keeps what the shop says of a shopper."""
        check_shopper_attributes(attributes, "attributes")
        kept = list(attributes)
        return self.submit(1, lambda batch: batch.put_attributes(shopper_id, kept))

    def put_item(self, item: types_pb2.Item, space: str, vector: Float32 | None) -> Future[None]:
        """Remembers a checked item and its content vector, if it has one."""
        return self.put_items([(item, vector)], space)

    def put_items(
        self, items: Sequence[tuple[types_pb2.Item, Float32 | None]], space: str, catalogue: str = ""
    ) -> Future[None]:
        """Remembers checked items and their content vectors, in one commit; `catalogue`: whose, see Batch.follow."""
        now = self._clock()
        told = [(item.id, Facts.of(item, now), vector) for item, vector in items]

        def put(batch: Batch) -> None:
            batch.follow(catalogue)
            for item_id, facts, vector in told:
                batch.put_item(item_id, facts, space, vector)

        return self.submit(len(told), put)

    def remove_items(self, removed: Sequence[tuple[str, int]], catalogue: str = "") -> Future[int]:
        """Remembers of items, each with the revision of its removal, that they can no longer be sold; how many."""
        now = self._clock()

        def remove(batch: Batch) -> int:
            batch.follow(catalogue)
            return sum(batch.remove_item(item, revision, now) for item, revision in removed)

        return self.submit(len(removed), remove)

    def drop_vectors(self, space: str, limit: int) -> Future[int]:
        """Removes up to `limit` vectors of a space version that no generation speaks any more."""
        return self.submit(0, lambda batch: batch.drop_vectors(space, limit))

    def scrub(self) -> None:
        """Has the writer overwrite what was forgotten, where that is still to be done and can be queued."""
        if self._unscrubbed:
            self.submit(0, lambda _batch: None)

    def forget(self, shopper_id: str) -> Future[coldstart_pb2.ForgetShopperResponse]:
        """Erases all that is held of a shopper; impressions without a shopper are nobody's and stay."""
        return self.submit(1, lambda batch: batch.forget(shopper_id))

    def _begin(self) -> Batch:
        return Batch(self._writer, self._head)

    def _seal(self, batch: Batch) -> None:
        if batch.head != self._head:
            self._writer.execute("UPDATE meta SET value = ? WHERE name = 'head'", (batch.head,))

    def _told(self, batch: Batch) -> None:
        self._head = batch.head
        telemetry.LOG_SEQUENCE.set(batch.head)
        held, change = self.counts, batch.counts
        times = [time_ms for time_ms in (held.latest_ms, change.latest_ms) if time_ms is not None]
        self.counts = Counts(
            held.events + change.events,
            held.impressions + change.impressions,
            held.shoppers + change.shoppers,
            held.waiting + change.waiting,
            held.purchases + change.purchases,
            held.rebuys + change.rebuys,
            max(times, default=None),
        )
        self._tell(batch)
        self._unscrubbed = self._unscrubbed or bool(batch.forgotten)
        self._scrub()

    def _scrub(self) -> None:
        """Makes the file anew where it may hold what was forgotten; a later commit does what fails or comes too soon.

        So that many who are forgotten do not stop the writes, it takes at most a tenth of the writer's time.
        """
        began = time.monotonic()
        if not self._unscrubbed or began < self._scrub_after:
            return
        try:
            self._writer.execute("VACUUM")
            # Old pages wait in the write-ahead log until no read needs them.
            self._writer.execute(f"PRAGMA busy_timeout = {_SCRUB_WAIT_MS}")
            busy, _, _ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                self._writer.execute("UPDATE meta SET value = 0 WHERE name = 'unscrubbed'")
                self._unscrubbed = False
        except sqlite3.Error as error:
            telemetry.log.warning("what was forgotten is not yet overwritten in the file", problem=str(error))
        finally:
            self._writer.execute("PRAGMA busy_timeout = 5000")
            self._scrub_after = time.monotonic() + _SCRUB_REST * (time.monotonic() - began)

    def _count(self) -> Counts:
        def one(query: str) -> Any:
            return self._writer.execute(query).fetchone()

        events, latest = one("SELECT COUNT(*), MAX(time_ms) FROM events")
        purchases, rebuys = one("SELECT COUNT(*), COALESCE(SUM(again), 0) FROM events WHERE type = 6")
        return Counts(
            events,
            one("SELECT COUNT(*) FROM impressions")[0],
            one("SELECT COUNT(*) FROM shoppers")[0],
            one("SELECT COUNT(*) FROM waiting")[0],
            purchases,
            rebuys,
            latest,
        )

    # Reads.

    def shopper(self, shopper_id: str) -> Held | None:
        """What is held of a shopper beside events, None where nothing is."""
        with self.reading() as db:
            row = db.execute("SELECT key, version, shopper FROM shoppers WHERE id = ?", (shopper_id,)).fetchone()
        if row is None:
            return None
        return Held(row[0], row[1], list(types_pb2.Shopper.FromString(row[2] or b"").attributes))

    def latest(self, key: int, limit: int) -> list[Entry]:
        """A shopper's latest `limit` events with items, newest first by time, then by sequence."""
        with self.reading() as db:
            rows = db.execute(
                "SELECT time_ms, type, item, quantity, price FROM events INDEXED BY events_by_time WHERE shopper = ? "
                "AND item IS NOT NULL ORDER BY time_ms DESC, sequence DESC LIMIT ?",
                (key, limit),
            ).fetchall()
        return [Entry(*row) for row in rows]

    def searches(self, key: int, limit: int) -> list[types_pb2.Event]:
        """A shopper's latest `limit` searches among the latest 300 events, oldest first."""
        with self.reading() as db:
            rows = db.execute(
                "SELECT event FROM (SELECT sequence, time_ms, type, event FROM events INDEXED BY events_by_shopper "
                "WHERE shopper = ? ORDER BY sequence DESC LIMIT 300) WHERE type = 1 "
                "ORDER BY time_ms DESC, sequence DESC LIMIT ?",
                (key, limit),
            ).fetchall()
        return [types_pb2.Event.FromString(event) for (event,) in reversed(rows)]

    def vectors(self, ids: Sequence[str], space: str) -> dict[str, Float32]:
        """Content vectors (float32, (dim,)) of the items that have one in this space version."""
        found: dict[str, Float32] = {}
        with self.reading() as db:
            for start in range(0, len(ids), _IDS_AT_ONCE):
                some = ids[start : start + _IDS_AT_ONCE]
                rows = db.execute(
                    "SELECT i.id, v.vector FROM items i JOIN vectors v ON v.item = i.key AND v.space = ? "
                    f"WHERE i.id IN ({','.join('?' * len(some))})",
                    (space, *some),
                )
                for item_id, content in rows:
                    found[item_id] = np.frombuffer(content, _VECTOR).astype(np.float32)
        return found

    def items(self) -> Iterator[tuple[str, Facts, int, int]]:
        """Every item remembered, with how often it was shown and clicked. Not beside a writer: for the start."""
        for *facts, item_id, shown, clicked in self._writer.execute(f"SELECT {_FACTS}, id, shown, clicked FROM items"):
            yield item_id, _facts(facts), shown, clicked

    def counted(self, kinds: Sequence[int]) -> dict[str, dict[int, int]]:
        """How many events of these types each item has, by item and type; without what has none."""
        counts: dict[str, dict[int, int]] = {}
        with self.reading() as db:
            for item, kind, count in db.execute(
                "SELECT item, type, COUNT(*) FROM events INDEXED BY events_by_time WHERE item IS NOT NULL AND type IN "
                f"({','.join('?' * len(kinds))}) GROUP BY item, type",
                tuple(kinds),
            ):
                counts.setdefault(item, {})[kind] = count
        return counts

    def replay(self, limit: int) -> Iterator[Happening]:
        """The last `limit` events with items, in order of sequence. Not beside a writer: for the start."""
        rows = self._writer.execute(
            "SELECT e.shopper, s.segment, e.time_ms, e.type, e.item, e.again FROM events e JOIN shoppers s "
            "ON s.key = e.shopper WHERE e.sequence > COALESCE((SELECT sequence FROM events ORDER BY sequence DESC "
            "LIMIT 1 OFFSET ?), 0) AND e.item IS NOT NULL ORDER BY e.sequence",
            (limit,),
        )
        return map(Happening._make, rows)

    def entries(self, after: int, limit: int = 1_000) -> list[coldstart_pb2.LogEntry]:
        """Entries above a sequence number in order, at most `limit` and about a megabyte; empty at the end.

        Raises Invalid where `after` is ahead of the log.
        """
        with self.reading() as db:
            head: int = meta(db, "head")
            if after > head:
                raise Invalid(
                    "from_sequence",
                    f"{after} is ahead of this log, whose last entry is {head}: it is another log's; start from 0",
                )
            streams = [
                _entries(db, "event", "SELECT sequence, event FROM events", after, limit),
                _entries(db, "impression", "SELECT sequence, impression FROM impressions", after, limit),
                _entries(db, "shopper", "SELECT sequence, shopper FROM shoppers", after, limit),
                _entries(db, "forgotten_shopper_id", "SELECT sequence, id FROM forgotten", after, limit),
            ]
            found: list[coldstart_pb2.LogEntry] = []
            size = 0
            for entry in heapq.merge(*streams, key=lambda entry: entry.sequence):
                found.append(entry)
                size += entry.ByteSize()
                if len(found) >= limit or size >= _PAGE_BYTES:
                    break
            return found

    def events_of(self, key: int, after: int, limit: int) -> tuple[list[types_pb2.Event], int]:
        """A shopper's events above a sequence number, and the last one's; in order of commit."""
        with self.reading() as db:
            rows = db.execute(
                "SELECT sequence, event FROM events INDEXED BY events_by_shopper WHERE shopper = ? AND sequence > ? "
                "ORDER BY sequence LIMIT ?",
                (key, after, limit),
            ).fetchall()
        return [types_pb2.Event.FromString(event) for _, event in rows], rows[-1][0] if rows else after

    def impressions_of(self, key: int, after: int, limit: int) -> tuple[list[types_pb2.Impression], int]:
        """A shopper's impressions above a sequence number, and the last one's; in order of commit."""
        with self.reading() as db:
            rows = db.execute(
                "SELECT sequence, impression FROM impressions WHERE shopper = ? AND sequence > ? "
                "ORDER BY sequence LIMIT ?",
                (key, after, limit),
            ).fetchall()
        return [types_pb2.Impression.FromString(one) for _, one in rows], rows[-1][0] if rows else after


def merged_attributes(
    held: Sequence[types_pb2.Attribute], told: Sequence[types_pb2.Attribute]
) -> list[types_pb2.Attribute]:
    """Attributes by name, what is told replacing what is held, in the order in which names became known."""
    return list(({each.name: each for each in held} | {each.name: each for each in told}).values())


def segments_of(attributes: Sequence[types_pb2.Attribute]) -> tuple[str, ...]:
    """The segments a shopper of these attributes is in ("country=GB")."""
    return tuple(f"{each.name}={each.values[0]}" for each in attributes if each.name in SEGMENT_ATTRIBUTES)


def _facts(row: Sequence[Any]) -> Facts:
    """From the columns _FACTS."""
    revision, title, brand, category, price, created_at, sellable, popularity = row
    return Facts(int(revision), title, brand, category, price, created_at, bool(sellable), popularity)


def _prepare(event: types_pb2.Event, now_ns: int) -> _Prepared:
    """Takes the event over: fills in its time, or sets it back to now."""
    told_ms = None
    if not event.HasField("time"):
        event.time.FromNanoseconds(now_ns)
    elif (told_ns := event.time.ToNanoseconds()) > now_ns:
        told_ms = told_ns // 1_000_000
        event.time.FromNanoseconds(now_ns)
        telemetry.LOG_EVENTS.labels("clock_ahead").inc()
    return _Prepared(event, event.time.ToMilliseconds(), told_ms, event.SerializeToString())


def _entries(
    db: sqlite3.Connection, kind: str, select: str, after: int, limit: int
) -> Iterator[coldstart_pb2.LogEntry]:
    for sequence, content in db.execute(f"{select} WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, limit)):
        entry = coldstart_pb2.LogEntry(sequence=sequence)
        match kind:
            case "event":
                entry.event.ParseFromString(content)
            case "impression":
                entry.impression.ParseFromString(content)
            case "shopper":
                entry.shopper.ParseFromString(content)
            case _:
                entry.forgotten_shopper_id = content
        yield entry
