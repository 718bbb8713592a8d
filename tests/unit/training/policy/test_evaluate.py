"""The whole evaluation on a small shop: the truth lies in the intervals, and what cannot be told is refused."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from souk.dataset import DatasetError
from tests.unit.training.policy.shop import ITEMS, LOOKED_AT, WANTED, shop
from training.cli import app
from training.data.canonical import DatasetWriter, Info
from training.policy.evaluate import Report, evaluate_policy
from training.policy.targets import ordered, popularity_scores, uniform
from training.ranker.answers import read_answers
from training.ranker.log import read_log


def ask(path: Path, since: datetime | None = None, bundle: Path | None = None, slots: int | None = None) -> Report:
    return evaluate_policy(path, bundle, path, since, slots, lambda what, done, total: None)


def test_every_estimator_tells_the_truth_of_a_drawn_order(tmp_path: Path) -> None:
    shop(tmp_path / "d", 2_000, seed=1)
    report = ask(tmp_path / "d")
    assert (report.answers, report.places, report.shoppers) == (2_000, 8_000, 40)
    truth = float(LOOKED_AT.sum() * WANTED.mean())
    assert report.earned.low < truth < report.earned.high
    assert set(report.policies["uniform"].estimates) == {"ips", "snips", "dr", "position"}
    for estimate in report.policies["uniform"].estimates.values():
        assert estimate.low < truth < estimate.high
    # What is met most is what is wanted most: that order earns more.
    for estimate in report.policies["popularity"].estimates.values():
        assert estimate.low > truth


def test_the_command_prints_it_as_json_and_as_tables(tmp_path: Path) -> None:
    shop(tmp_path / "d", 200)
    given = ["evaluate", "policy", "--data", str(tmp_path / "d"), "--slots", "2"]
    found = json.loads(CliRunner().invoke(app, [*given, "--json"]).stdout)
    assert found["answers"] == 200
    assert "0 places were drawn by exploration" in found["unexplored"]
    assert found["policies"]["uniform"]["refused"] == ""
    told = CliRunner().invoke(app, given)
    assert told.exit_code == 0
    assert "self-normalised" in told.stdout
    assert "next: python -m training evaluate policy" in told.stdout


def test_an_order_that_was_certain_is_no_ground_for_another(tmp_path: Path) -> None:
    shop(tmp_path / "d", 200, random=False)
    report = ask(tmp_path / "d")
    assert "25%" in report.unrandomised
    assert report.policies["uniform"].estimates == {}
    assert "the log gave a chance to 25% of what it would show" in report.policies["uniform"].support.problem
    assert report.earned.value > 0


def test_bad_input_is_named(tmp_path: Path) -> None:
    shop(tmp_path / "d", 20)
    with pytest.raises(ValueError, match="since: must be given with a bundle"):
        ask(tmp_path / "d", bundle=tmp_path)
    with pytest.raises(DatasetError, match="no impression with a time since 2027"):
        ask(tmp_path / "d", since=datetime(2027, 1, 1, tzinfo=UTC))
    with DatasetWriter(tmp_path / "e", Info("toy", "1", "here", "none")) as writer:
        writer.write("items", [{"item_id": "a"}])
        writer.write("impressions", [{"request_id": "r", "item_id": "a", "position": 0, "propensity": 1.0}])
    with pytest.raises(DatasetError, match="nothing says what followed"):
        ask(tmp_path / "e")
    with DatasetWriter(tmp_path / "f", Info("toy", "1", "here", "none")) as writer:
        writer.write("items", [{"item_id": "a"}])
    with pytest.raises(DatasetError, match="no impressions table"):
        ask(tmp_path / "f")


def test_orders_and_popularity_by_hand(tmp_path: Path) -> None:
    dataset = shop(tmp_path / "d", 60)
    log = read_log(dataset, dataset.events(), 1)
    answers = read_answers(dataset, log, everybody=True)
    curve = np.array([1.0, 0.5, 0.25, 0.2])
    best = ordered(answers, -answers.items.astype(np.float64), curve)
    for answer in range(len(answers)):
        part = slice(answers.starts[answer], answers.starts[answer + 1])
        place = np.argsort(np.argsort(answers.items[part]))
        assert best.looked_at[part].tolist() == curve[place].tolist()
        assert best.probability[part].tolist() == (place == np.arange(4)).astype(float).tolist()
    even = uniform(answers, curve)
    assert set(even.probability) == {0.25}
    assert even.looked_at == pytest.approx(curve.mean())
    counts = popularity_scores(answers, log)
    row = int(answers.starts[30])
    before = (log.item == answers.items[row]) & (log.time < answers.time[30])
    assert counts[row] == before.sum()
    assert counts.max() < len(log.item) / 2
    assert len(log.item_ids) == ITEMS
