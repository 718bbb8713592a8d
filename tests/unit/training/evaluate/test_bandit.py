"""The place for new items: the same seed gives the same, what is better is found, and every system is tuned alike."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from training.cli import app
from training.evaluate.bandit import HOT_CLICKS, OURS, SYSTEMS, TRIALS, Greedy, Thompson, draw_world, play


def test_a_world_has_arms_by_shopper_and_a_prior_that_knows_something() -> None:
    shop = draw_world(3, 400)
    assert ((shop.chance > 0) & (shop.chance < 1)).all()
    assert {len(one) < shop.chance.shape[1] for one in shop.able} == {True, False}
    rates = shop.chance.mean(axis=0)
    assert np.corrcoef(shop.expected, rates)[0, 1] > 0.3
    assert rates[shop.good].min() >= np.quantile(rates, 0.89)


def test_seeds_reproduce_and_what_is_learned_loses_less() -> None:
    shop = draw_world(3, 2_000)
    one, same = (play(shop, Thompson, {"strength": 60.0}, 5) for _ in range(2))
    np.testing.assert_array_equal(one.regret, same.regret)
    assert (np.diff(one.regret) >= -1e-12).all()
    assert (one.until_hot >= HOT_CLICKS).all()
    # A lasting belief in nothing shows all alike.
    blind = play(shop, Greedy, {"usual": 1e6}, 5)
    assert one.regret[-1] < 0.7 * blind.regret[-1]
    # It loses less and less.
    assert one.regret[-1] - one.regret[1_000] < one.regret[1_000]


def test_all_are_tuned_as_often_and_a_report_is_left(tmp_path: Path) -> None:
    assert all(len(trials) == TRIALS for _, trials in SYSTEMS.values())
    command = ["evaluate", "bandit", "--seeds", "1", "--impressions", "200", "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "out/report.json").read_text())
    assert set(numbers["systems"]) == set(SYSTEMS)
    ours = numbers["systems"][OURS]
    assert ours["regret"] == pytest.approx(np.mean(ours["regret_by_seed"]))
    assert ours["until_hot"] <= 200
    assert "souk" in (tmp_path / "out/report.html").read_text()
    result = CliRunner().invoke(app, ["evaluate", "bandit", "--impressions", "99", "--out", str(tmp_path / "no")])
    assert (result.exit_code, "impressions: 99; it must be 100 or more" in result.output) == (1, True)
