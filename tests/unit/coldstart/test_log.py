"""The log keeps what it acknowledged, once, in order, and forgets without a trace."""

from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event as Flag
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.coldstart.log import FILE, Batch, Log
from services.domain.checks import Invalid
from services.runtime.errors import Overloaded, Unavailable
from services.runtime.journal import JournalError
from souk.coldstart.v1 import coldstart_pb2
from souk.types.v1 import types_pb2
from tests.integration.shops import until
from tests.unit.coldstart.making import (
    CART,
    CLICK,
    DAY,
    NOW,
    PURCHASE,
    SEARCH,
    SPACE,
    Shop,
    event,
    item,
    towards,
)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path / "data") as shop:
        yield shop


def stream(log: Log, after: int = 0, limit: int = 3) -> list[coldstart_pb2.LogEntry]:
    """Everything after a sequence number, read in small pages."""
    found: list[coldstart_pb2.LogEntry] = []
    while page := log.entries(after, limit):
        assert len(page) <= limit
        found += page
        after = found[-1].sequence
    return found


def history(shop: Shop, shopper: str = "s") -> list[str]:
    """Items of a shopper's events, oldest first."""
    held = shop.log.shopper(shopper)
    return [] if held is None else [entry.item for entry in reversed(shop.log.latest(held.key, 2_000))]


def shown(request_id: str, *positions: int, shopper: str = "s", **fields: Any) -> types_pb2.Impression:
    items = [types_pb2.ImpressionItem(item_id=f"i{n}", position=n, score=1, propensity=0.5) for n in positions]
    return types_pb2.Impression(
        request_id=request_id, shopper_id=shopper, scene=types_pb2.SCENE_HOME, items=items, **fields
    )


def test_a_repeated_event_changes_nothing(shop: Shop) -> None:
    first = shop.record(event("e1", item="a", at=NOW), event("e2", item="b", at=NOW), event("e1", item="c", at=NOW))
    assert (first.accepted, first.duplicates, first.unknown_items) == (2, 1, 2)
    version = shop.log.shopper("s")
    again = shop.record(event("e1", "another shopper", "z", at=NOW), event("e2", item="z", at=NOW))
    assert (again.accepted, again.duplicates, again.unknown_items) == (0, 2, 0)
    assert history(shop) == ["a", "b"]
    assert shop.log.shopper("s") == version
    assert shop.log.shopper("another shopper") is None
    assert shop.log.counts.events == 2


def test_a_batch_with_a_malformed_event_writes_nothing_of_it(shop: Shop) -> None:
    with pytest.raises(Invalid, match=r"events\[1\]\.item_id: is empty"):
        shop.record(event("e1"), event("e2", item=""))
    assert shop.log.head == 0
    assert shop.log.counts.events == 0


def test_events_are_read_in_the_order_of_their_times(shop: Shop) -> None:
    shop.record(event("late", item="c", at=NOW - 10))
    shop.record(event("early", item="a", at=NOW - 30), event("middle", item="b", at=NOW - 20))
    assert history(shop) == ["a", "b", "c"]


def test_equal_times_keep_the_order_of_commits(shop: Shop) -> None:
    shop.record(*(event(f"e{n}", item=f"i{n}", at=NOW) for n in range(9)))
    assert history(shop) == [f"i{n}" for n in range(9)]


def test_a_clock_ahead_is_set_to_the_receipt_and_a_missing_time_too(shop: Shop) -> None:
    shop.record(event("ahead", item="a", at=NOW + 3 * DAY), event("none", item="b"), event("past", item="c", at=1.5))
    held = shop.log.shopper("s")
    assert held is not None
    times = {entry.item: entry.time_ms for entry in shop.log.latest(held.key, 10)}
    assert times == {"a": NOW * 1e3, "b": NOW * 1e3, "c": 1500}
    events, _ = shop.log.events_of(held.key, 0, 10)
    assert [each.time.ToMilliseconds() for each in events] == [NOW * 1e3, NOW * 1e3, 1500]
    with shop.log.reading() as db:
        assert db.execute("SELECT told_ms FROM events").fetchall() == [((NOW + 3 * DAY) * 1e3,), (None,), (None,)]


