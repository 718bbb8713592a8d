"""Exports of recorded logs that real gRPC servers stream: what is joined, what is left out, what goes on where."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

pytest.importorskip("polars")
from souk.coldstart.v1 import coldstart_pb2, coldstart_pb2_grpc
from souk.dataset import DatasetError, read_impressions
from souk.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from souk.types.v1 import types_pb2
from training.cli import app
from training.data import export_events
from training.data.canonical import Dataset, open_dataset
from training.data.export_events import ExportError, export
from training.data.validate import validate

NOON = 1_760_000_000
HOUR, DAY = 3600, 86_400
CLICK, VIEW = types_pb2.EVENT_TYPE_CLICK, types_pb2.EVENT_TYPE_VIEW
CART, BOUGHT = types_pb2.EVENT_TYPE_CART, types_pb2.EVENT_TYPE_PURCHASE
Entry = coldstart_pb2.LogEntry


class Log(coldstart_pb2_grpc.ColdstartServicer):
    """Streams entries, two a message; breaks off after each of the numbers in `breaks`, once."""

    def __init__(self, *entries: Entry) -> None:
        self.entries = list(entries)
        for sequence, entry in enumerate(self.entries, start=1):
            entry.sequence = entry.sequence or sequence
        self.breaks: list[int] = []
        self.code = grpc.StatusCode.UNAVAILABLE
        self.asked: list[int] = []

    def StreamLog(self, request: Any, context: Any) -> Iterator[coldstart_pb2.StreamLogResponse]:
        self.asked.append(request.from_sequence)
        left = [entry for entry in self.entries if entry.sequence > request.from_sequence]
        for start in range(0, len(left), 2):
            if self.breaks and left[start].sequence > self.breaks[0]:
                self.breaks.pop(0)
                context.abort(self.code, "broken off")
            yield coldstart_pb2.StreamLogResponse(entries=left[start : start + 2])


class Catalogue(retriever_pb2_grpc.RetrieverServicer):
    """Streams changes, one a message."""

    def __init__(self, *changes: retriever_pb2.Change) -> None:
        self.changes = list(changes)
        self.asked: list[int] = []

    def StreamChanges(self, request: Any, context: Any) -> Iterator[retriever_pb2.StreamChangesResponse]:
        self.asked.append(request.from_sequence)
        for sequence, change in enumerate(self.changes, start=1):
            change.sequence = sequence
            if sequence > request.from_sequence:
                yield retriever_pb2.StreamChangesResponse(changes=[change], head_sequence=len(self.changes))
        yield retriever_pb2.StreamChangesResponse(head_sequence=len(self.changes))


def recorded(*entries: Entry) -> Log:
    return Log(*entries)  # type: ignore[abstract]


def stocked(*changes: retriever_pb2.Change) -> Catalogue:
    return Catalogue(*changes)  # type: ignore[abstract]


@contextmanager
def serving(log: Log, catalogue: Catalogue) -> Iterator[str]:
    """Both on one port, the way the addresses of two processes may be."""
    server = grpc.server(ThreadPoolExecutor(2))
    coldstart_pb2_grpc.add_ColdstartServicer_to_server(log, server)
    retriever_pb2_grpc.add_RetrieverServicer_to_server(catalogue, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(5)


def item(item_id: str, **fields: Any) -> retriever_pb2.Change:
    return retriever_pb2.Change(item=types_pb2.Item(id=item_id, revision=1, title=f"thing {item_id}", **fields))


CATALOGUE = [item("a"), item("b", price=2.5, currency="EUR"), item("c")]


def event(
    number: int, kind: types_pb2.EventType.ValueType, item_id: str, at: int, shopper: str = "s", request: str = ""
) -> Entry:
    happened = types_pb2.Event(
        event_id=f"e{number}", shopper_id=shopper, type=kind, item_id=item_id, request_id=request
    )
    happened.time.seconds = at
    return Entry(event=happened)


def answer(request: str, *items: str, at: int = NOON, shopper: str = "s", first: int = 0) -> Entry:
    shown = types_pb2.Impression(
        request_id=request,
        shopper_id=shopper,
        scene=types_pb2.SCENE_HOME,
        policy="ranked",
        generation="f" * 64,
        items=[
            types_pb2.ImpressionItem(
                item_id=item_id,
                position=first + place,
                score=1.5 - place,
                propensity=0.25,
                stock=None if item_id == "b" else 7 * place,
            )
            for place, item_id in enumerate(items)
        ],
    )
    shown.time.seconds = at
    return Entry(impression=shown)


def exported(tmp_path: Path, *entries: Entry) -> Dataset:
    out = tmp_path / "out"
    with serving(recorded(*entries), stocked(*CATALOGUE)) as address:
        export(address, address, out)
    assert not validate(out).bad
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing is left beside it"
    return open_dataset(out)


def became(dataset: Dataset) -> dict[tuple[str, str], str]:
    """By answer and item: the letters of what happened to it there."""
    rows = dataset.impressions().select("request_id", "item_id", "clicked", "carted", "purchased").rows()
    return {
        (request, item_id): "".join(
            letter for letter, happened in zip("cap", (clicked, carted, purchased), strict=True) if happened
        )
        for request, item_id, clicked, carted, purchased in rows
    }


def test_tables_hold_what_was_streamed(tmp_path: Path) -> None:
    attributes = [types_pb2.Attribute(name="country", values=["GB"])]
    search = types_pb2.Event(event_id="q", shopper_id="t", type=types_pb2.EVENT_TYPE_SEARCH, query="lamp")
    search.time.seconds = NOON
    dataset = exported(
        tmp_path,
        Entry(shopper=types_pb2.Shopper(id="s", attributes=attributes)),
        answer("r1", "b", "a"),
        event(1, CLICK, "a", NOON + 5, request="r1"),
        Entry(event=search),
        answer("r2", "c", shopper=""),
    )
    assert dataset.info.counts == {"items": 3, "shoppers": 2, "events": 2, "impressions": 3}
    assert (dataset.info.version, dataset.info.dropped) == ("log 5, catalogue 3", {})
    assert dataset.items()["price"].to_list() == [None, 2.5, None]
    assert dataset.shoppers().rows() == [("s", '{"country": ["GB"]}'), ("t", None)]
    assert dataset.events()["event_id"].to_list() == ["e1", "q"]
    (b, a, c) = read_impressions(dataset.path)
    assert (a.request_id, a.item_id, a.position, a.shopper_id) == ("r1", "a", 1, "s")
    assert (a.score, a.propensity, a.policy, a.generation) == (0.5, 0.25, "ranked", "f" * 64)
    assert [one.stock for one in (a, b, c)] == [7, None, 0]
    assert a.time is not None
    assert (a.scene, a.time.timestamp(), a.clicked, a.carted) == (types_pb2.SCENE_HOME, NOON, True, False)
    assert (b.position, b.clicked) == (0, False)
    assert (c.shopper_id, c.clicked) == ("", False)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param(
            [event(1, CLICK, "a", NOON - 10, request="r1"), event(2, CART, "a", NOON + 9 * DAY, request="r1")],
            {("r1", "a"): "ca"},
            id="the answer an event names has it, whatever the clocks say",
        ),
        pytest.param([event(1, VIEW, "a", NOON + 5, request="r1")], {("r1", "a"): "c"}, id="a page opened is a click"),
        pytest.param(
            [event(1, BOUGHT, "a", NOON + HOUR)], {("r1", "a"): "p"}, id="without a name the last day's has it"
        ),
        pytest.param([event(1, BOUGHT, "a", NOON + DAY + 1)], {}, id="no longer than a day"),
        pytest.param([event(1, BOUGHT, "a", NOON - 1)], {}, id="not before it was shown"),
        pytest.param([event(1, BOUGHT, "a", NOON + 5, shopper="t")], {}, id="not to another shopper"),
        pytest.param([event(1, BOUGHT, "c", NOON + 5, request="r1")], {}, id="not what was not shown"),
        pytest.param(
            [answer("r2", "a", at=NOON + HOUR), event(1, BOUGHT, "a", NOON + 2 * HOUR)],
            {("r2", "a"): "p"},
            id="the last that showed it has it, and it alone",
        ),
        pytest.param(
            [answer("r2", "a", at=NOON + HOUR), event(1, CLICK, "a", NOON + 2 * HOUR, request="r1")],
            {("r1", "a"): "c"},
            id="a name counts for more than the time",
        ),
        pytest.param(
            [event(1, CLICK, "a", NOON + 5, request="of another shop")],
            {("r1", "a"): "c"},
            id="an answer nobody knows is as none",
        ),
        pytest.param(
            [event(1, types_pb2.EVENT_TYPE_SKIP, "a", NOON + 5, request="r1")], {}, id="what speaks against it is none"
        ),
        pytest.param(
            [answer("r1", "c", at=NOON + 60, first=2), event(1, CLICK, "c", NOON + 99, request="r1")],
            {("r1", "c"): "c"},
            id="a second page is of the same answer",
        ),
    ],
)
def test_events_are_joined_to_what_was_shown(
    tmp_path: Path, entries: list[Entry], expected: dict[tuple[str, str], str]
) -> None:
    dataset = exported(
        tmp_path, *[Entry.FromString(one.SerializeToString()) for one in (answer("r1", "a", "b"), *entries)]
    )
    assert {place: letters for place, letters in became(dataset).items() if letters} == expected


def test_who_was_forgotten_is_left_out_and_may_come_back(tmp_path: Path) -> None:
    dataset = exported(
        tmp_path,
        Entry(shopper=types_pb2.Shopper(id="s")),
        answer("r1", "a"),
        event(1, CLICK, "a", NOON + 1, request="r1"),
        event(2, CLICK, "b", NOON + 1, shopper="t"),
        Entry(forgotten_shopper_id="s"),
        event(3, CLICK, "c", NOON + DAY),
    )
    assert sorted(dataset.events()["event_id"]) == ["e2", "e3"]
    assert dataset.impressions().height == 0
    assert dataset.shoppers()["shopper_id"].to_list() == ["s", "t"]


def test_what_the_catalogue_no_longer_holds_is_left_out_and_counted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    gone = retriever_pb2.Change(removal=retriever_pb2.Removal(item_id="a", revision=2))
    log = recorded(
        answer("r1", "a", "b"), event(1, CLICK, "a", NOON), event(2, CLICK, "b", NOON), event(3, VIEW, "x", NOON)
    )
    with serving(log, stocked(*CATALOGUE, gone, item("c", brand="Halo"))) as address:
        export(address, address, out)
    assert not validate(out).bad
    dataset = open_dataset(out)
    assert dataset.events()["event_id"].to_list() == ["e2"]
    assert dataset.impressions()["item_id"].to_list() == ["b"]
    assert dataset.items()["brand"].to_list() == [None, "Halo"]
    reason = "the catalogue does not hold the item"
    assert dataset.info.dropped == {"events": {reason: 2}, "impressions": {reason: 1}}


def _long() -> list[Entry]:
    return [event(n, CLICK, "a", NOON + n) for n in range(1, 10)]


def test_a_stream_that_breaks_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_events, "_PAUSE_SECONDS", 0.01)
    log = recorded(*_long())
    log.breaks = [2, 6]
    with serving(log, stocked(*CATALOGUE)) as address:
        export(address, address, tmp_path / "out")
    assert log.asked == [0, 2, 6]
    assert open_dataset(tmp_path / "out").events().height == 9


def test_an_export_that_ended_early_leaves_no_dataset_and_goes_on_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_events, "_PAUSE_SECONDS", 0.01)
    log = recorded(*_long())
    log.breaks, log.code = [4], grpc.StatusCode.INTERNAL
    out = tmp_path / "out"
    with serving(log, stocked(*CATALOGUE)) as address:
        with pytest.raises(ExportError, match=r"INTERNAL: broken off .*holds all up to 4"):
            export(address, address, out)
        assert not out.exists()
        # Who is forgotten meanwhile is not in it either.
        log.entries.append(Entry(sequence=10, forgotten_shopper_id="s"))
        with pytest.raises(ExportError, match="holds what was received from"):
            export("127.0.0.1:9", address, out)
        export(address, address, out)
    assert log.asked == [0, 4]
    assert open_dataset(out).events().height == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_process_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_events, "_PAUSE_SECONDS", 0.01)
    said = CliRunner().invoke(
        app,
        ["export-events", "--coldstart", "127.0.0.1:9", "--out", str(tmp_path / "out")],
        env={"COLUMNS": "300"},
    )
    assert said.exit_code == 2
    assert "log at 127.0.0.1:9: UNAVAILABLE" in said.output


def test_the_command_writes_a_dataset_and_never_over_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(recorded(*_long()), stocked(*CATALOGUE)) as address:
        arguments = ["export-events", "--coldstart", address, "--retriever", address, "--out", str(out)]
        said = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
        assert said.exit_code == 0, said.output
        assert "3 items, 1 shoppers, 9 events" in said.output
        with pytest.raises(DatasetError, match="exists already"):
            export(address, address, out)
