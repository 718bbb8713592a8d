"""Pseudonyms join, fields come back only with their key and at their place, and what is old is gone with a receipt."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.cli import app
from training.data.canonical import DatasetWriter, Info, open_dataset
from training.data.validate import validate
from training.privacy.datasets import decrypt, encrypt, pseudonymise, retain
from training.privacy.keys import BadKey, KeyRing, new_key, read_keys

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEYS = KeyRing({"a": b"a" * 32})
OTHER = KeyRing({"a": b"b" * 32})


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    events = [
        ("e1", "anna", "2026-02-20T00:00:00Z", "kettle"),
        ("e2", "bert", "2025-01-01T00:00:00Z", "post to jo@shop.com"),
        ("e3", "anna", "2025-01-01T00:00:00Z", None),
    ]
    out = tmp_path / "shop"
    with DatasetWriter(out, Info("toy", "1", "made up", "CC0-1.0")) as writer:
        writer.write("items", [{"item_id": "A", "title": "kettle"}])
        people = ("anna", "bert", "carl")
        writer.write("shoppers", [{"shopper_id": one, "attributes": '{"town": ["Bonn"]}'} for one in people])
        rows = [
            {"event_id": e, "shopper_id": s, "type": "SEARCH" if q else "VIEW", "time": t, "query": q, "item_id": "A"}
            for e, s, t, q in events
        ]
        writer.write("events", [{**row, "item_id": None} if row["query"] else row for row in rows])
        shown = {"request_id": "r1", "item_id": "A", "position": 0, "propensity": 1.0, "time": "2026-02-20T00:00:00Z"}
        shown["query"] = "kettle"
        writer.write("impressions", [{**shown, "shopper_id": "anna"}])
    return out


def test_pseudonyms_join_across_tables_and_tell_nothing(shop: Path, tmp_path: Path) -> None:
    found = pseudonymise(shop, tmp_path / "one", KEYS)
    one = open_dataset(tmp_path / "one")
    anna, bert, carl = one.shoppers()["shopper_id"]
    assert one.events()["shopper_id"].to_list() == [anna, bert, anna]
    assert one.impressions()["shopper_id"].to_list() == [anna]
    assert len({anna, bert, carl, "anna", "bert", "carl"}) == 6
    assert one.events()["query"].to_list() == ["kettle", "post to [EMAIL]", None]
    assert one.events()["item_id"].to_list() == [None, None, "A"]
    assert found == {"EMAIL": 1}
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o750
    assert not validate(tmp_path / "one").bad
    pseudonymise(shop, tmp_path / "again", KEYS)
    assert open_dataset(tmp_path / "again").shoppers()["shopper_id"].to_list() == [anna, bert, carl]
    pseudonymise(shop, tmp_path / "other", OTHER)
    assert not {anna, bert, carl} & set(open_dataset(tmp_path / "other").shoppers()["shopper_id"])


def test_encrypted_fields_come_back_with_their_key_alone(shop: Path, tmp_path: Path) -> None:
    encrypt(shop, tmp_path / "hidden", KEYS)
    hidden = open_dataset(tmp_path / "hidden")
    assert "Bonn" not in str(hidden.shoppers()["attributes"].to_list())
    assert "kettle" not in str([hidden.events()["query"].to_list(), hidden.impressions()["query"].to_list()])
    decrypt(tmp_path / "hidden", tmp_path / "shown", KeyRing({"new": b"n" * 32, **KEYS.keys}))
    shown = open_dataset(tmp_path / "shown")
    assert shown.events().equals(open_dataset(shop).events())
    assert shown.shoppers().equals(open_dataset(shop).shoppers())
    assert shown.impressions().equals(open_dataset(shop).impressions())
    with pytest.raises(BadKey, match="town of anna"):
        decrypt(tmp_path / "hidden", tmp_path / "no", OTHER)
    with pytest.raises(BadKey, match="nothing can be read: it was encrypted with a, and none of them is here"):
        decrypt(tmp_path / "hidden", tmp_path / "no", KeyRing({"b": b"b" * 32}))
    assert not (tmp_path / "no").exists()


def test_a_value_moved_to_another_shopper_is_refused(shop: Path, tmp_path: Path) -> None:
    encrypt(shop, tmp_path / "hidden", KEYS)
    attributes = open_dataset(tmp_path / "hidden").shoppers()["attributes"].to_list()
    with DatasetWriter(tmp_path / "moved", Info("toy", "1", "made up", "CC0-1.0")) as writer:
        writer.write("items", [{"item_id": "A"}])
        writer.write("shoppers", [{"shopper_id": "bert", "attributes": attributes[0]}])
    with pytest.raises(BadKey, match="town of bert: another key made it, or it was changed or moved"):
        decrypt(tmp_path / "moved", tmp_path / "no", KEYS)


def test_what_is_old_goes_with_a_receipt(shop: Path, tmp_path: Path) -> None:
    receipt = retain(shop, tmp_path / "young", 30, NOW)
    young = open_dataset(tmp_path / "young")
    assert young.events()["event_id"].to_list() == ["e1"]
    assert young.shoppers()["shopper_id"].to_list() == ["anna", "carl"]
    assert receipt.dropped == {"items": 0, "shoppers": 1, "events": 2, "impressions": 0}
    assert json.loads((tmp_path / "young" / "retention.json").read_text())["dropped"] == receipt.dropped
    assert not validate(tmp_path / "young").bad
    with pytest.raises(ValueError, match="days must be at least 1, not 0"):
        retain(shop, tmp_path / "no", 0, NOW)
    for days in (800_000, 10**11):
        with pytest.raises(ValueError, match="before the year 1"):
            retain(shop, tmp_path / "no", days, NOW)


def test_keys_are_read_from_a_file_that_is_the_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    old = new_key(file)
    new = new_key(file)
    assert list(read_keys(file).keys) == [new, old]
    monkeypatch.setenv("SOUK_PRIVACY_KEYS", file.read_text())
    assert read_keys(None) == read_keys(file)
    file.chmod(0o644)
    with pytest.raises(BadKey, match="others may read it"):
        read_keys(file)
    monkeypatch.setenv("SOUK_PRIVACY_KEYS", "a 1234")
    with pytest.raises(BadKey, match="key 1: must be an id of its own and 64 hexadecimal digits") as told:
        read_keys(None)
    assert "1234" not in str(told.value)


def test_the_commands_say_what_to_run_next(shop: Path, tmp_path: Path) -> None:
    run, keys = CliRunner(), tmp_path / "keys"
    assert "next:" in run.invoke(app, ["privacy", "new-key", str(keys)]).output
    given = ["--data", str(shop), "--out", str(tmp_path / "out"), "--key-file", str(keys)]
    told = run.invoke(app, ["privacy", "pseudonymise", *given])
    assert told.exit_code == 0
    assert "redacted 1 EMAIL" in told.output
    assert run.invoke(app, ["privacy", "anonymity", "--data", str(shop), "--k", "4"]).exit_code == 1
    assert run.invoke(app, ["privacy", "anonymity", "--data", str(shop), "--k", "3"]).exit_code == 0
