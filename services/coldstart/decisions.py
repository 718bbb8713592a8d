"""What people decide of items: an append-only table, which is the audit, and what of it is in force.

A file of its own beside the log: forgetting a shopper makes the log's file anew, and nothing may be lost here.
"""

import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from services.domain.checks import MAX_CATEGORY_DEPTH, Invalid, check_count, check_id, check_range, check_text
from services.runtime import telemetry
from services.runtime.errors import FailedPrecondition, Unavailable
from services.runtime.journal import Journal, Layout, meta
from souk.coldstart.v1 import review_pb2
from souk.types.v1 import types_pb2

FILE = "reviews.sqlite3"
MOST: Mapping[int, int] = {
    review_pb2.VERDICT_APPROVE: 100_000,
    # The gateway hands them to each retrieval.
    review_pb2.VERDICT_SUPPRESS: 2_000,
    review_pb2.VERDICT_PIN: 500,
}
"""Decisions of each kind that may be in force."""
MAX_PLACE = 99
_MAX_QUEUED = 1_000
_SCHEMA = """
CREATE TABLE decisions (sequence INTEGER PRIMARY KEY, item TEXT NOT NULL, decision BLOB NOT NULL);
CREATE INDEX decisions_by_item ON decisions (item, sequence);
CREATE TRIGGER decisions_stay BEFORE DELETE ON decisions BEGIN SELECT RAISE(ABORT, 'decisions are kept'); END;
CREATE TRIGGER decisions_hold BEFORE UPDATE ON decisions BEGIN SELECT RAISE(ABORT, 'decisions are kept'); END;
"""
_LAYOUT = Layout(
    name="reviews",
    file=FILE,
    lock="reviews.lock",
    schema=_SCHEMA,
    schema_version=1,
    setting="SOUK_COLDSTART_DATA",
    unit="decisions",
    refusal=Unavailable,
    again="",
    queued=telemetry.REVIEW_QUEUED,
    commit_seconds=telemetry.REVIEW_COMMIT_SECONDS,
)

# What a newer decision replaces: verdict (an approval and a suppression are two words on the same), item, scene, and of
# a pin where in the scene.
_Key = tuple[bool, str, int, str, tuple[str, ...], str]


@dataclass
class Batch:
    """The decisions of one commit: `held` is what is in force with them."""

    db: sqlite3.Connection
    head: int
    held: dict[_Key, review_pb2.Decision]
    now_ns: int

    def decide(self, decision: review_pb2.Decision) -> review_pb2.Decision:
        """Writes a checked decision, which is taken over. Raises FailedPrecondition."""
        if decision.verdict == review_pb2.VERDICT_UNDO:
            key = next((key for key, one in self.held.items() if one.sequence == decision.undoes), None)
            if key is None:
                raise FailedPrecondition(f"undoes: decision {decision.undoes} is not in force")
            decision.item_id = self.held.pop(key).item_id
        else:
            key = _key(decision)
            most = MOST[decision.verdict]
            others = sum(one.verdict == decision.verdict for at, one in self.held.items() if at != key)
            if others >= most:
                name = review_pb2.Verdict.Name(decision.verdict).removeprefix("VERDICT_")
                raise FailedPrecondition(f"{others} of {name} are in force; the limit is {most}: undo one first")
            self.held.pop(key, None)
            self.held[key] = decision
        self.head += 1
        decision.sequence = self.head
        decision.time.FromNanoseconds(self.now_ns)
        self.db.execute(
            "INSERT INTO decisions VALUES (?, ?, ?)", (self.head, decision.item_id, decision.SerializeToString())
        )
        return decision


