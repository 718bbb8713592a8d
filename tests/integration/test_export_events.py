"""What real processes logged becomes a dataset that says what was shown and what became of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

pytest.importorskip("polars")
from typer.testing import CliRunner

from souk.coldstart.v1 import coldstart_pb2, coldstart_pb2_grpc
from souk.types.v1 import types_pb2
from tests.integration.processes import Process, spawn
from tests.integration.retrievers import Retriever, item
from tests.unit.ranker import tiny
from training.cli import app
from training.data.canonical import Dataset, open_dataset
from training.data.validate import validate

CLICK, CART, BOUGHT = types_pb2.EVENT_TYPE_CLICK, types_pb2.EVENT_TYPE_CART, types_pb2.EVENT_TYPE_PURCHASE


@pytest.fixture
def retriever(tmp_path: Path) -> Iterator[Retriever]:
    bundle = tiny.write_ranker_bundle(tmp_path / "bundle", ranker=False)
    with Retriever(bundle.path, tmp_path / "catalogue") as retriever:
        yield retriever


@pytest.fixture
def coldstart(tmp_path: Path, retriever: Retriever) -> Iterator[Process]:
    with spawn("services.coldstart", bundle=tmp_path / "bundle", coldstart_data=tmp_path / "log") as process:
        yield process


def event(name: str, kind: types_pb2.EventType.ValueType, item_id: str, shopper: str, **fields: Any) -> types_pb2.Event:
    return types_pb2.Event(event_id=name, shopper_id=shopper, type=kind, item_id=item_id, **fields)


def impression(request: str, shopper: str, *items: str) -> types_pb2.Impression:
    shown = [
        types_pb2.ImpressionItem(item_id=item_id, position=at, score=1.0, propensity=0.5)
        for at, item_id in enumerate(items)
    ]
    return types_pb2.Impression(
        request_id=request, shopper_id=shopper, scene=types_pb2.SCENE_HOME, policy="ranked", items=shown
    )


def export(coldstart: Process, retriever: Retriever, out: Path) -> Dataset:
    arguments = ["export-events", "--coldstart", coldstart.address, "--retriever", retriever.address]
    said = CliRunner().invoke(app, [*arguments, "--out", str(out)], env={"COLUMNS": "200"})
    assert said.exit_code == 0, said.output
    assert not validate(out).bad
    return open_dataset(out)


def test_traffic_becomes_a_dataset_and_who_is_forgotten_is_in_none(
    coldstart: Process, retriever: Retriever, tmp_path: Path
) -> None:
    retriever.upsert(*(item(f"i{n}", f"thing {n}", price=float(n), currency="EUR") for n in range(950)))
    with grpc.insecure_channel(coldstart.address) as channel:
        stub = coldstart_pb2_grpc.ColdstartStub(channel)
        stub.RecordImpressions(
            coldstart_pb2.RecordImpressionsRequest(
                impressions=[
                    impression("r1", "ann", "i1", "i2", "i3"),
                    impression("r2", "bob", "i1", "i4"),
                    impression("r3", "", "i9"),
                ]
            ),
            timeout=10,
        )
        events = [
            event("e1", CLICK, "i2", "ann", request_id="r1", position=1),
            event("e2", CART, "i2", "ann"),
            event("e3", BOUGHT, "i1", "bob", quantity=2),
            event("e4", BOUGHT, "never heard of", "bob"),
            *(event(f"m{n}", CLICK, f"i{n}", f"s{n % 50}") for n in range(5, 900)),
        ]
        stub.RecordEvents(coldstart_pb2.RecordEventsRequest(events=events), timeout=10)
        dataset = export(coldstart, retriever, tmp_path / "first")
        assert dataset.info.counts == {"items": 950, "shoppers": 52, "events": 898, "impressions": 6}
        assert dataset.info.dropped == {"events": {"the catalogue does not hold the item": 1}}
        rows = dataset.impressions().select("request_id", "item_id", "clicked", "carted", "purchased").rows()
        assert {row[:2]: row[2:] for row in rows if any(row[2:])} == {
            ("r1", "i2"): (True, True, False),
            ("r2", "i1"): (False, False, True),
        }
        stub.ForgetShopper(coldstart_pb2.ForgetShopperRequest(shopper_id="ann"), timeout=30)
    dataset = export(coldstart, retriever, tmp_path / "second")
    assert "ann" not in {*dataset.events()["shopper_id"], *dataset.shoppers()["shopper_id"]}
    assert sorted(set(dataset.impressions()["request_id"])) == ["r2", "r3"]
