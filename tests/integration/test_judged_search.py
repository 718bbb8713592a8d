"""`training evaluate search` and `training tune search` on a small generated shop, by real processes."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.domain.search import FUSIONS
from souk.dataset import item_row, read_items, read_judgements
from training.bundle.search import read_search
from training.cli import app
from training.data.generate import generate
from training.tune.folds import FOLDS

ITEMS = 60


def training(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in `cwd`, where the catalogue is then kept."""
    command = [sys.executable, "-m", "training", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """English items of a generated shop and the queries that they answer: two files, and so a dataset."""
    path = tmp_path_factory.mktemp("judged")
    generate(path / "generated", items=400, shoppers=10, seed=5)
    visible = [one for one in read_items(path / "generated") if one.title.isascii() and one.visible and one.stock]
    items = visible[:ITEMS]
    held = {item.id for item in items}
    with (path / "items.jsonl").open("w") as lines:
        lines.writelines(json.dumps(item_row(item)) + "\n" for item in items)
    judged = [one for one in read_judgements(path / "generated") if one.item_id in held and one.query.isascii()]
    wanted = sorted({one.query for one in judged if one.grade})[:25]
    with (path / "judgements.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["query", "item_id", "grade"])
        rows.writerows([one.query, one.item_id, one.grade] for one in judged if one.query in wanted)
    return path


@pytest.fixture(scope="module")
def numbers(shop: Path, bundle: Path) -> dict[str, Any]:
    files = ("--products", str(shop / "items.jsonl"), "--judgements", str(shop / "judgements.csv"))
    done = training(shop, "evaluate", "search", *files, "--bundle", str(bundle), "--json", "--out", "report")
    assert done.returncode == 0, done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_numbers_of_a_small_shop(shop: Path, numbers: dict[str, Any]) -> None:
    assert numbers["items"] == ITEMS
    assert numbers["queries"] >= 10
    assert numbers["degraded"] == {}
    for system in ("bm25", "dense", "hybrid"):
        for rule in ("as_zero", "condensed"):
            assert 0 < numbers[system][f"ndcg@10_{rule}"] <= 1
        assert 0 < numbers[system]["judged@10"] <= 1
    # Synonyms and needs are found by meaning alone.
    assert numbers["hybrid"]["ndcg@10_as_zero"] > numbers["bm25"]["ndcg@10_as_zero"]
    for rule in ("as_zero", "condensed"):
        gain = numbers["hybrid"][f"ndcg@10_{rule}"] - numbers["bm25"][f"ndcg@10_{rule}"]
        assert numbers[f"gain_{rule}"]["mean"] == pytest.approx(gain)
        assert 0 < numbers[f"p_value_{rule}"] <= 1
    assert list(numbers["by_script"]) == ["latin"]
    report = shop / "report"
    with (report / "queries.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == numbers["queries"]
    mean = sum(float(row["hybrid.ndcg@10_as_zero"]) for row in rows) / len(rows)
    assert mean == pytest.approx(numbers["hybrid"]["ndcg@10_as_zero"], abs=1e-3)
    assert (report / "report.png").read_bytes().startswith(b"\x89PNG")
    assert all(row["query"] in (report / "report.html").read_text() for row in rows[:3])


def test_tuning_scores_the_defaults_as_they_are_served(shop: Path, bundle: Path, numbers: dict[str, Any]) -> None:
    arguments = ("--data", str(shop), "--bundle", str(bundle), "--trials", "3", "--out", "search.json")
    done = training(shop, "tune", "search", *arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    chosen = json.loads((shop / "search.cv.json").read_text())
    for system in ("bm25", "hybrid"):
        for rule in ("ndcg@10_as_zero", "ndcg@10_condensed"):
            assert chosen[f"{system}_defaults"][rule] == pytest.approx(numbers[system][rule], abs=2e-3)
    assert len(chosen["folds"]) == numbers["queries"]
    assert len(chosen["hybrid_chosen"]) == FOLDS
    manifest, synonyms = read_search(shop / "search.json")
    assert (manifest.fusion in FUSIONS, synonyms) == (True, None)
    again = CliRunner().invoke(app, ["tune", "search", *arguments[:-1], str(shop / "search.json")])
    assert again.exit_code == 1
    assert "exists already" in again.output.replace("\n", " ")


def test_what_is_refused_names_the_field(shop: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("query,item_id,grade\nmug,nowhere,3\n")
    products, runner = ["evaluate", "search", "--products", str(shop / "items.jsonl")], CliRunner()
    refused = runner.invoke(app, [*products, "--judgements", str(bad)])
    assert refused.exit_code == 1
    assert "bad.csv, row 1, item_id: 'nowhere' is not among the products" in refused.output.replace("\n", "")
    alone = runner.invoke(app, products)
    assert (alone.exit_code, "--judgements" in alone.output) == (1, True)
