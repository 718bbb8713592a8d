"""The catalogue keeps what it acknowledged, numbers it, and tells it again from any point."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.domain.checks import Invalid
from services.domain.text import TextTemplate
from services.retriever.catalogue import FILE, Catalogue, CatalogueError
from services.retriever.changes import AppliedChange
from services.retriever.writes import MadeVector, SpaceKey, Transaction, to_wire
from services.runtime.errors import FailedPrecondition, Overloaded, Unavailable
from souk.retriever.v1 import admin_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32

SPACE = SpaceKey(types_pb2.SPACE_CONTENT, "v1", 4, TextTemplate())
OTHER = SpaceKey(types_pb2.SPACE_CONTENT, "v2", 4, TextTemplate(fields=(("title", 64),)))


class Open:
    """An open catalogue and what it told of its commits."""

    def __init__(self, directory: Path, queue_items: int = 20_000) -> None:
        self.catalogue = Catalogue(directory, queue_items)
        self.catalogue.set_spaces([SPACE])
        self.told: list[AppliedChange] = []
        self.catalogue.start(lambda changes, _head: self.told.extend(changes))

    def upsert(self, *items: types_pb2.Item) -> list[admin_pb2.WriteResult]:
        return self.catalogue.upsert(items).result(10)

    def delete(self, item_id: str, revision: int = 0) -> admin_pb2.WriteResult:
        return self.catalogue.delete([admin_pb2.ItemRef(item_id=item_id, revision=revision)]).result(10)[0]

    def embed(self, item_id: str, revision: int, vector: Sequence[float] | None, space: SpaceKey = SPACE) -> int:
        made = MadeVector(item_id, revision, None if vector is None else np.array(vector, np.float32))
        return self.catalogue.submit(1, lambda t: t.put_vectors(space, [made])).result(10)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    opened = Open(tmp_path / "data")
    yield opened
    opened.catalogue.close()


def item(item_id: str = "a", revision: int = 0, title: str = "Kettle", **fields: Any) -> types_pb2.Item:
    return types_pb2.Item(id=item_id, revision=revision, title=title, **fields)


def states(catalogue: Catalogue, after: int, page: int, versions: Sequence[str] = ()) -> list[AppliedChange]:
    """Everything after a sequence number, read page by page."""
    found: list[AppliedChange] = []
    while True:
        read = catalogue.changes(after, versions, max_changes=page)
        found += read.changes
        if read.complete:
            return found
        after = read.changes[-1].sequence


def test_revisions_decide_what_a_write_does(opened: Open) -> None:
    outcomes = [
        opened.upsert(item(revision=3, title="One"))[0],
        opened.upsert(item(revision=3, title="Another text under the same revision"))[0],
        opened.upsert(item(revision=2, title="Late"))[0],
        opened.upsert(item(revision=7, title="Two"))[0],
        opened.upsert(item(title="Three"))[0],
    ]
    assert [(o.outcome, o.revision, o.sequence) for o in outcomes] == [
        (admin_pb2.OUTCOME_CREATED, 3, 1),
        (admin_pb2.OUTCOME_UNCHANGED, 3, 1),
        (admin_pb2.OUTCOME_STALE, 3, 1),
        (admin_pb2.OUTCOME_UPDATED, 7, 2),
        (admin_pb2.OUTCOME_UPDATED, 8, 3),
    ]
    (held,), head = opened.catalogue.items(["a"])
    assert held is not None
    assert (held.title, held.revision, head) == ("Three", 8, 3)


def test_the_same_content_without_a_revision_changes_nothing(opened: Open) -> None:
    first = opened.upsert(item(price=3.5, currency="EUR"))[0]
    again = opened.upsert(item(price=3.5, currency="EUR"))[0]
    assert (first.outcome, again.outcome) == (admin_pb2.OUTCOME_CREATED, admin_pb2.OUTCOME_UNCHANGED)
    assert (again.revision, again.sequence) == (1, 1)
    assert opened.upsert(item(price=4.0, currency="EUR"))[0].revision == 2


def test_created_at_is_the_first_write_unless_told(opened: Open) -> None:
    opened.upsert(item(revision=1))
    (first,), _ = opened.catalogue.items(["a"])
    opened.upsert(item(revision=2, title="Later"))
    (second,), _ = opened.catalogue.items(["a"])
    assert first is not None
    assert second is not None
    assert first.HasField("created_at")
    assert first.created_at == second.created_at
    told = item(revision=3)
    told.created_at.seconds = 86400
    opened.upsert(told)
    (third,), _ = opened.catalogue.items(["a"])
    assert third is not None
    assert third.created_at.seconds == 86400


def test_a_removal_is_remembered(opened: Open) -> None:
    opened.upsert(item(revision=5))
    assert opened.delete("a", 4).outcome == admin_pb2.OUTCOME_STALE
    assert opened.delete("a", 5).outcome == admin_pb2.OUTCOME_UNCHANGED
    removed = opened.delete("a", 8)
    assert (removed.outcome, removed.revision) == (admin_pb2.OUTCOME_DELETED, 8)
    assert opened.delete("a", 8).outcome == admin_pb2.OUTCOME_UNCHANGED
    assert opened.delete("a").outcome == admin_pb2.OUTCOME_NOT_FOUND
    assert opened.upsert(item(revision=7))[0].outcome == admin_pb2.OUTCOME_STALE
    assert opened.upsert(item(revision=8))[0].outcome == admin_pb2.OUTCOME_STALE
    assert opened.catalogue.items(["a"])[0] == [None]
    assert opened.upsert(item())[0].revision == 9
    late = opened.delete("never held", 3)
    assert late.outcome == admin_pb2.OUTCOME_NOT_FOUND
    assert opened.upsert(item("never held", 2))[0].outcome == admin_pb2.OUTCOME_STALE


def test_a_malformed_item_stops_no_other(opened: Open) -> None:
    results = opened.upsert(item("a"), item("b", title=""), item("c", price=-1.0, currency="EUR"), item("d"))
    assert [r.outcome for r in results] == [
        admin_pb2.OUTCOME_CREATED,
        admin_pb2.OUTCOME_INVALID,
        admin_pb2.OUTCOME_INVALID,
        admin_pb2.OUTCOME_CREATED,
    ]
    assert results[1].message == "items[1].title: is empty"
    assert results[2].message.startswith("items[2].price: -1.0")
    assert results[1].sequence == 0
    assert opened.delete("").message == "items[0].item_id: is empty"


def test_revisions_use_all_64_bits(opened: Open) -> None:
    top = 2**64 - 1
    opened.upsert(item(revision=2**63))
    assert opened.upsert(item(revision=2**63 - 1, title="Older"))[0].outcome == admin_pb2.OUTCOME_STALE
    assert opened.upsert(item(revision=top, title="Last"))[0].revision == top
    assert [c.revision for c in states(opened.catalogue, 0, 10)] == [top]
    refused = opened.upsert(item(title="One more"))[0]
    assert refused.outcome == admin_pb2.OUTCOME_INVALID
    assert "revision" in refused.message
    assert opened.delete("a").outcome == admin_pb2.OUTCOME_INVALID


def test_a_price_keeps_the_vector_and_a_title_does_not(opened: Open) -> None:
    opened.upsert(item(revision=1))
    assert opened.embed("a", 1, [1, 0, 0, 0]) == 1
    opened.upsert(item(revision=2, price=9.0, currency="EUR", stock=4))
    item_change, vector_change = states(opened.catalogue, 2, 10, [SPACE.version])
    assert (item_change.sequence, vector_change.sequence) == (3, 4)
    assert vector_change.revision == 2
    assert vector_change.vector is not None
    assert vector_change.vector.tolist() == [1, 0, 0, 0]
    assert [(c.sequence, c.space_version) for c in opened.told[-2:]] == [(3, ""), (4, SPACE.version)]
    assert opened.catalogue.pending(SPACE.version, 0, 10) == ([], None)
    opened.upsert(item(revision=3, title="Teapot", price=9.0, currency="EUR"))
    assert opened.catalogue.pending(SPACE.version, 0, 10) == (["a"], None)
    assert [c.space for c in states(opened.catalogue, 0, 10, [SPACE.version])] == [types_pb2.SPACE_UNSPECIFIED]


def test_a_vector_counts_only_for_the_revision_it_was_made_from(opened: Open) -> None:
    opened.upsert(item(revision=2))
    assert opened.embed("a", 1, [1, 0, 0, 0]) == 0
    assert opened.embed("b", 1, [1, 0, 0, 0]) == 0
    assert opened.embed("a", 2, None) == 1
    (change,) = states(opened.catalogue, 1, 10, [SPACE.version])
    assert (change.covered, change.vector) == (False, None)
    opened.delete("a")
    assert opened.embed("a", 3, [1, 0, 0, 0]) == 0
    assert [c.removed for c in states(opened.catalogue, 0, 10, [SPACE.version])] == [True]


def test_pending_items_are_read_in_pages(opened: Open) -> None:
    opened.upsert(*(item(f"i{i}") for i in range(7)))
    opened.embed("i3", 1, [0, 1, 0, 0])
    found: list[str] = []
    key: int | None = 0
    while key is not None:
        ids, key = opened.catalogue.pending(SPACE.version, key, 2)
        found += ids
    assert found == ["i0", "i1", "i2", "i4", "i5", "i6"]
    assert len(opened.catalogue.pending(OTHER.version, 0, 100)[0]) == 7


def test_what_is_asked_of_named_items_takes_no_longer_with_more_items(opened: Open) -> None:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def asked() -> int:
        """Instructions of SQLite, in tens."""
        nonlocal steps
        steps = 0
        with opened.catalogue.reading() as db:
            db.set_progress_handler(count, 10)
        assert len(opened.catalogue.untold("told", SPACE.version, named)) == len(named)
        assert opened.catalogue.lacking("told", named) == set(named)
        return steps

    def fill(first: int, last: int) -> None:
        opened.upsert(*(item(f"a{n}") for n in range(first, last)))
        made = [MadeVector(f"a{n}", 1, np.array([1, 0, 0, n], np.float32)) for n in range(first, last)]
        opened.catalogue.submit(len(made), lambda transaction: transaction.put_vectors(SPACE, made)).result(10)

    # As many as a worker asks about at once: by their number SQLite chooses where it begins.
    named = [f"a{n}" for n in range(64)]
    fill(0, 64)
    few = asked()
    fill(64, 2_000)
    assert asked() <= 2 * few


def test_dropping_a_space_leaves_the_other(opened: Open) -> None:
    opened.upsert(item("a"), item("b"))
    for item_id in ("a", "b"):
        opened.embed(item_id, 1, [0, 1, 0, 0])
        opened.embed(item_id, 1, [0, 0, 1, 0], OTHER)
    assert opened.catalogue.submit(1, lambda t: t.drop_vectors(OTHER.version, 1)).result(10) == 1
    assert opened.catalogue.submit(1, lambda t: t.drop_vectors(OTHER.version, 9)).result(10) == 1
    versions = [c.space_version for c in states(opened.catalogue, 0, 10, [SPACE.version, OTHER.version])]
    assert versions == ["", "", SPACE.version, SPACE.version]


def test_vectors_are_told_again_only_where_they_still_count(opened: Open) -> None:
    opened.upsert(item("a"), item("b"), item("c"))
    for item_id in "abc":
        opened.embed(item_id, 1, [0, 1, 0, 0])
    page = opened.catalogue.changes(0, [SPACE.version], items=False)
    opened.upsert(item("b", 2, "Teapot"))
    opened.delete("c")
    assert opened.catalogue.counts(SPACE.version) == (2, 1)
    assert opened.catalogue.lacking(SPACE.version, ["a", "b", "c", "d"]) == {"b"}
    opened.told.clear()
    opened.catalogue.submit(0, partial(Transaction.announce, vectors=page.changes)).result(10)
    assert [(c.item_id, c.sequence) for c in opened.told] == [("a", 4)]
    assert opened.catalogue.head == 8


def test_a_follower_refuses_a_vector_of_another_length(opened: Open) -> None:
    opened.upsert(item("a"))
    change = AppliedChange(9, "a", 1, space=SPACE.space, space_version=SPACE.version, vector=np.ones(5, np.float32))
    with pytest.raises(ValueError, match="5 numbers; its space has 4"):
        opened.catalogue.submit(1, partial(Transaction.replicate, changes=[to_wire(change)])).result(10)
    assert opened.catalogue.head == 1


def test_an_unfinished_copy_is_known_as_such_after_a_restart(tmp_path: Path) -> None:
    first = Open(tmp_path)
    assert first.catalogue.whole
    first.upsert(item("a"))
    first.catalogue.submit(0, Transaction.wipe).result(10)
    assert first.catalogue.head == 0
    assert states(first.catalogue, 0, 10) == []
    first.catalogue.close()
    second = Open(tmp_path)
    assert not second.catalogue.whole
    second.catalogue.submit(0, partial(Transaction.mark_whole, whole=True)).result(10)
    second.catalogue.submit(0, partial(Transaction.advance, head=7)).result(10)
    second.catalogue.close()
    third = Open(tmp_path)
    assert (third.catalogue.whole, third.catalogue.head) == (True, 7)
    third.catalogue.close()


def test_a_page_is_bounded_in_bytes(opened: Open) -> None:
    opened.upsert(*(item(f"i{i}", description="x" * 10_000) for i in range(6)))
    page = opened.catalogue.changes(0, max_bytes=25_000)
    assert len(page.changes) == 3
    assert not page.complete


def test_a_sequence_from_another_catalogue_is_refused(opened: Open) -> None:
    opened.upsert(item())
    with pytest.raises(Invalid, match="from_sequence: 2 is ahead of this catalogue, whose last change is 1"):
        opened.catalogue.changes(2)


def test_reopening_finds_everything_and_goes_on_counting(tmp_path: Path) -> None:
    first = Open(tmp_path)
    first.upsert(item("a"), item("b"))
    first.embed("b", 1, [1, 2, 3, 4])
    identity = first.catalogue.identity
    first.catalogue.close()
    again = Open(tmp_path)
    assert again.catalogue.identity == identity
    assert again.catalogue.head == 3
    assert again.upsert(item("c"))[0].sequence == 4
    assert [c.item_id for c in states(again.catalogue, 0, 10)] == ["a", "b", "c"]
    again.catalogue.close()


def test_two_processes_cannot_open_one_catalogue(tmp_path: Path) -> None:
    first = Open(tmp_path)
    with pytest.raises(CatalogueError, match="another process has this catalogue open"):
        Catalogue(tmp_path)
    first.catalogue.close()
    Open(tmp_path).catalogue.close()


def test_a_directory_that_cannot_serve_is_refused_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogueError, match="SOUK_RETRIEVER_DATA"):
        Catalogue(tmp_path / "file")
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / FILE).write_bytes(os.urandom(8192))
    with pytest.raises(CatalogueError, match="SOUK_RETRIEVER_DATA"):
        Catalogue(tmp_path / "garbage")


def test_an_unknown_schema_version_is_refused(tmp_path: Path) -> None:
    Open(tmp_path).catalogue.close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(CatalogueError, match="schema version 99; this version of Souk reads 1"):
        Catalogue(tmp_path)


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("CREATE TABLE theirs (a)")
    db.close()
    with pytest.raises(CatalogueError, match="not a catalogue of Souk"):
        Catalogue(tmp_path)


def test_writes_beyond_the_queue_are_refused(tmp_path: Path) -> None:
    opened = Open(tmp_path, queue_items=3)
    entered, leave = Event(), Event()

    def hold(_transaction: Transaction) -> None:
        entered.set()
        leave.wait(10)

    holding = opened.catalogue.submit(1, hold)
    entered.wait(10)
    waiting = opened.catalogue.upsert([item("a"), item("b")])
    with pytest.raises(Overloaded, match="2 items are waiting to be written; the limit is 3"):
        opened.catalogue.upsert([item("c"), item("d")])
    abandoned = opened.catalogue.upsert([item("e")])
    assert abandoned.cancel()
    leave.set()
    holding.result(10)
    assert [r.sequence for r in waiting.result(10)] == [1, 2]
    assert opened.catalogue.items(["c", "e"])[0] == [None, None]
    opened.catalogue.close()
    with pytest.raises(Unavailable):
        opened.catalogue.upsert([item("f")])


def test_a_full_disk_refuses_writes_and_recovers(opened: Open) -> None:
    opened.upsert(item("a"))
    writer = opened.catalogue._writer
    pages = opened.catalogue.submit(0, lambda _t: writer.execute("PRAGMA page_count").fetchone()[0]).result(10)
    opened.catalogue.submit(0, lambda _t: writer.execute(f"PRAGMA max_page_count = {pages}").fetchone()).result(10)
    big = [item(f"b{i}", description="x" * 16_000) for i in range(50)]
    with pytest.raises(FailedPrecondition, match="full"):
        opened.catalogue.upsert(big).result(10)
    with pytest.raises(Unavailable, match="cannot be written"):
        opened.catalogue.check()
    assert opened.catalogue.items(["b0"])[0] == [None]
    assert opened.catalogue.head == 1
    # The writer cannot be reached through its queue now: any job would be refused.
    writer.execute("PRAGMA max_page_count = 1000000").fetchone()
    assert opened.upsert(*big)[0].sequence == 2
    opened.catalogue.check()


def test_a_write_that_fails_by_itself_spares_the_others(opened: Open) -> None:
    entered, leave = Event(), Event()

    def hold(_transaction: Transaction) -> None:
        entered.set()
        leave.wait(10)

    def fail(_transaction: Transaction) -> None:
        raise KeyError("a bug")

    opened.catalogue.submit(1, hold)
    entered.wait(10)
    before = opened.catalogue.upsert([item("a")])
    failing = opened.catalogue.submit(1, fail)
    after = opened.catalogue.upsert([item("b")])
    leave.set()
    with pytest.raises(KeyError):
        failing.result(10)
    assert (before.result(10)[0].sequence, after.result(10)[0].sequence) == (1, 2)
    assert [c.item_id for c in opened.told] == ["a", "b"]


def test_an_index_that_fails_ends_the_writer_and_shows(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)

    def broken(_changes: Sequence[AppliedChange], _head: int) -> None:
        raise RuntimeError("index")

    catalogue.start(broken)
    with pytest.raises(Unavailable, match="may or may not"):
        catalogue.upsert([item("a")]).result(10)
    assert catalogue._thread is not None
    catalogue._thread.join(10)
    with pytest.raises(Unavailable, match="ended"):
        catalogue.check()
    catalogue.close()


def test_a_backup_is_a_catalogue(opened: Open, tmp_path: Path) -> None:
    opened.upsert(item("a"), item("b"))
    opened.delete("a")
    (tmp_path / "copy").mkdir()
    assert opened.catalogue.backup(tmp_path / "copy" / FILE) == (3, 1)
    copy = Open(tmp_path / "copy")
    assert states(copy.catalogue, 0, 10) == states(opened.catalogue, 0, 10)
    copy.catalogue.close()


def seen(changes: Sequence[AppliedChange]) -> dict[tuple[str, str], tuple[int, bytes]]:
    """The state that changes amount to: (id, space version) -> (revision, content)."""
    state: dict[tuple[str, str], tuple[int, bytes]] = {}
    for change in changes:
        if change.space:
            content = b"" if change.vector is None else change.vector.tobytes()
            state[change.item_id, change.space_version] = (change.revision, content)
            continue
        for key in [key for key in state if key[0] == change.item_id]:
            del state[key]
        content = b"" if change.item is None else change.item.SerializeToString(deterministic=True)
        state[change.item_id, ""] = (change.revision, content)
    return state


WRITES = st.lists(
    st.tuples(
        st.sampled_from(["upsert", "upsert", "delete", "embed"]),
        st.sampled_from("abc"),
        st.integers(0, 5),
        st.sampled_from(["Kettle", "Teapot"]),
        st.sampled_from([1.0, 2.0]),
    ),
    max_size=25,
)


def vector_of(title: str) -> Float32:
    """As an encoder does: the same text, the same vector."""
    return np.full(4, sum(map(ord, title)) + 1, np.float32)


@settings(max_examples=60, deadline=None)
@example(  # The text goes and comes back while the reader is away.
    writes=[
        ("upsert", "a", 0, "Kettle", 1.0),
        ("upsert", "b", 0, "Teapot", 1.0),
        ("embed", "b", 0, "Kettle", 1.0),
        ("upsert", "a", 0, "Kettle", 1.0),
        ("upsert", "b", 0, "Kettle", 1.0),
        ("upsert", "b", 0, "Teapot", 1.0),
    ],
    group=False,
    start=3,
    page=1,
)
@given(writes=WRITES, group=st.booleans(), start=st.integers(0, 30), page=st.integers(1, 5))
def test_any_writes_leave_what_a_dictionary_would_and_can_be_told_from_any_point(
    writes: list[tuple[str, str, int, str, float]], group: bool, start: int, page: int
) -> None:
    with TemporaryDirectory() as directory:
        opened = Open(Path(directory) / "primary")
        model: dict[str, tuple[int, str | None, float]] = {}
        answers: list[Future[list[admin_pb2.WriteResult]]] = []
        expected: list[tuple[str, int]] = []
        first_half: list[AppliedChange] = []
        for n, (kind, item_id, revision, title, price) in enumerate(writes):
            held_revision, held_title, held_price = model.get(item_id, (0, None, 0.0))
            if kind == "embed":
                made = MadeVector(item_id, held_revision, vector_of(held_title or ""))
                opened.catalogue.submit(1, partial(Transaction.put_vectors, space=SPACE, made=[made]))
                continue
            if kind == "upsert":
                new = revision or held_revision + 1
                same = revision == 0 and held_title == title and held_price == price
                if not same and new > held_revision:
                    model[item_id] = (new, title, price)
                sent = types_pb2.Item(id=item_id, revision=revision, title=title, price=price, currency="EUR")
                answers.append(opened.catalogue.upsert([sent]))
            else:
                new = revision or held_revision + 1
                if new > held_revision and not (revision == 0 and held_revision and held_title is None):
                    model[item_id] = (new, None, 0.0)
                answers.append(opened.catalogue.delete([admin_pb2.ItemRef(item_id=item_id, revision=revision)]))
            expected.append((item_id, model[item_id][0]))
            if not group:
                answers[-1].result(10)
            if n == len(writes) // 2:
                first_half = states(opened.catalogue, 0, page, [SPACE.version])
        results = [answer.result(10)[0] for answer in answers]
        opened.catalogue.submit(0, lambda _t: None).result(10)

        assert [(r.item_id, r.revision) for r in results] == expected
        told = [change.sequence for change in opened.told]
        assert told == sorted(set(told))
        everything = states(opened.catalogue, 0, page, [SPACE.version])
        assert [c.sequence for c in everything] == sorted({c.sequence for c in everything})
        held = {c.item_id: (c.revision, c.item.title if c.item else None) for c in everything if not c.space}
        assert held == {i: (revision, title) for i, (revision, title, _) in model.items()}
        # A reader that stopped anywhere and goes on later arrives at the same state.
        part = [c for c in first_half if c.sequence <= start]
        after = part[-1].sequence if part else 0
        assert seen(part + states(opened.catalogue, after, page, [SPACE.version])) == seen(everything)
        assert seen(opened.told) == seen(everything)
        # So does a follower, and its numbers are the primary's. It may keep a vector of the same text that the
        # primary dropped on the way there and back.
        follower = Open(Path(directory) / "follower")
        for change in part + states(opened.catalogue, after, page, [SPACE.version]):
            follower.catalogue.submit(1, partial(Transaction.replicate, changes=[to_wire(change)])).result(10)
        copied, original = seen(states(follower.catalogue, 0, page, [SPACE.version])), seen(everything)
        for item_id, version in copied.keys() - original.keys():
            assert version == SPACE.version
            revision, text, _ = model[item_id]
            assert copied.pop((item_id, version)) == (revision, vector_of(text or "").tobytes())
        assert copied == original
        assert follower.catalogue.head == (everything[-1].sequence if everything else 0)
        follower.catalogue.close()
        opened.catalogue.close()
