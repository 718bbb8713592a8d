"""Runs are kept whole, found by parts of their names, and compared by what differs."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.runs.cli import app
from training.runs.registry import NoSuchRun, find, fingerprint, record, runs


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOUK_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_a_run_is_read_as_it_was_kept(tmp_path: Path) -> None:
    data = tmp_path / "log.txt"
    data.write_text("a b c")
    made = record("train ranker", [data, None], {"seed": 7}, {"ndcg@10": 0.5}, tmp_path / "out")
    assert runs() == [made]
    assert made.data == {str(data): fingerprint(data)}
    assert made.settings == {"seed": 7}
    assert made.metrics == {"ndcg@10": 0.5}
    assert made.code.split()[0]
    assert find(made.name[-4:]) == made


def test_other_bytes_or_names_are_another_fingerprint(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a").write_text("one")
    (folder / "b").write_text("two")
    first = fingerprint(folder)
    assert fingerprint(folder) == first
    (folder / "b").write_text("tww")
    changed = fingerprint(folder)
    (folder / "b").rename(folder / "c")
    assert len({first, changed, fingerprint(folder)}) == 3


def test_a_name_must_be_of_one_run(tmp_path: Path) -> None:
    with pytest.raises(NoSuchRun, match="no run is called so"):
        find("2026")
    record("a", [], {}, {}, tmp_path)
    record("b", [], {}, {}, tmp_path)
    with pytest.raises(NoSuchRun, match="2 runs are called so"):
        find("20")


def test_what_differs_is_compared(tmp_path: Path) -> None:
    one = record("train ranker", [], {"seed": 1, "dim": 64}, {"ndcg@10": 0.5}, tmp_path / "a")
    other = record("train ranker", [], {"seed": 2, "dim": 64}, {"ndcg@10": 0.75, "hr@10": 0.9}, tmp_path / "a")
    result = CliRunner().invoke(app, ["compare", one.name, other.name, "--json"])
    found = json.loads(result.output)
    found.pop("cpu_seconds", None)
    assert found == {"settings: seed": [1, 2], "metrics: ndcg@10": [0.5, 0.75], "metrics: hr@10": [None, 0.9]}
    assert one.name in CliRunner().invoke(app, ["list"]).output
    refused = CliRunner().invoke(app, ["show", "nothing"])
    assert refused.exit_code == 1
    assert "no run is called so" in refused.output


@pytest.mark.parametrize("text", ['{"name":', '{"name": "a"}', "[]"])
def test_a_file_that_is_no_run_is_named(home: Path, text: str) -> None:
    home.mkdir()
    (home / "broken.json").write_text(text)
    with pytest.raises(ValueError, match=r"broken\.json: is no run"):
        runs()
