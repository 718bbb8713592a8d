"""A running shop's log and catalogue as a canonical dataset: what was shown, what was done, and what became of what.

What is received is kept beside the output in a file of its own until the dataset is written, so that an export that
was broken off goes on where it stopped and memory does not grow with the log.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC
from pathlib import Path
from typing import Any

import grpc

from souk.coldstart.v1 import coldstart_pb2, coldstart_pb2_grpc
from souk.dataset import DatasetError, event_row, item_row, moment_text, shopper_row
from souk.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from souk.types.v1 import types_pb2
from training.data.canonical import DatasetWriter, Info

Tell = Callable[[str, int], None]
"""Called with what is being received or written and how many of it so far."""

# An event that names no answer belongs to the last one that showed its item to the shopper, for so long.
JOIN_SECONDS = 86_400

_OUTCOMES = {
    types_pb2.EVENT_TYPE_CLICK: "clicked",
    types_pb2.EVENT_TYPE_VIEW: "clicked",
    types_pb2.EVENT_TYPE_CART: "carted",
    types_pb2.EVENT_TYPE_PURCHASE: "purchased",
}
_ROWS_AT_ONCE = 10_000
# A stream that takes longer is taken up again where it stopped.
_STREAM_SECONDS = 600.0
_ATTEMPTS = 5
_PAUSE_SECONDS = 1.0
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
_OPTIONS = [
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A peer that is gone is found out while nothing comes.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS known (source TEXT PRIMARY KEY, address TEXT NOT NULL, sequence INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS items (id TEXT PRIMARY KEY, item BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shoppers (id TEXT PRIMARY KEY, shopper BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY, shopper TEXT NOT NULL, time_us INTEGER, item TEXT NOT NULL, request TEXT NOT NULL,
    type INTEGER NOT NULL, event BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (sequence INTEGER PRIMARY KEY, shopper TEXT NOT NULL, answer BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS shown (
    answer INTEGER NOT NULL, request TEXT NOT NULL, shopper TEXT NOT NULL, item TEXT NOT NULL, time_us INTEGER,
    position INTEGER NOT NULL, score REAL NOT NULL, propensity REAL NOT NULL, stock INTEGER,
    clicked INTEGER NOT NULL DEFAULT 0, carted INTEGER NOT NULL DEFAULT 0, purchased INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS events_by_shopper ON events (shopper, time_us);
CREATE INDEX IF NOT EXISTS answers_by_shopper ON answers (shopper);
CREATE INDEX IF NOT EXISTS shown_by_request ON shown (request, item);
CREATE INDEX IF NOT EXISTS shown_by_shopper ON shown (shopper, item, time_us);
"""


class ExportError(DatasetError):
    """The running shop could not be read; what was received is kept, and the message says where."""


def export(coldstart: str, retriever: str, out: Path, tell: Tell = lambda what, count: None) -> None:
    """Writes the dataset `out` from the processes at host:port.

    Who was forgotten is left out. Raises DatasetError where `out` exists, ExportError where a process does not answer.
    """
    if out.exists():
        raise DatasetError(f"{out}: exists already; remove it or name another directory")
    out.parent.mkdir(parents=True, exist_ok=True)
    file = out.parent / f".{out.name}.received"
    with closing(sqlite3.connect(file)) as db:
        # What a loss of power would take is received again.
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(_SCHEMA)
        # The log first, so that the catalogue holds what its last events are about.
        head = _receive(db, file, "log", coldstart, _log, _keep_log, tell)
        catalogue = _receive(db, file, "catalogue", retriever, _changes, _keep_changes, tell)
        _join(db, tell)
        info = Info(
            name="export",
            version=f"log {head}, catalogue {catalogue}",
            origin="the log of a running shop",
            licence="private",
        )
        with DatasetWriter(out, info) as writer:
            _write(db, writer, tell)
    for rest in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
        rest.unlink(missing_ok=True)


# ---- what is received ----


def _log(channel: grpc.Channel, after: int) -> Iterator[tuple[list[coldstart_pb2.LogEntry], int]]:
    stub = coldstart_pb2_grpc.ColdstartStub(channel)
    for response in stub.StreamLog(coldstart_pb2.StreamLogRequest(from_sequence=after), timeout=_STREAM_SECONDS):
        yield list(response.entries), response.entries[-1].sequence if response.entries else after