def test_an_event_for_an_unknown_item_waits_for_it(shop: Shop) -> None:
    answer = shop.record(event("e1", item="a"), event("e2", "t", item="a"), event("e3", item="", kind=SEARCH))
    assert answer.unknown_items == 2
    assert shop.log.counts.waiting == 2
    before = [shop.log.shopper(shopper) for shopper in "st"]
    shop.put(item("a"))
    assert shop.log.counts.waiting == 0
    after = [shop.log.shopper(shopper) for shopper in "st"]
    # Their contexts are other ones now.
    assert all(a and b and a.version > b.version for a, b in zip(after, before, strict=True))
    assert shop.record(event("e4", item="a")).unknown_items == 0
    shop.put(item("a", revision=2))
    moved = shop.log.shopper("t")
    assert moved is not None
    assert after[1] is not None
    assert moved.version == after[1].version


def test_a_late_revision_of_an_item_is_passed_over(shop: Shop) -> None:
    shop.put(item("a", "Shoes", revision=2**63 + 5), towards(0))
    shop.put(item("a", "Lamps", revision=7), towards(1))
    facts = shop.crowd.shelf.get("a")
    assert facts is not None
    assert (facts.category, facts.revision) == ("Shoes", 2**63 + 5)
    shop.put(item("a", "Lamps", revision=2**63 + 6))
    assert shop.log.vectors(["a"], SPACE) == {}  # It was of another text.


def test_a_purchase_days_later_is_a_rebuy_and_one_told_in_parts_is_not(shop: Shop) -> None:
    shop.record(*(event(f"{n}", kind=PURCHASE, at=NOW - 9 * DAY + n) for n in range(3)))
    assert (shop.log.counts.purchases, shop.log.counts.rebuys) == (3, 0)
    shop.record(event("later", kind=PURCHASE, at=NOW), event("other", "t", kind=PURCHASE, at=NOW))
    assert (shop.log.counts.purchases, shop.log.counts.rebuys) == (5, 1)


def test_impressions_are_known_by_answer_and_place(shop: Shop) -> None:
    first = shop.log.impress([shown("r1", 0, 1), shown("r2", 0)]).result(10)
    assert (first.accepted, first.duplicates) == (2, 0)
    second = shop.log.impress([shown("r1", 1, 2), shown("r2", 0), shown("r1", 2)]).result(10)
    assert (second.accepted, second.duplicates) == (1, 2)
    held = shop.log.shopper("s")
    assert held is not None
    kept, _ = shop.log.impressions_of(held.key, 0, 10)
    places = [(each.request_id, [one.position for one in each.items]) for each in kept]
    assert places == [("r1", [0, 1]), ("r2", [0]), ("r1", [2])]
    assert shop.log.counts.impressions == 3


def test_attributes_replace_those_of_their_name(shop: Shop) -> None:
    def attributes(**values: str) -> list[types_pb2.Attribute]:
        return [types_pb2.Attribute(name=name, values=[value]) for name, value in values.items()]

    shop.log.put_attributes("s", attributes(country="GB", age_band="25-34")).result(10)
    head = shop.log.head
    shop.log.put_attributes("s", attributes(age_band="25-34")).result(10)
    assert shop.log.head == head
    shop.log.put_attributes("s", attributes(country="DE")).result(10)
    held = shop.log.shopper("s")
    assert held is not None
    assert {each.name: each.values[0] for each in held.attributes} == {"country": "DE", "age_band": "25-34"}
    (entry,) = stream(shop.log)
    assert entry.shopper.attributes[0].values == ["DE"]
    with pytest.raises(Invalid, match="34 attributes; the limit is 32"):
        shop.log.put_attributes("s", attributes(**{f"a{n}": "x" for n in range(32)})).result(10)


def test_the_stream_is_in_the_order_of_commits_and_of_every_kind(shop: Shop) -> None:
    shop.record(event("e1", at=NOW), event("e2", "t", at=NOW - 5))
    shop.log.impress([shown("r1", 0)]).result(10)
    shop.log.put_attributes("t", [types_pb2.Attribute(name="country", values=["GB"])]).result(10)
    shop.log.forget("s").result(10)
    entries = stream(shop.log, limit=2)
    assert [entry.WhichOneof("entry") for entry in entries] == ["event", "shopper", "forgotten_shopper_id"]
    sequences = [entry.sequence for entry in entries]
    assert sequences == sorted(set(sequences))
    assert entries[-1].forgotten_shopper_id == "s"
    assert entries[-1].sequence == shop.log.head
    assert [entry.sequence for entry in stream(shop.log, sequences[0])] == sequences[1:]
    with pytest.raises(Invalid, match="ahead of this log"):
        shop.log.entries(shop.log.head + 1)


