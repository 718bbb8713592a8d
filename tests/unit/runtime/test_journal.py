"""A journal answers after the commit, many writes to one, and says when it can no longer keep them."""

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event

import pytest
from prometheus_client import CollectorRegistry, Gauge, Histogram

from services.runtime.errors import FailedPrecondition, Overloaded, Unavailable
from services.runtime.journal import Journal, JournalError, Layout, meta

REGISTRY = CollectorRegistry()
LAYOUT = Layout(
    name="diary",
    file="diary.sqlite3",
    lock="diary.lock",
    schema="CREATE TABLE lines (line TEXT NOT NULL UNIQUE);\n",
    schema_version=3,
    setting="SOUK_DIARY_DATA",
    unit="lines",
    refusal=FailedPrecondition,
    again="as it was",
    queued=Gauge("queued", "", registry=REGISTRY),
    commit_seconds=Histogram("seconds", "", registry=REGISTRY),
    meta={"mood": 7},
)


class Diary(Journal[list[str]]):
    """Lines; remembers the commits it was told of."""

    def __init__(self, directory: Path, queue_limit: int = 100, told: Callable[[], None] = lambda: None) -> None:
        super().__init__(directory, LAYOUT, queue_limit)
        self.commits: list[list[str]] = []
        self._on_told = told
        self._start_writer()

    def write(self, *lines: str) -> list[str]:
        return self.submit(len(lines), lambda batch: self.put(batch, *lines)).result(10)

    def put(self, batch: list[str], *lines: str) -> list[str]:
        self._writer.executemany("INSERT INTO lines VALUES (?)", [(line,) for line in lines])
        batch.extend(lines)
        return list(lines)

    def lines(self) -> list[str]:
        with self.reading() as db:
            return [line for (line,) in db.execute("SELECT line FROM lines ORDER BY rowid")]

    def _begin(self) -> list[str]:
        return []

    def _seal(self, batch: list[str]) -> None:
        self._writer.execute("UPDATE meta SET value = value + ? WHERE name = 'head'", (len(batch),))

    def _told(self, batch: list[str]) -> None:
        self._on_told()
        self.commits.append(batch)


@pytest.fixture
def diary(tmp_path: Path) -> Iterator[Diary]:
    diary = Diary(tmp_path / "data")
    yield diary
    diary.close()


def hold(diary: Diary) -> Event:
    """Keeps the writer busy until the event is set."""
    entered, leave = Event(), Event()

    def wait(_batch: list[str]) -> None:
        entered.set()
        leave.wait(10)

    diary.submit(0, wait)
    assert entered.wait(10)
    return leave


def test_what_waits_is_committed_together_and_told_before_the_answers(diary: Diary) -> None:
    def put(batch: list[str], line: str) -> list[str]:
        return diary.put(batch, line)

    leave = hold(diary)
    writes = [diary.submit(1, partial(put, line=f"line {n}")) for n in range(5)]
    leave.set()
    assert [write.result(10) for write in writes] == [[f"line {n}"] for n in range(5)]
    assert diary.commits == [[], [f"line {n}" for n in range(5)]]
    assert diary.lines() == [f"line {n}" for n in range(5)]
    with diary.reading() as db:
        assert (meta(db, "head"), meta(db, "mood")) == (5, 7)


def test_a_full_queue_refuses_and_what_was_abandoned_is_not_written(tmp_path: Path) -> None:
    diary = Diary(tmp_path, queue_limit=2)
    leave = hold(diary)
    kept = diary.submit(1, lambda batch: diary.put(batch, "kept"))
    abandoned = diary.submit(1, lambda batch: diary.put(batch, "abandoned"))
    with pytest.raises(Overloaded, match="2 lines are waiting to be written; the limit is 2"):
        diary.write("too many")
    assert abandoned.cancel()
    leave.set()
    kept.result(10)
    assert diary.lines() == ["kept"]
    diary.close()
    with pytest.raises(Unavailable, match="the diary is closing"):
        diary.write("late")


def test_a_write_that_fails_by_itself_spares_the_others(diary: Diary) -> None:
    def fail(_batch: list[str]) -> None:
        raise KeyError("a bug")

    leave = hold(diary)
    before, failing = diary.submit(1, lambda batch: diary.put(batch, "before")), diary.submit(1, fail)
    after = diary.submit(1, lambda batch: diary.put(batch, "after"))
    leave.set()
    with pytest.raises(KeyError):
        failing.result(10)
    assert (before.result(10), after.result(10)) == (["before"], ["after"])
    assert diary.lines() == ["before", "after"]


def test_a_full_disk_refuses_writes_and_recovers(diary: Diary) -> None:
    diary.write("small")
    writer = diary._writer
    pages = diary.submit(0, lambda _: writer.execute("PRAGMA page_count").fetchone()[0]).result(10)
    diary.submit(0, lambda _: writer.execute(f"PRAGMA max_page_count = {pages}").fetchone()).result(10)
    with pytest.raises(FailedPrecondition, match=r"full.*as it was"):
        diary.write("x" * 100_000)
    with pytest.raises(Unavailable, match="the diary cannot be written"):
        diary.check()
    assert diary.lines() == ["small"]
    # The writer cannot be reached through its queue now: any write would be refused.
    writer.execute("PRAGMA max_page_count = 1000000").fetchone()
    diary.write("x" * 100_000)
    diary.check()


def test_what_goes_wrong_after_a_commit_ends_the_writer_and_shows(tmp_path: Path) -> None:
    def broken() -> None:
        raise RuntimeError("derived state")

    diary = Diary(tmp_path, told=broken)
    with pytest.raises(Unavailable, match="may or may not"):
        diary.write("a line")
    assert diary._thread is not None
    diary._thread.join(10)
    with pytest.raises(Unavailable, match="the diary's writer thread has ended"):
        diary.check()
    with pytest.raises(Unavailable, match="closing"):
        diary.write("another")
    diary.close()


def test_a_file_that_is_gone_shows(diary: Diary, tmp_path: Path) -> None:
    diary.check()
    (tmp_path / "data" / LAYOUT.file).unlink()
    with pytest.raises(Unavailable, match="the diary's file is gone"):
        diary.check()


def test_a_read_sees_one_state(diary: Diary) -> None:
    diary.write("first")
    with diary.reading() as db:
        before = db.execute("SELECT COUNT(*) FROM lines").fetchone()
        diary.write("second")
        assert db.execute("SELECT COUNT(*) FROM lines").fetchone() == before
    assert diary.lines() == ["first", "second"]


def test_what_is_not_a_diary_is_refused_with_the_setting_to_change(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    with pytest.raises(JournalError, match="another process has this diary open; give each its own SOUK_DIARY_DATA"):
        Diary(tmp_path)
    diary.close()
    with sqlite3.connect(tmp_path / LAYOUT.file) as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(JournalError, match="schema version 2; this version of Souk reads 3"):
        Diary(tmp_path)
    (tmp_path / LAYOUT.file).unlink()
    with sqlite3.connect(tmp_path / LAYOUT.file) as db:
        db.execute("CREATE TABLE other (x)")
    with pytest.raises(JournalError, match="not a diary of Souk"):
        Diary(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="SOUK_DIARY_DATA must name a directory that can be written"):
        Diary(tmp_path / "file")