def _changes(channel: grpc.Channel, after: int) -> Iterator[tuple[list[retriever_pb2.Change], int]]:
    stub = retriever_pb2_grpc.RetrieverStub(channel)
    request = retriever_pb2.StreamChangesRequest(from_sequence=after)
    for response in stub.StreamChanges(request, timeout=_STREAM_SECONDS):
        yield list(response.changes), response.changes[-1].sequence if response.changes else response.head_sequence


def _receive(
    db: sqlite3.Connection,
    file: Path,
    source: str,
    address: str,
    stream: Callable[[grpc.Channel, int], Iterator[tuple[list[Any], int]]],
    keep: Callable[[sqlite3.Connection, list[Any]], None],
    tell: Tell,
) -> int:
    """Keeps what is new at the source, a commit a message; gives the last sequence number. Raises ExportError."""
    known = db.execute("SELECT address, sequence FROM known WHERE source = ?", (source,)).fetchone()
    after = known[1] if known else 0
    if known and known[0] != address:
        raise ExportError(f"{address}: {file} holds what was received from {known[0]}; remove it to start anew")
    received = failures = 0
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        while True:
            try:
                for entries, last in stream(channel, after):
                    with db:
                        keep(db, entries)
                        db.execute("INSERT OR REPLACE INTO known VALUES (?, ?, ?)", (source, address, last))
                    if last > after:
                        failures = 0
                    after = last
                    received += len(entries)
                    tell(f"entries of the {source}", received)
                return after
            except grpc.RpcError as error:
                failures += 1
                if error.code() not in _PASSING or failures >= _ATTEMPTS:
                    raise ExportError(
                        f"{source} at {address}: {error.code().name}: {error.details()} "
                        f"({file} holds all up to {after}, and the same command goes on from there; "
                        f"remove it to start anew)"
                    ) from None
                time.sleep(_PAUSE_SECONDS)


def _keep_log(db: sqlite3.Connection, entries: list[coldstart_pb2.LogEntry]) -> None:
    for entry in entries:
        match entry.WhichOneof("entry"):
            case "event":
                _keep_event(db, entry.sequence, entry.event)
            case "impression":
                _keep_impression(db, entry.sequence, entry.impression)
            case "shopper":
                values = (entry.shopper.id, entry.shopper.SerializeToString())
                db.execute("INSERT OR REPLACE INTO shoppers VALUES (?, ?)", values)
            case "forgotten_shopper_id":
                # The stream is in order: all that is held of the shopper by now is to be forgotten.
                who = (entry.forgotten_shopper_id,)
                db.execute("DELETE FROM shoppers WHERE id = ?", who)
                for table in ("events", "answers", "shown"):
                    db.execute(f"DELETE FROM {table} WHERE shopper = ?", who)


def _keep_event(db: sqlite3.Connection, sequence: int, event: types_pb2.Event) -> None:
    time_us = event.time.ToMicroseconds() if event.HasField("time") else None
    db.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            sequence,
            event.shopper_id,
            time_us,
            event.item_id,
            event.request_id,
            event.type,
            event.SerializeToString(),
        ),
    )
    db.execute("INSERT OR IGNORE INTO shoppers VALUES (?, NULL)", (event.shopper_id,))


def _keep_impression(db: sqlite3.Connection, sequence: int, impression: types_pb2.Impression) -> None:
    time_us = impression.time.ToMicroseconds() if impression.HasField("time") else None
    request, shopper = impression.request_id, impression.shopper_id
    db.executemany(
        "INSERT INTO shown VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0)",
        [
            (
                *(sequence, request, shopper, item.item_id, time_us, item.position, item.score, item.propensity),
                item.stock if item.HasField("stock") else None,
            )
            for item in impression.items
        ],
    )
    del impression.items[:]
    db.execute("INSERT INTO answers VALUES (?, ?, ?)", (sequence, shopper, impression.SerializeToString()))
    if shopper:
        db.execute("INSERT OR IGNORE INTO shoppers VALUES (?, NULL)", (shopper,))


def _keep_changes(db: sqlite3.Connection, changes: list[retriever_pb2.Change]) -> None:
    for change in changes:
        match change.WhichOneof("change"):
            case "item":
                item = change.item
                db.execute("INSERT OR REPLACE INTO items VALUES (?, ?)", (item.id, item.SerializeToString()))
            case "removal":
                db.execute("DELETE FROM items WHERE id = ?", (change.removal.item_id,))


# ---- what became of what ----


