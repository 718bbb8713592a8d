"""Decisions are kept, replaced by newer ones on the same, undone, and never changed."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.coldstart import decisions as module
from services.coldstart.decisions import FILE, Decisions, check_decision
from services.domain.checks import Invalid
from services.runtime.errors import FailedPrecondition
from souk.coldstart.v1 import review_pb2
from souk.types.v1 import types_pb2
from tests.unit.coldstart.making import DAY, NOW

APPROVE, SUPPRESS = review_pb2.VERDICT_APPROVE, review_pb2.VERDICT_SUPPRESS
PIN, UNDO = review_pb2.VERDICT_PIN, review_pb2.VERDICT_UNDO
SEARCH, HOME = types_pb2.SCENE_SEARCH, types_pb2.SCENE_HOME


class Clock:
    """Seconds since 1970, as a test sets them."""

    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def held(tmp_path: Path, clock: Clock) -> Iterator[Decisions]:
    opened = Decisions(tmp_path, clock)
    yield opened
    opened.close()


def decision(verdict: review_pb2.Verdict.ValueType, item: str = "", until: float = 0, **fields: Any) -> Any:
    made = review_pb2.Decision(who="ann", why="because", verdict=verdict, item_id=item, **fields)
    if until:
        made.until.FromSeconds(int(until))
    return made


def told(decisions: list[review_pb2.Decision]) -> list[tuple[int, str]]:
    return [(one.verdict, one.item_id) for one in decisions]


def test_a_decision_has_a_number_and_a_time_and_changes_the_version(held: Decisions) -> None:
    before = held.version
    written = held.decide(decision(SUPPRESS, "a")).result(5)
    assert (written.sequence, written.time.seconds) == (1, int(NOW))
    assert held.version != before
    assert told(held.in_force()) == [(SUPPRESS, "a")]


def test_the_newest_word_on_an_item_holds_and_pins_of_several_queries_stand_side_by_side(held: Decisions) -> None:
    for one in (
        decision(SUPPRESS, "a"),
        decision(SUPPRESS, "a", scene=HOME),
        decision(PIN, "b", scene=SEARCH, query="Red  MUG", place=3),
        decision(PIN, "b", scene=SEARCH, query="blue mug"),
        decision(PIN, "b", scene=SEARCH, query="red mug", place=1),
        decision(APPROVE, "a"),
    ):
        held.decide(one).result(5)
    assert [(one.sequence, one.verdict, one.scene, one.query, one.place) for one in held.in_force()] == [
        (2, SUPPRESS, HOME, "", 0),
        (4, PIN, SEARCH, "blue mug", 0),
        (5, PIN, SEARCH, "red mug", 1),
        (6, APPROVE, 0, "", 0),
    ]


def test_undoing_takes_back_what_is_in_force_and_nothing_else(held: Decisions) -> None:
    held.decide(decision(SUPPRESS, "a")).result(5)
    undone = held.decide(decision(UNDO, undoes=1)).result(5)
    assert undone.item_id == "a"
    assert not held.in_force()
    # The same told once more, since its answer was lost.
    assert held.decide(decision(UNDO, undoes=1)).result(5) == undone
    for number, who in ((1, "bob"), (2, "ann"), (9, "ann")):
        other = decision(UNDO, undoes=number)
        other.who = who
        with pytest.raises(FailedPrecondition, match=f"decision {number} is not in force"):
            held.decide(other).result(5)
    assert told(held.audit("", 0, 10)) == [(UNDO, "a"), (SUPPRESS, "a")]


def test_what_is_over_is_in_force_no_more(held: Decisions, clock: Clock) -> None:
    held.decide(decision(SUPPRESS, "a", until=NOW + DAY)).result(5)
    clock.now += 2 * DAY
    assert not held.in_force()
    with pytest.raises(FailedPrecondition):
        held.decide(decision(UNDO, undoes=1)).result(5)


def test_all_of_it_survives_and_nothing_of_it_can_be_changed(tmp_path: Path) -> None:
    held = Decisions(tmp_path, Clock())
    for one in (decision(SUPPRESS, "a"), decision(SUPPRESS, "b"), decision(UNDO, undoes=1), decision(SUPPRESS, "c")):
        held.decide(one).result(5)
    version = held.version
    held.close()
    again = Decisions(tmp_path, Clock())
    assert again.version == version
    assert told(again.in_force()) == [(SUPPRESS, "b"), (SUPPRESS, "c")]
    assert [one.sequence for one in again.audit("a", 0, 10)] == [3, 1]
    assert [one.sequence for one in again.audit("", 4, 2)] == [3, 2]
    again.close()
    with sqlite3.connect(tmp_path / FILE) as db:
        for statement in ("DELETE FROM decisions", "UPDATE decisions SET item = 'z'"):
            with pytest.raises(sqlite3.IntegrityError, match="decisions are kept"):
                db.execute(statement)


def test_no_more_are_in_force_than_may_be(held: Decisions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", {SUPPRESS: 2, PIN: 1})
    for item in "aab":
        held.decide(decision(SUPPRESS, item)).result(5)
    with pytest.raises(FailedPrecondition, match="2 of SUPPRESS are in force; the limit is 2"):
        held.decide(decision(SUPPRESS, "c")).result(5)
    held.decide(decision(PIN, "c", scene=HOME)).result(5)


@pytest.mark.parametrize(
    ("field", "spoil"),
    [
        ("who", lambda one: one.ClearField("who")),
        ("why", lambda one: setattr(one, "why", "x" * 1_025)),
        ("verdict", lambda one: setattr(one, "verdict", 5)),
        ("item_id", lambda one: one.ClearField("item_id")),
        ("scene", lambda one: (one.ClearField("scene"), one.ClearField("query"))),
        ("scene", lambda one: setattr(one, "scene", 99)),
        ("place", lambda one: setattr(one, "place", 100)),
        ("query", lambda one: setattr(one, "scene", HOME)),
        ("category_path", lambda one: one.category_path.extend("abcdefghi")),
        ("until", lambda one: one.until.FromSeconds(int(NOW))),
        ("undoes", lambda one: setattr(one, "undoes", 1)),
        ("sequence", lambda one: setattr(one, "sequence", 1)),
        ("place", lambda one: one.CopyFrom(decision(SUPPRESS, "a", place=1))),
        ("scene", lambda one: one.CopyFrom(decision(APPROVE, "a", scene=HOME))),
        ("item_id", lambda one: one.CopyFrom(decision(UNDO, "a", undoes=1))),
        ("undoes", lambda one: one.CopyFrom(decision(UNDO))),
    ],
)
def test_what_is_malformed_is_refused_by_name(field: str, spoil: Callable[[review_pb2.Decision], object]) -> None:
    one = decision(PIN, "a", scene=SEARCH, place=99, query="mug")
    check_decision(one, int(NOW * 1e9))
    spoil(one)
    with pytest.raises(Invalid) as caught:
        check_decision(one, int(NOW * 1e9))
    assert caught.value.field == f"decision.{field}"


OPERATIONS = st.lists(
    st.tuples(st.sampled_from([APPROVE, SUPPRESS, PIN, UNDO]), st.sampled_from("abc"), st.integers(0, 40)), max_size=40
)


@settings(deadline=None, max_examples=40)
@given(OPERATIONS, st.booleans())
def test_what_is_in_force_is_what_a_plain_list_says(
    operations: list[tuple[review_pb2.Verdict.ValueType, str, int]], together: bool
) -> None:
    """Decided one by one or many in a commit, with ends, undone and replaced; and the same after a restart."""
    clock, most = Clock(), 3
    clock.now = NOW
    expected: list[review_pb2.Decision] = []
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST", {APPROVE: most, SUPPRESS: most, PIN: most})
        opened = Decisions(Path(folder), clock)
        try:
            waiting = []
            for verdict, item, number in operations:
                made = decision(verdict, "" if verdict == UNDO else item)
                if verdict == UNDO:
                    made.undoes = number + 1
                elif number % 3 == 0:
                    made.until.FromSeconds(int(clock.now) + number + 1)
                if verdict == PIN:
                    made.scene = HOME
                waiting.append(opened.decide(made))
                if not together:
                    wait(waiting)
                    clock.now += number % 4
            for done in waiting:
                with suppress(FailedPrecondition):
                    done.result(5)
            for one in reversed(opened.audit("", 0, 100)):
                now = one.time.ToNanoseconds()
                expected = [was for was in expected if not was.HasField("until") or was.until.ToNanoseconds() > now]
                if one.verdict == UNDO:
                    assert any(was.sequence == one.undoes for was in expected)
                    expected = [was for was in expected if was.sequence != one.undoes]
                    continue
                expected = [was for was in expected if module._key(was) != module._key(one)] + [one]
                assert sum(was.verdict == one.verdict for was in expected) <= most
            end = int(clock.now * 1e9)
            expected = [was for was in expected if not was.HasField("until") or was.until.ToNanoseconds() > end]
            assert opened.in_force() == expected
        finally:
            opened.close()
        opened = Decisions(Path(folder), clock)
        try:
            assert opened.in_force() == expected
        finally:
            opened.close()
