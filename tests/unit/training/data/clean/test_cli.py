"""The command: its tables, its JSON, what to run next, and what cannot be done."""

import json
from pathlib import Path

import pytest

pytest.importorskip("polars")
from typer.testing import CliRunner

from training.cli import app


def test_the_command_says_where_every_row_went(tmp_path: Path) -> None:
    rows = [{"event_id": str(n), "shopper_id": f" s{n}", "type": "PURCHASE", "quantity": n} for n in range(3)]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    given = ["clean", "--source", str(file), "--rules", "canonical"]
    ran = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "out")])
    assert ran.exit_code == 0
    assert "events: 3 rows, 2 kept (66.7%)" in ran.stdout
    assert "' s0' -> 's0'" in ran.stdout
    assert "not followed, the source lacks what they need: unknown item, unknown shopper" in ran.stdout
    assert f"next: python -m training quality --data {tmp_path}/out" in ran.stdout
    ran = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "json"), "--json"])
    told = json.loads(ran.stdout)
    assert told["events"]["dropped"] == {"no units, or more than 100,000": 1}
    assert told == json.loads((tmp_path / "json" / "cleaning.json").read_text())["tables"]
    ran = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "out")])
    assert ran.exit_code == 2
    assert "exists already" in " ".join(ran.stderr.split())
