"""`python -m training evaluate search` on a small generated shop: real processes, a report, the numbers as JSON."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from souk.dataset import item_row, read_items, read_judgements
from training.cli import app
from training.data.generate import generate

ITEMS = 60


def evaluate(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", "evaluate", "search", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """English items of a generated shop and the queries that they answer, as two files."""
    path = tmp_path_factory.mktemp("judged")
    generate(path / "generated", items=400, shoppers=10, seed=5)
    visible = [one for one in read_items(path / "generated") if one.title.isascii() and one.visible and one.stock]
    items = visible[:ITEMS]
    held = {item.id for item in items}
    with (path / "products.jsonl").open("w") as lines:
        lines.writelines(json.dumps(item_row(item)) + "\n" for item in items)
    judged = [one for one in read_judgements(path / "generated") if one.item_id in held and one.query.isascii()]
    wanted = sorted({one.query for one in judged if one.grade})[:25]
    with (path / "judgements.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["query", "item_id", "grade"])
        rows.writerows([one.query, one.item_id, one.grade] for one in judged if one.query in wanted)
    return path


def test_the_numbers_of_a_small_shop(shop: Path, bundle: Path, tmp_path: Path) -> None:
    files = ("--products", str(shop / "products.jsonl"), "--judgements", str(shop / "judgements.csv"))
    done = evaluate(tmp_path, *files, "--bundle", str(bundle), "--json", "--out", str(tmp_path / "report"))
    assert done.returncode == 0, done.stderr + done.stdout
    numbers = json.loads(done.stdout)
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
    report = tmp_path / "report"
    with (report / "queries.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == numbers["queries"]
    mean = sum(float(row["hybrid.ndcg@10_as_zero"]) for row in rows) / len(rows)
    assert mean == pytest.approx(numbers["hybrid"]["ndcg@10_as_zero"], abs=1e-3)
    assert (report / "report.png").read_bytes().startswith(b"\x89PNG")
    assert all(row["query"] in (report / "report.html").read_text() for row in rows[:3])


def test_what_is_refused_names_the_field(shop: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("query,item_id,grade\nmug,nowhere,3\n")
    products, runner = ["evaluate", "search", "--products", str(shop / "products.jsonl")], CliRunner()
    refused = runner.invoke(app, [*products, "--judgements", str(bad)])
    assert refused.exit_code == 1
    assert "bad.csv, row 1, item_id: 'nowhere' is not among the products" in refused.output.replace("\n", "")
    alone = runner.invoke(app, products)
    assert (alone.exit_code, "--judgements" in alone.output) == (1, True)
