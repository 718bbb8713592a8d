"""The comparison: as many trials and the time given for each system, on with it after a kill, and what it leaves."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from souk.types.v1 import types_pb2
from tests.unit.training.ranker.logs import tastes
from training.cli import app
from training.evaluate.lists import Before, wanted_shares
from training.evaluate.ranker import Comparison, knn_trials
from training.evaluate.ranker_report import write_report
from training.evaluate.ranking import next_baskets
from training.evaluate.results import Outcome, Report, Result, figure
from training.evaluate.runs import Runs
from training.ranker.config import RankerConfig
from training.ranker.pipeline import Shop

DAY = 86_400.0


class Killed(Exception):
    """Stands for the end of a process."""


def compare(path: Path, kill_at: str = "") -> tuple[Comparison, list[str]]:
    """A comparison of one trial and two seeds, and where it tells of its runs."""
    made, content = tastes(shoppers=40, items=30, groups=3)
    shop = Shop(made, [types_pb2.Item(id=one, brand=f"B{int(one[1:]) % 4}") for one in made.item_ids], content, {})
    validation, test = (next_baskets(made, at * DAY, (at + 1) * DAY, 0, 20) for at in (9, 10))
    before = Before.of(shop.items, content, made, test.seen)
    config = RankerConfig(dim=16, max_history=8, epochs=1, batch=64, minutes=0.02)
    heard: list[str] = []

    def told(what: str) -> None:
        heard.append(what)
        if what.startswith(kill_at) and kill_at:
            raise Killed

    runs = Runs(path, "one")
    return Comparison(shop, before, validation, test, config, [7, 8], 1, runs, told, lambda done, total: None), heard


@pytest.mark.timeout(240)
def test_it_goes_on_after_a_kill_and_leaves_a_report(tmp_path: Path) -> None:
    comparison, heard = compare(tmp_path / "runs", kill_at="SASRec, seed 7")
    with pytest.raises(Killed):
        comparison.results()
    finished = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "runs").glob("*.npz")}
    assert len(finished) == 6
    comparison, heard = compare(tmp_path / "runs")
    results = comparison.results()
    assert {name: (tmp_path / "runs" / name).stat().st_mtime_ns for name in finished} == finished
    assert [line.split(":")[0] for line in heard[-3:]] == ["ranker, trial 1", "ranker, seed 7", "ranker, seed 8"]
    assert [one.name for one in results] == ["popularity", "item-kNN", "SASRec", "Transformer alone", "ranker"]
    assert [len(one.tested) for one in results] == [1, 1, 2, 2, 2]
    assert {len(one.trials) for one in results} == {1}

    before = comparison.before
    wanted = dict(zip(before.groups, wanted_shares(comparison.test.examples, before).tolist(), strict=True))
    write_report(tmp_path / "report", Report({"data": "tastes", "groups": "brand", "seeds": [7, 8]}, results, wanted))
    numbers = json.loads((tmp_path / "report/report.json").read_text())
    ranker = numbers["systems"]["ranker"]
    ndcg = ranker["test"]["ndcg@10"]
    assert ndcg["mean"] == pytest.approx(np.mean(ndcg["by_seed"]))
    assert ndcg["lowest"] <= ndcg["mean"] <= ndcg["highest"]
    assert sum(ranker["exposure"].values()) == pytest.approx(1)
    assert "calibration" not in numbers["systems"]["Transformer alone"]
    for objective in ("click", "cart", "purchase"):
        told = ranker["calibration"][objective]
        assert 0 <= told["ece"]["lowest"] <= told["ece"]["mean"] <= told["ece"]["highest"] < 0.5
        # No head errs less in its bins than over all of them.
        assert told["ece"]["mean"] >= abs(told["mean"]["mean"] - told["rate"]["mean"]) - 1e-6
    gain = numbers["gains_of_ranker"]["popularity"]["ndcg@10"]["mean"]
    assert gain == pytest.approx(ndcg["mean"] - numbers["systems"]["popularity"]["test"]["ndcg@10"]["mean"])
    assert (tmp_path / "report/report.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report/report.html").read_text()
    assert "Exposure by brand" in page
    assert "Calibration of the heads" in page
    assert all(f"{name}@10" in page for name in ("hr", "mrr", "precision", "coverage", "novelty", "tail_recall"))


def test_runs_of_another_comparison_are_thrown_away(tmp_path: Path) -> None:
    Runs(tmp_path / "runs", "one")
    (tmp_path / "runs/old.npz").touch()
    Runs(tmp_path / "runs", "one")
    assert (tmp_path / "runs/old.npz").exists()
    Runs(tmp_path / "runs", "two")
    assert not (tmp_path / "runs/old.npz").exists()


def test_figures() -> None:
    one, two = (
        Outcome({"ndcg@10": np.array([value, value, np.nan])}, {"coverage@10": value}, {}) for value in (0.2, 0.4)
    )
    both = Result("x", [], {}, [one, two], 0.0)
    assert figure(both, "ndcg@10") == "0.3000 (0.2000 to 0.4000)"
    alone = replace(both, tested=[one])
    assert figure(alone, "ndcg@10") == "0.2000 ± 0.0000"
    assert figure(alone, "coverage@10") == "0.2000"
    nothing = replace(both, tested=[Outcome({"diversity@10": np.array([np.nan])}, {}, {})])
    assert figure(nothing, "diversity@10") == "-"
    report = Report({}, [nothing], {}).to_json()
    assert report["systems"]["x"]["test"]["diversity@10"]["mean"] is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--protocol", "random"], "protocol: must be time or leave-one-out, not random"),
        (["--trials", "5"], "trials: must be from 1 to 4, not 5"),
    ],
)
def test_refused_by_name(tmp_path: Path, given: list[str], said: str) -> None:
    for name in ("--dataset", "--data"):
        paths = [name, str(tmp_path), "--bundle", str(tmp_path), "--out", str(tmp_path / "out")]
        result = CliRunner().invoke(app, ["evaluate", "ranker", *paths, *given])
        assert result.exit_code == 1
        assert said in result.output


def test_one_trial_of_item_knn_is_not_wasted_on_sessions_of_one_event() -> None:
    made, _ = tastes(shoppers=40, items=30, groups=3)
    alone = replace(made, session=np.arange(len(made.session)))
    together = replace(made, session=made.shopper)
    assert knn_trials(alone)[0]["by"] == "shopper"
    assert knn_trials(together)[0]["by"] == "session"
    for log in (alone, together):
        assert {one["by"] for one in knn_trials(log)[:2]} == {"session", "shopper"}