def _join(db: sqlite3.Connection, tell: Tell) -> None:
    """Marks what was clicked, carted and purchased where it was shown: once an event.

    That is the place of its item in the answer the event names; where it names none, or one that did not show the
    item, the place where the shopper was last shown the item, at most a day before.
    """
    types = ",".join(map(str, _OUTCOMES))
    done = 0
    with db:
        db.execute("UPDATE shown SET clicked = 0, carted = 0, purchased = 0")
        for shopper, time_us, item, request, kind in db.execute(
            f"SELECT shopper, time_us, item, request, type FROM events WHERE type IN ({types}) AND item != ''"
        ):
            place = None
            if request:
                place = db.execute(
                    "SELECT rowid FROM shown WHERE request = ? AND item = ? LIMIT 1", (request, item)
                ).fetchone()
            if place is None and time_us is not None:
                place = db.execute(
                    "SELECT rowid FROM shown WHERE shopper = ? AND item = ? AND time_us BETWEEN ? AND ? "
                    "ORDER BY time_us DESC LIMIT 1",
                    (shopper, item, time_us - JOIN_SECONDS * 1_000_000, time_us),
                ).fetchone()
            if place is not None:
                db.execute(f"UPDATE shown SET {_OUTCOMES[kind]} = 1 WHERE rowid = ?", place)
            done += 1
            if done % _ROWS_AT_ONCE == 0:
                tell("events joined", done)


# ---- what is written ----


def _write(db: sqlite3.Connection, writer: DatasetWriter, tell: Tell) -> None:
    """Every table. Events and shown items of an item that the catalogue no longer holds are left out and counted."""
    known = "item IN (SELECT id FROM items)"
    items = (item_row(types_pb2.Item.FromString(item)) for (item,) in db.execute("SELECT item FROM items ORDER BY id"))
    _write_all(writer, "items", items, tell)
    shoppers = (
        shopper_row(types_pb2.Shopper.FromString(shopper) if shopper else types_pb2.Shopper(id=shopper_id))
        for shopper_id, shopper in db.execute("SELECT id, shopper FROM shoppers ORDER BY id")
    )
    _write_all(writer, "shoppers", shoppers, tell)
    events = (
        event_row(types_pb2.Event.FromString(event))
        for (event,) in db.execute(
            f"SELECT event FROM events WHERE item = '' OR {known} ORDER BY shopper, time_us, sequence"
        )
    )
    _write_all(writer, "events", events, tell)
    _write_all(writer, "impressions", _shown_rows(db, known), tell)
    (lost,) = db.execute(f"SELECT count(*) FROM events WHERE item != '' AND NOT {known}").fetchone()
    writer.drop("events", "the catalogue does not hold the item", lost)
    (lost,) = db.execute(f"SELECT count(*) FROM shown WHERE NOT {known}").fetchone()
    writer.drop("impressions", "the catalogue does not hold the item", lost)


def _shown_rows(db: sqlite3.Connection, known: str) -> Iterator[dict[str, Any]]:
    query = (
        "SELECT s.answer, a.answer, s.item, s.position, s.score, s.propensity, s.stock, "
        "s.clicked, s.carted, s.purchased "
        f"FROM shown s JOIN answers a ON a.sequence = s.answer WHERE s.{known} ORDER BY s.answer, s.position"
    )
    answer, at = types_pb2.Impression(), 0
    for sequence, content, item, position, score, propensity, stock, clicked, carted, purchased in db.execute(query):
        if sequence != at:
            answer, at = types_pb2.Impression.FromString(content), sequence
        row: dict[str, Any] = {
            "request_id": answer.request_id,
            "item_id": item,
            "position": position,
            "propensity": propensity,
            "score": score,
            "stock": stock,
            "clicked": bool(clicked),
            "carted": bool(carted),
            "purchased": bool(purchased),
        }
        for column in ("shopper_id", "policy", "generation", "query"):
            if value := getattr(answer, column):
                row[column] = value
        if answer.scene:
            row["scene"] = types_pb2.Scene.Name(answer.scene).removeprefix("SCENE_")
        if answer.HasField("time"):
            row["time"] = moment_text(answer.time.ToDatetime(UTC))
        yield row


def _write_all(writer: DatasetWriter, table: str, rows: Iterator[dict[str, Any]], tell: Tell) -> None:
    written = 0
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS_AT_ONCE:
            written += len(batch)
            writer.write(table, batch)
            tell(f"{table} written", written)
            batch = []
    writer.write(table, batch)
    tell(f"{table} written", written + len(batch))