def test_forgetting_leaves_no_byte_of_a_shopper_but_the_tombstone(tmp_path: Path) -> None:
    traces = [b"s-to-forget", b"event-to-forget", b"query-to-forget", b"country-to-forget", b"request-to-forget"]
    with Shop(tmp_path) as shop:
        for n in range(300):
            shop.record(
                event(f"event-to-forget-{n}", "s-to-forget", f"item-{n}", query="query-to-forget", at=NOW - n),
                event(f"kept-{n}", "kept", f"item-{n}"),
            )
        shop.log.impress([shown("request-to-forget", 0, 1, shopper="s-to-forget")]).result(10)
        attribute = types_pb2.Attribute(name="country", values=["country-to-forget"])
        shop.log.put_attributes("s-to-forget", [attribute]).result(10)
        assert all(trace in everything(tmp_path) for trace in traces)
        answer = shop.log.forget("s-to-forget").result(10)
        assert (answer.events, answer.impressions) == (300, 1)
        left = everything(tmp_path)
        assert [trace for trace in traces if trace in left] == [b"s-to-forget"]
        # Once in the table, once in the index that keeps it single.
        assert left.count(b"s-to-forget") == 2
        assert shop.log.shopper("s-to-forget") is None
        assert shop.log.counts.events == 300
        assert len(history(shop, "kept")) == 300
        repeated = shop.log.forget("s-to-forget").result(10)
        assert (repeated.events, repeated.impressions) == (0, 0)
        # Who comes back is new, under a version never used.
        shop.record(event("back", "s-to-forget", "new"))
        assert history(shop, "s-to-forget") == ["new"]
    with Shop(tmp_path) as shop:
        assert shop.log.counts.events == 301


def everything(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.iterdir())


def test_a_read_under_way_delays_the_overwriting_and_no_more(shop: Shop, tmp_path: Path) -> None:
    shop.record(event("event-to-forget", "gone"))
    with shop.log.reading() as db:
        db.execute("SELECT * FROM events").fetchone()
        assert shop.log.forget("gone").result(20).events == 1
        assert b"event-to-forget" in everything(tmp_path / "data")

    def scrubbed() -> bool:
        shop.log.scrub()
        return b"event-to-forget" not in everything(tmp_path / "data")

    until(scrubbed)


