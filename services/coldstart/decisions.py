"""What people decide of items: an append-only table, which is the audit, and what of it is in force.

A file of its own beside the log: forgetting a shopper makes the log's file anew, and nothing may be lost here.
"""

import heapq
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
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


class _InForce:
    """Decisions in force by what they are of, and how many of each kind. Written by one thread."""

    def __init__(self) -> None:
        self.by_key: dict[_Key, review_pb2.Decision] = {}
        self.key_of: dict[int, _Key] = {}
        """By sequence number."""
        self.count: Counter[int] = Counter()
        """By verdict."""
        self._ends: list[tuple[int, int]] = []
        """When those with an end are over, in nanoseconds since 1970, and their sequence numbers: a heap."""

    def put(self, one: review_pb2.Decision) -> None:
        """A decision in place of an older one of the same."""
        key = _key(one)
        self.drop(key)
        self.by_key[key] = one
        self.key_of[one.sequence] = key
        self.count[one.verdict] += 1
        if one.HasField("until"):
            heapq.heappush(self._ends, (one.until.ToNanoseconds(), one.sequence))

    def drop(self, key: _Key) -> None:
        """No decision of this any more."""
        one = self.by_key.pop(key, None)
        if one is not None:
            del self.key_of[one.sequence]
            self.count[one.verdict] -= 1

    def end(self, now_ns: int) -> None:
        """Drops those that are over."""
        while self._ends and self._ends[0][0] <= now_ns:
            key = self.key_of.get(heapq.heappop(self._ends)[1])
            if key is not None:
                self.drop(key)


@dataclass
class Batch:
    """The decisions of one commit, beside those that were in force before."""

    db: sqlite3.Connection
    head: int
    before: _InForce
    now_ns: int
    changed: dict[_Key, review_pb2.Decision | None] = field(default_factory=dict)
    """What is in force of these with this commit; None: nothing."""
    _written: dict[int, _Key] = field(default_factory=dict)
    _count: Counter[int] = field(default_factory=Counter)

    def decide(self, decision: review_pb2.Decision) -> review_pb2.Decision:
        """Writes a checked decision, which is taken over. Raises FailedPrecondition."""
        if decision.verdict == review_pb2.VERDICT_UNDO:
            key = self._written.get(decision.undoes) or self.before.key_of.get(decision.undoes)
            undone = None if key is None else self._held(key)
            if key is None or undone is None or undone.sequence != decision.undoes:
                return self._undone_before(decision)
            decision.item_id = undone.item_id
            self._change(key, None)
        else:
            key = _key(decision)
            held, most = self._held(key), MOST[decision.verdict]
            same = held is not None and held.verdict == decision.verdict
            if (others := self.before.count[decision.verdict] + self._count[decision.verdict] - same) >= most:
                name = review_pb2.Verdict.Name(decision.verdict).removeprefix("VERDICT_")
                raise FailedPrecondition(f"{others} of {name} are in force; the limit is {most}: undo one first")
            self._change(key, decision)
        self.head += 1
        decision.sequence = self.head
        self._written[self.head] = key
        decision.time.FromNanoseconds(self.now_ns)
        self.db.execute(
            "INSERT INTO decisions VALUES (?, ?, ?)", (self.head, decision.item_id, decision.SerializeToString())
        )
        return decision

    def _held(self, key: _Key) -> review_pb2.Decision | None:
        return self.changed[key] if key in self.changed else self.before.by_key.get(key)

    def _change(self, key: _Key, to: review_pb2.Decision | None) -> None:
        for one, by in ((self._held(key), -1), (to, 1)):
            if one is not None:
                self._count[one.verdict] += by
        # Last, as it is the newest.
        self.changed.pop(key, None)
        self.changed[key] = to

    def _undone_before(self, decision: review_pb2.Decision) -> review_pb2.Decision:
        """What was written when the same was told before, whose answer may be lost. Raises FailedPrecondition."""
        rows = self.db.execute(
            "SELECT decision FROM decisions WHERE sequence > ?1 AND item = (SELECT item FROM decisions WHERE "
            "sequence = ?1) ORDER BY sequence",
            (decision.undoes,),
        )
        for (content,) in rows:
            one = review_pb2.Decision.FromString(content)
            if (one.undoes, one.who, one.why) == (decision.undoes, decision.who, decision.why):
                return one
        raise FailedPrecondition(f"undoes: decision {decision.undoes} is not in force")


class Decisions(Journal[Batch]):
    """Open in one process only; see Journal. Reads block: call them from a thread."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        """Opens or creates the file and reads it; `clock` gives seconds since 1970. Raises JournalError."""
        super().__init__(directory, _LAYOUT, _MAX_QUEUED)
        self._clock = clock
        self._identity: str = meta(self._writer, "identity")
        self._held = _InForce()
        self._head = 0
        for (content,) in self._writer.execute("SELECT decision FROM decisions ORDER BY sequence"):
            one = review_pb2.Decision.FromString(content)
            self._head = one.sequence
            if one.verdict != review_pb2.VERDICT_UNDO:
                self._held.put(one)
            elif (key := self._held.key_of.get(one.undoes)) is not None:
                self._held.drop(key)
        self._start_writer()

    @property
    def version(self) -> str:
        """Changes with every decision."""
        return f"{self._identity}:{self._head}"

    def in_force(self) -> list[review_pb2.Decision]:
        """What is decided and neither undone, replaced nor expired, in order of sequence."""
        now_ns = self._now_ns()
        # list() is one step: the writer cannot come between.
        held = list(self._held.by_key.values())
        return [one for one in held if not one.HasField("until") or one.until.ToNanoseconds() > now_ns]

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
        self._held.end(now_ns)
        return Batch(self._writer, self._head, self._held, now_ns)

    def _seal(self, batch: Batch) -> None:
        pass

    def _told(self, batch: Batch) -> None:
        for key, one in batch.changed.items():
            self._held.drop(key)
            if one is not None:
                self._held.put(one)
        self._head = batch.head

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
    for told, there, belongs in (
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
            raise Invalid(f"decision.{told}", f"does not belong to {name}{' in this scene' if pins else ''}")
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
