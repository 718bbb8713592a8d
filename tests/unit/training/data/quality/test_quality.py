"""Figures beside planted faults, drift and leakage beside known ones, the gate, the page and the command."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("polars")
import polars as pl
from typer.testing import CliRunner

from souk.dataset import DatasetError
from training.cli import app
from training.data.canonical import DatasetWriter, Info, open_dataset
from training.data.quality.compare import drift, leakage
from training.data.quality.gate import failures, read_gate
from training.data.quality.measure import Figures, events_of, measure

NOW = datetime(2026, 3, 1, tzinfo=UTC)
START = datetime(2026, 2, 1, tzinfo=UTC)
ITEM = {"title": "Mug", "brand": "Acme", "category": "Home > Mugs", "price": 10.0, "currency": "EUR",
        "created_at": START}  # fmt: skip
Row = dict[str, Any]


def item(name: str, **values: Any) -> Row:
    return {"item_id": name, **ITEM, "title": f"Mug {name}", **values}


def event(number: int, **values: Any) -> Row:
    facts = {"event_id": f"e{number}", "shopper_id": f"s{number % 4}", "type": "PURCHASE", "item_id": f"i{number % 10}",
             "time": START + timedelta(hours=number), "quantity": 1, "price": 10.0, "currency": "EUR"}  # fmt: skip
    return facts | values


ITEMS = [item(f"i{n}") for n in range(10)]
SHOPPERS = [{"shopper_id": f"s{n}", "attributes": '{"country": ["FR"]}'} for n in range(4)]
EVENTS = [event(n) for n in range(100)]


def written(out: Path, items: list[Row], shoppers: list[Row], events: list[Row]) -> Path:
    with DatasetWriter(out, Info("planted", "1", "test", "none")) as writer:
        for table, rows in (("items", items), ("shoppers", shoppers), ("events", events)):
            if rows:
                writer.write(table, rows)
    return out


def figures(out: Path, items: list[Row] = ITEMS, events: list[Row] = EVENTS) -> Figures:
    return measure(open_dataset(written(out, items, SHOPPERS, events)), NOW).figures


FAULTS: dict[str, tuple[str, Row]] = {
    "accuracy.events.price": ("events", {"price": -1.0}),
    "accuracy.events.quantity": ("events", {"quantity": 0}),
    "accuracy.events.currency": ("events", {"currency": "eur"}),
    "accuracy.events.time": ("events", {"time": datetime(1970, 1, 1, tzinfo=UTC)}),
    "accuracy.items.price": ("items", {"price": -1.0}),
    "accuracy.items.currency": ("items", {"currency": "€"}),
    "accuracy.items.title_text": ("items", {"title": "CafÃ©"}),
    "accuracy.items.brand_text": ("items", {"brand": "Acme&amp;Co"}),
    "completeness.items.brand": ("items", {"brand": None}),
    "completeness.events.item_id": ("events", {"item_id": None}),
    "completeness.events.time": ("events", {"time": None}),
    "completeness.events.price": ("events", {"price": None}),
    "uniqueness.items.title": ("items", {"title": "mug I1"}),
    "uniqueness.items.item_id": ("items", {"item_id": "i1"}),
    "uniqueness.events.event_id": ("events", {"event_id": "e1"}),
    "timeliness.not_in_the_future": ("events", {"time": NOW + timedelta(days=1)}),
    "consistency.events.known_item": ("events", {"item_id": "other"}),
    "consistency.events.known_shopper": ("events", {"shopper_id": "other"}),
    "consistency.events.not_before_item": ("events", {"time": START - timedelta(days=1)}),
    "consistency.events.price_like_item": ("events", {"price": 21.0}),
}


def test_a_sound_dataset_is_whole(tmp_path: Path) -> None:
    found = figures(tmp_path / "sound")
    assert {name: found[name] for name in FAULTS} == dict.fromkeys(FAULTS, 1.0)
    assert found["completeness.events.query"] is None
    assert (found["timeliness.days"], found["timeliness.longest_gap_days"], found["timeliness.age_days"]) == (5, 0, 24)
    assert found["diversity.events.item_entropy"] == pytest.approx(1)
    assert found["diversity.events.item_gini"] == pytest.approx(0)
    assert found["diversity.items_met"] == 1
    assert found["sparsity.empty_pairs"] == 0.5
    assert found["sparsity.items_with_few"] == 0


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_seen_in_its_figure(name: str, tmp_path: Path) -> None:
    table, fault = FAULTS[name]
    items, events = [*ITEMS], [*EVENTS]
    planted = items if table == "items" else events
    planted[7] = planted[7] | fault
    found = figures(tmp_path / "faulty", items, events)
    assert found[name] == pytest.approx(1 - 1 / len(planted))


def test_the_same_event_under_another_id_is_no_news(tmp_path: Path) -> None:
    again = [*EVENTS, EVENTS[3] | {"event_id": "new"}]
    assert figures(tmp_path / "again", events=again)["uniqueness.events.content"] == pytest.approx(100 / 101)


def test_a_head_and_a_gap_are_seen(tmp_path: Path) -> None:
    events = [event(n, item_id="i0") for n in range(96)]
    events += [event(96, item_id="i1", time=START + timedelta(days=9))]
    found = figures(tmp_path / "head", events=events)
    assert found["diversity.events.item_gini"] == pytest.approx(0.898, abs=0.001)
    assert found["diversity.items_met"] == pytest.approx(0.2)
    assert found["diversity.events.tail_share"] == 0
    assert found["sparsity.items_with_few"] == 0.5
    assert found["timeliness.longest_gap_days"] == 5


def test_items_numbered_as_they_appear_are_seen(tmp_path: Path) -> None:
    order = [3, 8, 0, 5, 9, 1, 7, 2, 6, 4]
    shuffled = [event(n, item_id=f"i{order[n % 10]}") for n in range(100)]
    assert figures(tmp_path / "numbered")["leakage.item_number_follows_time"] == pytest.approx(1)
    assert (figures(tmp_path / "shuffled", events=shuffled)["leakage.item_number_follows_time"] or 1) < 0.3


def test_a_log_without_times_tells_what_it_can(tmp_path: Path) -> None:
    events = [event(n, time=None, order=n) for n in range(20)]
    found = figures(tmp_path / "ordered", events=events)
    assert found["completeness.events.time"] == 0
    assert found["timeliness.days"] is None
    assert found["uniqueness.events.content"] == 1


def test_drift_grows_with_the_shift_and_names_what_moved() -> None:
    same = drift("type", {"a": 500, "b": 500}, {"a": 500, "b": 500})
    little = drift("type", {"a": 500, "b": 500}, {"a": 550, "b": 450})
    much = drift("type", {"a": 900, "b": 100}, {"b": 900, "c": 100})
    assert (same.psi, same.js) == (0, 0)
    # (.5 - .55) ln(.5 / .55) + (.5 - .45) ln(.5 / .45), but for the half that is added to each count.
    assert little.psi == pytest.approx(0.01003, abs=2e-4)
    assert little.psi < 0.1 < 0.25 < much.psi
    assert 0 < little.js < much.js < 1
    assert much.moved[0] == ("a", 0.9, 0.0)
    many = {str(n): 1 for n in range(200)}
    assert drift("item", many, many).psi == pytest.approx(0)


def test_leakage_between_train_and_test(tmp_path: Path) -> None:
    early, late = EVENTS[:80], EVENTS[80:]
    train = written(tmp_path / "train", ITEMS, [], [*early, late[0], late[1] | {"event_id": "renamed"}])
    test = written(tmp_path / "test", ITEMS, [], late)
    found = leakage(events_of(open_dataset(train)), events_of(open_dataset(test)))
    assert found == {
        "leakage.same_event": pytest.approx(1 / 20),
        "leakage.same_content": pytest.approx(2 / 20),
        "leakage.shared_shoppers": 1,
        "leakage.later_in_train": pytest.approx(2 / 82),
    }


def test_csv_tables_are_measured_as_well(tmp_path: Path) -> None:
    out = written(tmp_path / "data", ITEMS, SHOPPERS, EVENTS)
    frame = pl.read_parquet(out / "events.parquet")
    (out / "events.parquet").unlink()
    frame.with_columns(pl.col("time").dt.to_string("iso:strict")).write_csv(out / "events.csv")
    as_csv = measure(open_dataset(out), NOW).figures
    assert as_csv == measure(open_dataset(written(tmp_path / "other", ITEMS, SHOPPERS, EVENTS)), NOW).figures


def test_a_gate_names_what_fails(tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text(
        '[least]\n"completeness.items.brand" = 0.9\n"accuracy.items.price" = 1\n[most]\n"drift.type" = 0.2\n'
    )
    thresholds = read_gate(file)
    values: Figures = {"completeness.items.brand": 0.85, "accuracy.items.price": 1.0, "drift.type": None}
    assert failures(thresholds, values) == [
        "completeness.items.brand is 0.85, must be at least 0.9",
        "drift.type cannot be measured here (or there is no such figure), must be at most 0.2",
    ]
    assert failures(thresholds, {"completeness.items.brand": 0.9, "accuracy.items.price": 1, "drift.type": 0.2}) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "at least one of them"),
        ("[limits]\na = 1\n", r"\[least\] and \[most\] alone"),
        ("[least]\ncompleteness.items.brand = 0.9\n", "quote names with dots"),
        ("[least]\na = true\n", "must be a number, not True"),
    ],
)
def test_a_fault_in_a_gate_is_told(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "gate.toml").write_text(text)
    with pytest.raises(DatasetError, match=told):
        read_gate(tmp_path / "gate.toml")


def test_the_command_writes_a_page_and_holds_the_gate(tmp_path: Path) -> None:
    data = written(tmp_path / "data", ITEMS, SHOPPERS, EVENTS)
    later = written(tmp_path / "later", ITEMS, SHOPPERS, [event(n, type="CLICK") for n in range(100, 150)])
    gate = tmp_path / "gate.toml"
    gate.write_text('[least]\n"completeness.items.brand" = 1\n[most]\n"drift.type" = 0.25\n"leakage.same_event" = 0\n')
    given = ["quality", "--data", str(data), "--against", str(later), "--gate", str(gate), "--out", str(tmp_path / "q")]
    ran = CliRunner().invoke(app, given)
    assert ran.exit_code == 1
    assert "failed: drift.type is" in ran.stderr
    assert "completeness" in ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= 100 + 2 * len(str(tmp_path))
    page = (tmp_path / "q" / "quality.html").read_text()
    for part in ("Quality of planted", "Gate", "drift.type is", "Accuracy", "Drift, ", "CLICK: 0.0%, 100.0%"):
        assert part in page
    assert page.count("data:image/png;base64") == 4
    ran = CliRunner().invoke(app, [*given[:3], "--out", str(tmp_path / "q"), "--json"])
    assert ran.exit_code == 0
    told = json.loads(ran.stdout)
    assert told == json.loads((tmp_path / "q" / "quality.json").read_text())
    assert (told["gate"], told["periods"]) == (None, ["earlier half", "later half"])
    ran = CliRunner().invoke(app, ["quality", "--data", str(tmp_path / "none")])
    assert (ran.exit_code, "DatasetError" in ran.stderr) == (2, True)


@pytest.mark.parametrize("model", ["ranker", "coldstart"])
def test_training_requires_the_gate_before_anything_else(model: str, tmp_path: Path) -> None:
    data = written(tmp_path / "data", [ITEMS[0] | {"brand": None}, *ITEMS[1:]], SHOPPERS, EVENTS)
    paths = ["--dataset", str(data), "--bundle", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]
    gate = tmp_path / "gate.toml"
    for least, problem in ((0.95, "completeness.items.brand is 0.9, must be at least 0.95"), (0.9, "nowhere")):
        gate.write_text(f'[least]\n"completeness.items.brand" = {least}\n')
        ran = CliRunner().invoke(app, ["train", model, *paths, "--quality-gate", str(gate)])
        # Whose dataset holds the gate is refused for the bundle, which is not there.
        assert ran.exit_code == 1
        assert problem in ran.output
        assert ("quality gate" in ran.output) == (least == 0.95)