def test_what_a_kill_kept_from_being_overwritten_is_at_the_next_start(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        shop.record(event("event-to-forget", "gone"), event("kept"))
        with shop.log.reading() as db:
            db.execute("SELECT * FROM events").fetchone()
            shop.log.forget("gone").result(20)
    with Shop(tmp_path):
        assert b"event-to-forget" not in everything(tmp_path)


def test_counts_and_order_survive_a_restart(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        shop.put(item("a", "Shoes"), towards(0))
        shop.record(event("1", item="a", kind=CLICK), event("2", item="b", kind=CART), event("3", "t", "b", PURCHASE))
        shop.log.impress([shown("r", 0)]).result(10)
        counts, entries = shop.log.counts, stream(shop.log)
        facts, trials = shop.crowd.shelf.get("a"), shop.crowd.shelf.trials("a")
    with Shop(tmp_path) as shop:
        assert shop.log.counts == counts
        assert stream(shop.log) == entries
        assert (shop.crowd.shelf.get("a"), shop.crowd.shelf.trials("a")) == (facts, trials) == (facts, (0, 1))


def test_a_hundred_thousand_events_of_one_shopper_cost_bounded_work(tmp_path: Path) -> None:
    log = Log(tmp_path, queue_limit=200_000, clock=lambda: NOW)
    log.start(lambda _batch: None)
    futures = [
        log.record([event(f"{start + n}", item=f"i{n}", at=NOW - start - n) for n in range(1_000)])
        for start in range(0, 100_000, 1_000)
    ]
    wait(futures, 120)
    held = log.shopper("s")
    assert held is not None
    assert log.counts.events == 100_000
    with log.reading() as db:
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        db.set_progress_handler(step, 1_000)
        latest = log_latest(db, held.key)
        db.set_progress_handler(None, 0)
    assert len(latest) == 2_000
    # Instructions of SQLite's machine, in thousands: reading or sorting all would take over a thousand.
    assert steps < 100
    log.close()


def log_latest(db: Any, key: int) -> list[Any]:
    """The statement of Log.latest."""
    found: list[Any] = db.execute(
        "SELECT time_ms, type, item, quantity, price FROM events INDEXED BY events_by_time WHERE shopper = ? "
        "AND item IS NOT NULL ORDER BY time_ms DESC, sequence DESC LIMIT 2000",
        (key,),
    ).fetchall()
    return found


def test_a_full_queue_refuses(tmp_path: Path) -> None:
    log = Log(tmp_path, queue_limit=3, clock=lambda: NOW)
    entered, leave = Flag(), Flag()

    def hold(_batch: Batch) -> None:
        entered.set()
        leave.wait(10)

    log.start(lambda _batch: None)
    log.submit(1, hold)
    entered.wait(10)
    waiting = log.record([event("1"), event("2")])
    with pytest.raises(Overloaded, match="2 entries are waiting to be written; the limit is 3"):
        log.record([event("3"), event("4")])
    leave.set()
    assert waiting.result(10).accepted == 2
    log.close()
    with pytest.raises(Unavailable):
        log.record([event("5")])


def test_a_directory_serves_one_process_and_one_kind(tmp_path: Path) -> None:
    log = Log(tmp_path)
    with pytest.raises(JournalError, match="SOUK_COLDSTART_DATA"):
        Log(tmp_path)
    log.close()
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(JournalError, match=FILE):
        Log(tmp_path)


IDS = st.integers(0, 6).map(str)
STEPS = st.one_of(
    st.tuples(
        st.just("record"),
        st.lists(
            st.tuples(IDS, st.sampled_from("stu"), st.sampled_from("abc"), st.integers(-5, 5)), min_size=1, max_size=5
        ),
    ),
    st.tuples(st.just("forget"), st.sampled_from("stu")),
    st.tuples(st.just("reopen"), st.none()),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=14))
def test_the_log_is_a_dict_by_event_id(steps: list[tuple[str, Any]]) -> None:
    model: dict[str, tuple[str, str, float]] = {}
    forgotten: dict[str, None] = {}
    with TemporaryDirectory() as directory:
        shop = Shop(Path(directory))
        for step, value in steps:
            if step == "record":
                new = 0
                for event_id, shopper, thing, offset in value:
                    if event_id not in model:
                        model[event_id] = (shopper, thing, min(NOW, NOW + offset))
                        new += 1
                events = [event(event_id, shopper, thing, at=NOW + at) for event_id, shopper, thing, at in value]
                answer = shop.record(*events)
                assert (answer.accepted, answer.duplicates) == (new, len(value) - new)
            elif step == "forget":
                gone = [event_id for event_id, (shopper, _, _) in model.items() if shopper == value]
                assert shop.log.forget(value).result(10).events == len(gone)
                for event_id in gone:
                    del model[event_id]
                if gone:
                    forgotten.pop(value, None)
                    forgotten[value] = None
            else:
                shop.log.close()
                shop = Shop(Path(directory))
            assert shop.log.counts.events == len(model)
        entries = stream(shop.log)
        told = [entry.event for entry in entries if entry.HasField("event")]
        held = [(each.event_id, each.shopper_id, each.item_id, each.time.ToNanoseconds() / 1e9) for each in told]
        assert held == [(event_id, *values) for event_id, values in model.items()]
        tombstones = [entry.forgotten_shopper_id for entry in entries if entry.forgotten_shopper_id]
        assert tombstones == list(forgotten)
        for shopper in "stu":
            expected = [thing for _, (who, thing, _) in sorted(model.items(), key=_time(list(model))) if who == shopper]
            assert history(shop, shopper) == expected
        shop.log.close()


def _time(order: list[str]) -> Any:
    return lambda each: (each[1][2], order.index(each[0]))


def test_a_removed_item_is_offered_no_more_and_still_understood(tmp_path: Path) -> None:
    with Shop(tmp_path / "data") as shop:
        shop.put(item("new", "Tea", age_days=1), towards(2))
        shop.put(item("old", "Tea"), towards(2))
        shop.record(*(event(f"{one}-{n}", f"s{n}", one) for one in ("new", "old") for n in range(3)))
        shop.refresh()
        assert [one.item for one in shop.crowd.shelf.newcomers] == ["new"]
        assert {one for one, _ in shop.crowd.popularity.charts.overall} == {"new", "old"}
        assert shop.log.remove_items([("new", 2), ("old", 2)]).result(20) == 2
        shop.record(event("late", "s", "old"))
        check_removed(shop)
    with Shop(tmp_path / "data") as shop:
        check_removed(shop)
        # What was told before the removal and comes late does not bring it back, a later revision does.
        shop.put(item("old", "Tea", revision=1))
        check_removed(shop)
        shop.put(item("old", "Tea", revision=3))
        shop.refresh()
        assert [one for one, _ in shop.crowd.popularity.charts.overall] == ["old"]
        assert shop.crowd.shelf.evidence("old").events_for == 4


def check_removed(shop: Shop) -> None:
    """Neither new nor in a chart; its category and vector still tell what its shoppers like."""
    shop.refresh()
    assert not shop.crowd.shelf.newcomers
    assert not shop.crowd.popularity.charts.overall
    assert not shop.crowd.popularity.charts.category("Tea")
    facts = shop.crowd.shelf.get("new")
    assert facts is not None
    assert (facts.category, facts.revision, facts.sellable) == ("Tea", 2, False)
    assert set(shop.log.vectors(["new", "old"], SPACE)) == {"new", "old"}


def test_a_removal_told_before_the_item_keeps_it_away(shop: Shop) -> None:
    shop.record(event("waits", item="late"))
    assert shop.log.counts.waiting == 1
    assert shop.log.remove_items([("late", 5)]).result(20) == 1
    assert shop.log.counts.waiting == 0
    shop.put(item("late", "Tea", revision=4))
    assert not shop.crowd.shelf.may_be_sold("late")
    shop.put(item("late", "Tea", revision=6))
    assert shop.crowd.shelf.may_be_sold("late")
    assert shop.log.remove_items([("late", 5), ("late", 5)]).result(20) == 0
    assert shop.crowd.shelf.may_be_sold("late")


def test_an_impression_that_comes_after_the_forgetting_is_nobodys(shop: Shop) -> None:
    shop.record(event("e", "gone"))
    shop.log.forget("gone").result(20)
    assert shop.log.impress([shown("late", 0, shopper="gone")]).result(20).accepted == 1
    assert shop.log.shopper("gone") is None
    (impression,) = [one.impression for one in stream(shop.log) if one.HasField("impression")]
    assert (impression.request_id, impression.shopper_id, len(impression.items)) == ("late", "", 1)
    assert shop.log.impress([shown("late", 0, shopper="gone")]).result(20).duplicates == 1
    # Who comes back is known again, by an event.
    shop.record(event("again", "gone"))
    shop.log.impress([shown("then", 0, shopper="gone")]).result(20)
    held = shop.log.shopper("gone")
    assert held is not None
    assert [one.request_id for one in shop.log.impressions_of(held.key, 0, 10)[0]] == ["then"]


def test_a_catalogue_restored_to_older_revisions_is_believed(tmp_path: Path) -> None:
    with Shop(tmp_path / "data") as shop:
        for revision, price in ((4, 1.0), (5, 2.0)):
            told = item("a", "Tea", revision=revision, price=price, currency="EUR")
            shop.log.put_items([(told, None)], SPACE, "first").result(20)
        shop.log.remove_items([("b", 9)], "first").result(20)

    def known(shop: Shop, item_id: str) -> tuple[int, bool]:
        facts = shop.crowd.shelf.get(item_id)
        assert facts is not None
        return facts.revision, facts.sellable

    with Shop(tmp_path / "data") as shop:
        late = [(item("a", "Tea", revision=4), None), (item("b", "Tea", revision=8), None)]
        shop.log.put_items(late, SPACE, "first").result(20)
        assert [known(shop, each) for each in "ab"] == [(5, True), (9, False)]
        shop.log.put_items(late, SPACE, "restored").result(20)
        assert [known(shop, each) for each in "ab"] == [(4, True), (8, True)]
        # From here on the order of its own revisions counts.
        shop.log.put_items([(item("b", "Tea", revision=7), None)], SPACE, "restored").result(20)
        assert known(shop, "b") == (8, True)
