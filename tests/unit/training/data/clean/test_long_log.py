"""The log that scripts/clean_100m.py generates holds what the rules are there for, and they find it."""

from pathlib import Path

import pytest

pytest.importorskip("polars")
from scripts import clean_100m
from training.data.clean.pipeline import clean
from training.data.clean.rules import read_rules


def test_what_the_script_plants_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_100m, "ITEMS", 300)
    monkeypatch.setattr(clean_100m, "CHUNK", 30_000)
    clean_100m.generate("50000", tmp_path / "source")
    account = clean(tmp_path / "source", read_rules("canonical"), tmp_path / "out", lambda *_: None)["events"]
    assert account.rows_in == 50_000
    shares = {rule: rows / account.rows_in for rule, rows in account.dropped.items()}
    assert shares["duplicates event_id"] == pytest.approx(0.01, rel=0.2)
    assert shares["missing shopper_id"] == pytest.approx(0.01, rel=0.2)
    assert shares["event of the future, or before 1995"] == pytest.approx(0.003, rel=0.3)
    assert shares["unknown item"] == pytest.approx(0.9 * 0.005, rel=0.3)
    assert {"encoding query", "html query", "space query item_id shopper_id"} <= set(account.mended)
    clean_100m.plain(str(tmp_path / "source"), tmp_path / "plain")
    assert (tmp_path / "plain" / "events.parquet").is_file()