class Decisions(Journal[Batch]):
    """Open in one process only; see Journal. Reads block: call them from a thread."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        """Opens or creates the file and reads it; `clock` gives seconds since 1970. Raises JournalError."""
        super().__init__(directory, _LAYOUT, _MAX_QUEUED)
        self._clock = clock
        self._identity: str = meta(self._writer, "identity")
        self._held: dict[_Key, review_pb2.Decision] = {}
        self._head = 0
        for (content,) in self._writer.execute("SELECT decision FROM decisions ORDER BY sequence"):
            one = review_pb2.Decision.FromString(content)
            self._head = one.sequence
            if one.verdict == review_pb2.VERDICT_UNDO:
                self._held = {key: held for key, held in self._held.items() if held.sequence != one.undoes}
            else:
                self._held.pop(_key(one), None)
                self._held[_key(one)] = one
        self._start_writer()

    @property
    def version(self) -> str:
        """Changes with every decision."""
        return f"{self._identity}:{self._head}"

    def in_force(self) -> list[review_pb2.Decision]:
        """What is decided and neither undone, replaced nor expired, in order of sequence."""
        return list(_unexpired(self._held, self._now_ns()).values())

    def decide(self, decision: review_pb2.Decision) -> Future[review_pb2.Decision]:
        """Writes a decision, which is taken over; answered after the commit. Raises Invalid, and as Journal.submit."""
        check_decision(decision, self._now_ns())
        return self.submit(1, lambda batch: batch.decide(decision))

    def audit(self, item_id: str, before: int, limit: int) -> list[review_pb2.Decision]:
        """Decisions below a sequence number (0: all), newest first; of one item where it is not empty."""
        below, of = before or self._head + 1, (item_id,) if item_id else ()
        with self.reading() as db:
            rows = db.execute(
                f"SELECT decision FROM decisions WHERE sequence < ? {'AND item = ? ' if item_id else ''}"
                "ORDER BY sequence DESC LIMIT ?",
                (below, *of, limit),
            ).fetchall()
        return [review_pb2.Decision.FromString(content) for (content,) in rows]

    def _begin(self) -> Batch:
        now_ns = self._now_ns()
        return Batch(self._writer, self._head, _unexpired(self._held, now_ns), now_ns)

    def _seal(self, batch: Batch) -> None:
        pass

    def _told(self, batch: Batch) -> None:
        self._held, self._head = batch.held, batch.head

    def _now_ns(self) -> int:
        return int(self._clock() * 1e9)


def check_decision(decision: review_pb2.Decision, now_ns: int) -> None:
    """Every limit of the contract; a query is kept in small letters with single spaces. Raises Invalid."""
    check_text(decision.who, "decision.who", 128)
    check_text(decision.why, "decision.why", 1_024)
    check_range(decision.verdict, "decision.verdict", 1, max(review_pb2.Verdict.values()))
    check_range(decision.scene, "decision.scene", 0, max(types_pb2.Scene.values()))
    verdict, pins = decision.verdict, decision.verdict == review_pb2.VERDICT_PIN
    undoes = verdict == review_pb2.VERDICT_UNDO
    name = review_pb2.Verdict.Name(verdict).removeprefix("VERDICT_")
    for field, there, belongs in (
        ("sequence", decision.sequence != 0, False),
        ("time", decision.HasField("time"), False),
        ("item_id", bool(decision.item_id), not undoes),
        ("scene", decision.scene != 0, pins or verdict == review_pb2.VERDICT_SUPPRESS),
        ("place", decision.place != 0, pins),
        ("query", bool(decision.query), pins and decision.scene == types_pb2.SCENE_SEARCH),
        ("category_path", bool(decision.category_path), pins),
        ("promotion", bool(decision.promotion), pins),
        ("until", decision.HasField("until"), not undoes),
        ("undoes", decision.undoes != 0, undoes),
    ):
        if there and not belongs:
            raise Invalid(f"decision.{field}", f"does not belong to {name}{' in this scene' if pins else ''}")
    if undoes:
        check_range(decision.undoes, "decision.undoes", 1, 2**63 - 1)
        return
    check_id(decision.item_id, "decision.item_id")
    if decision.HasField("until") and decision.until.ToNanoseconds() <= now_ns:
        raise Invalid("decision.until", "is over; it must be in the future")
    if pins:
        check_range(decision.scene, "decision.scene", 1, max(types_pb2.Scene.values()))
        check_range(decision.place, "decision.place", 0, MAX_PLACE)
        check_text(decision.query, "decision.query", 512, allow_empty=True)
        decision.query = " ".join(decision.query.casefold().split())
        check_count(decision.category_path, "decision.category_path", 0, MAX_CATEGORY_DEPTH)
        for i, part in enumerate(decision.category_path):
            check_text(part, f"decision.category_path[{i}]", 128)
        check_text(decision.promotion, "decision.promotion", 256, allow_empty=True)


def _key(one: review_pb2.Decision) -> _Key:
    pins = one.verdict == review_pb2.VERDICT_PIN
    return pins, one.item_id, one.scene, one.query, tuple(one.category_path), one.promotion


def _unexpired(held: dict[_Key, review_pb2.Decision], now_ns: int) -> dict[_Key, review_pb2.Decision]:
    return {key: one for key, one in held.items() if not one.HasField("until") or one.until.ToNanoseconds() > now_ns}
