"""`python -m loadtest run` and `compare` against a real shop."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.cli import app
from tests.integration.processes import REPOSITORY
from tests.integration.shops import Shop
from tests.integration.test_gateway import goods

_PLAN = """
[scenarios]
search = 3
search-known = 1
home = 2
cart = 1
similar = 2
events = 2
cold = 1
upsert = 1

[[phases]]
name = "soak"
kind = "constant"
rate = 10
seconds = 1

[[phases]]
name = "saturation"
kind = "steps"
rate = 5
factor = 2
most_steps = 2
seconds = 0.6

[[phases]]
name = "capacity"
kind = "closed"
in_flight = 2
seconds = 0.5
"""


@pytest.fixture
def shop(bundle: Path, redis_url: str, tmp_path: Path) -> Iterator[Shop]:
    with Shop(bundle, tmp_path / "shop", redis_url, coldstart=True) as one:
        one.fill(goods())
        yield one


def test_a_run_counts_every_call_and_can_be_compared(shop: Shop, tmp_path: Path) -> None:
    dataset, home, plan = tmp_path / "dataset", tmp_path / "home", tmp_path / "plan.toml"
    dataset.mkdir()
    rows = [{"item_id": one.id, "title": one.title} for one in goods()]
    (dataset / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    judged = {"query": goods()[0].title, "item_id": goods()[0].id, "grade": 3}
    (dataset / "judgements.jsonl").write_text(json.dumps(judged))
    home.mkdir()
    state = {name: {"address": one.address, "pid": one.pid} for name, one in shop.processes.items()}
    (home / "stack.json").write_text(json.dumps(state))
    plan.write_text(_PLAN)
    gateway = shop.processes["gateway"].address
    arguments = ["--dataset", dataset, "--gateway", gateway, "--home", home, "--plan", plan, "--out", tmp_path / "a"]
    # A process of its own, since it starts others.
    command = [sys.executable, "-m", "loadtest", "run", *map(str, arguments), "--processes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    soak = report["phases"][0]
    assert soak["due"] == soak["answered"] == 2 * 4  # Two processes, each with half of the rate.
    assert soak["latency"]["all"]["count"] == soak["due"]
    assert not soak["failures"]
    assert {"retrieve", "page"} <= set(soak["stages"])
    assert set(shop.processes) <= set(soak["processes"])
    assert soak["processes"]["gateway"]["mib"] > 10
    assert soak["quality"]["judged queries"] == 1
    assert report["phases"][1]["name"] == "saturation, 5/s"
    assert report["knees"][0]["phase"] == "saturation"
    both = ["compare", str(tmp_path / "a"), str(tmp_path / "a"), "--out", str(tmp_path / "both")]
    compared = CliRunner().invoke(app, both)
    assert compared.exit_code == 0, compared.output
    assert "soak: p99, ms" in compared.output
    assert (tmp_path / "both" / "compare.html").is_file()
