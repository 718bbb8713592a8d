"""The comparison of cold starts: nothing leaks, what is told is used, on with it after a kill, and what it leaves."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from services.domain.strategies import NAMES
from souk.types.v1 import types_pb2
from tests.unit.training.ranker.logs import tastes
from training.cli import app
from training.coldstart.segments import Segments
from training.evaluate.coldstart import (
    SHARES,
    SYSTEMS,
    Comparison,
    Tops,
    biases,
    choose_bias,
    choose_gentle_bias,
    harmonic,
    judge_items,
    mean_of,
    moments_before,
)
from training.evaluate.coldstart_baselines import Told
from training.evaluate.coldstart_moments import FOLDS, Asked, fold_of, items_asked, shoppers_asked
from training.evaluate.coldstart_report import to_json, write_report
from training.evaluate.ranking import Moment, next_baskets
from training.evaluate.runs import Runs
from training.ranker.log import Log
from training.ranker.situations import Facts

DAY = 86_400.0


class Killed(Exception):
    """Stands for the end of a process."""


def shop() -> tuple[Log, Told, Moment, Moment]:
    """Shoppers who walk one of three groups of items and have told which."""
    log, content = tastes(shoppers=120, items=60, groups=3)
    group = log.item[log.starts[:-1]] // 20
    items = [
        types_pb2.Item(id=one, category_path=["All", f"K{number // 20}"]) for number, one in enumerate(log.item_ids)
    ]
    segments = Segments(("g=0", "g=1", "g=2"), [np.array([one]) for one in group.tolist()])
    validation, test = (next_baskets(log, at * DAY, (at + 1) * DAY, 0, 10**9) for at in (9, 10))
    return log, Told(Facts.of(items, content), segments), validation, test


def test_nothing_of_what_is_held_out_is_learned_or_shown() -> None:
    log, _, validation, test = shop()
    fold = fold_of(60, 7)
    asked = items_asked(log, validation, fold == 1, fold == 0, 50, 7)
    assert len(asked) == 50
    assert not (fold[asked.known.item] < 2).any()
    assert not (fold[asked.log.item] < 2).any()
    assert asked.known.time.max() < 9 * DAY
    assert all(log.time[0] <= asked.log.time[asked.history(number)].max() < 9 * DAY for number in range(50))
    assert all((asked.log.shopper[asked.history(n)] == asked.shopper[n]).all() for n in range(50))
    assert not any((fold[one] == 0).any() for one in asked.wanted)
    assert any(asked.unknown[one].any() for one in asked.wanted)
    assert asked.unknown[fold == 1].all()
    assert not asked.able[fold == 0].any()

    held = fold_of(120, 7)
    some = shoppers_asked(log, test, held == 0, held > 0, 10**9, 7)
    assert set(some.shopper.tolist()) == set(np.flatnonzero(held == 0).tolist())
    assert not (held[some.known.shopper] == 0).any()
    earlier = moments_before(log, validation, 7)
    assert len(earlier.examples) > len(validation.examples)
    assert earlier.examples.now.max() < 9 * DAY
    rows = some.history(3, 2)
    assert rows.stop - rows.start == 2
    assert rows.stop == some.end[3]
    assert some.history(3, 0) == slice(some.end[3], some.end[3])


def test_five_seeds_hold_out_each_once() -> None:
    folds = np.stack([fold_of(23, seed) == 0 for seed in range(5, 5 + FOLDS)])
    assert folds.sum(axis=0).tolist() == [1] * 23
    assert (fold_of(23, 4) != fold_of(23, 9)).any()


def compare(path: Path, kill_at: str = "") -> tuple[Comparison, list[str]]:
    heard: list[str] = []

    def told(what: str) -> None:
        heard.append(what)
        if what == kill_at:
            raise Killed

    log, given, validation, test = shop()
    earlier, runs = moments_before(log, validation, 7), Runs(path, "one")
    made = Comparison(log, given, earlier, validation, test, [7], 1, 60, runs, told, lambda done, total: None)
    return made, heard


@pytest.mark.timeout(240)
def test_it_goes_on_after_a_kill_and_leaves_a_report(tmp_path: Path) -> None:
    comparison, heard = compare(tmp_path / "runs", "items, content similarity, seed 7")
    with pytest.raises(Killed):
        comparison.results({})
    finished = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "runs").glob("*.npz")}
    assert len(finished) == 7
    comparison, heard = compare(tmp_path / "runs", "shoppers, DropoutNet, seed 7")
    with pytest.raises(Killed):
        comparison.results({})
    assert {name: (tmp_path / "runs" / name).stat().st_mtime_ns for name in finished} == finished
    comparison, heard = compare(tmp_path / "runs")
    results = comparison.results({"data": "tastes", "seeds": [7]})
    assert len(heard) == 4 * len(SYSTEMS) + 2
    assert not (tmp_path / "runs").exists()

    numbers = to_json(results)
    items, shoppers = numbers["items"], numbers["shoppers"]
    assert set(items) == {*SYSTEMS, "warm_loss", "warm_loss_points", "warm_loss_test", "share_of_events", "curve"}
    assert set(shoppers) == {"0", "1", "3", "5", "10", "full"}
    souk = items["souk"]
    assert souk["harmonic"] == pytest.approx(harmonic(souk["recall@10_cold"], souk["recall@10_warm"]))
    assert items["warm_loss"] == pytest.approx(1 - souk["recall@10_warm"] / souk["recall@10_warm_alone"])
    assert souk["gentle_warm_loss"] <= 0.03
    assert items["warm_loss_test"]["mean"] == pytest.approx(items["warm_loss_points"])
    # What content tells and what the walk tells are found; popularity knows neither.
    assert souk["recall@10_cold"] > 0.3
    assert souk["harmonic"] > 1.5 * items["popularity"]["harmonic"]
    # Their group is all that is known of a shopper without events.
    assert shoppers["0"]["souk"]["ndcg@10"] > 1.5 * shoppers["0"]["popularity"]["ndcg@10"]
    assert shoppers["0"]["popularity by segment"]["ndcg@10"] > 1.5 * shoppers["0"]["popularity"]["ndcg@10"]
    assert shoppers["1"]["souk"]["ndcg@10"] > 1.5 * shoppers["0"]["souk"]["ndcg@10"]
    gain = shoppers["1"]["popularity"]["gain_of_souk"]
    assert gain["mean"] == pytest.approx(
        shoppers["1"]["souk"]["ndcg@10"] - shoppers["1"]["popularity"]["ndcg@10"], abs=1e-9
    )
    assert items["curve"]["souk"][0]["cold"] == 0
    # Each strategy does what it is for, and no more: unknown items by content, groups without any event.
    alone = numbers["strategies"]
    assert set(alone) == set(NAMES)
    assert alone["carried"]["recall@10_cold"] > 0.9
    assert alone["together"]["recall@10_warm"] > alone["popularity"]["recall@10_warm"]
    assert alone["segment"]["ndcg@10"]["0"] > 1.5 * alone["popularity"]["ndcg@10"]["0"]

    write_report(tmp_path / "report", results)
    assert json.loads((tmp_path / "report/report.json").read_text()) == json.loads(json.dumps(numbers))
    assert (tmp_path / "report/report.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report/report.html").read_text()
    assert all(name in page for name in SYSTEMS)


def of_thirty(wanted: list[int]) -> Asked:
    """Moments that want one of 15 known and 15 unknown items each."""
    log, m = shop()[0], len(wanted)
    nothing = np.zeros(m, np.int64)
    return Asked(
        log, log, 0.0, np.ones(30, bool), np.arange(30) >= 15, False,
        nothing, nothing, nothing,
        [np.array([one]) for one in wanted],
        np.ones(m),
    )  # fmt: skip


def test_the_bias_lets_unknown_items_in_and_is_bounded() -> None:
    # Unknown items score a little less, and half of what is wanted is unknown.
    asked = of_thirty([0, 15, 0, 15])
    items = np.tile(np.concatenate([np.arange(10), 15 + np.arange(10)]), (4, 1))
    scores = np.tile(np.concatenate([5 - 0.1 * np.arange(10), 3 - 0.1 * np.arange(10)]), (4, 1)).astype(np.float32)
    tops = Tops(items, scores)
    none = judge_items(asked, tops, -math.inf)
    assert none["all"].values["unknown"].mean() == 0
    assert none["cold"].values["recall@10"].mean() == 0
    every = judge_items(asked, tops, 100.0)
    assert every["all"].values["unknown"].mean() == 1
    assert every["warm"].values["recall@10"].mean() == 0
    # The same number for all lets exactly so many of them in, here a tenth at a time.
    for share, bias in zip((0.0, 0.1, 0.3, 0.8), biases(asked, tops, (0.0, 0.1, 0.3, 0.8)), strict=True):
        assert judge_items(asked, tops, bias)["all"].values["unknown"].mean() == pytest.approx(share)
    value, bias = choose_bias(asked, tops, 0.5)
    assert value == 1
    assert judge_items(asked, tops, bias)["all"].values["unknown"].mean() == pytest.approx(0.1)
    # What is wanted stands first among the known: half of the places cost next to nothing. Where it stands last the
    # first place costs a tenth.
    gentle = judge_items(asked, tops, choose_gentle_bias(asked, tops))
    assert mean_of(gentle, "warm") == mean_of(gentle, "cold") == 1
    assert gentle["all"].values["unknown"].mean() == pytest.approx(0.5)
    assert choose_gentle_bias(of_thirty([9, 15, 9, 15]), tops) == -math.inf
    # Nothing unknown is there to take a place, or nothing known is wanted.
    assert (
        judge_items(asked, replace(tops, items=np.where(items < 15, items, -1)), 9.0)["all"].values["unknown"].max()
        == 0
    )
    assert math.isfinite(choose_gentle_bias(asked, replace(tops, items=np.where(items < 15, items, -1))))
    assert math.isfinite(choose_gentle_bias(of_thirty([15, 15, 15, 15]), tops))
    # No more than twice a share of nothing: the least there is.
    assert choose_bias(asked, tops, 0.0)[1] == biases(asked, tops, SHARES[1:2])[0]


def test_the_gentle_bias_takes_a_hundredth_and_does_not_hang_on_luck() -> None:
    rng = np.random.default_rng(0)
    chance = 1 / np.arange(1, 11)

    def moments(m: int) -> tuple[Asked, Tops]:
        wanted = rng.choice(10, m, p=chance / chance.sum())
        scores = -np.sort(-rng.gumbel(size=(m, 20)).reshape(m, 2, 10), axis=2).reshape(m, 20).astype(np.float32)
        items = np.tile(np.concatenate([np.arange(10), 15 + np.arange(10)]), (m, 1))
        return of_thirty(wanted.tolist()), Tops(items, scores)

    many = moments(2000)
    # So few find no hit to lose at 1%.
    lost = [1 - mean_of(judge_items(*many, choose_gentle_bias(*moments(80))), "warm") for _ in range(20)]
    assert 0.007 < np.mean(lost) < 0.013
    assert np.std(lost) < 0.005


def test_refused_by_name(tmp_path: Path) -> None:
    paths = ["--data", str(tmp_path), "--bundle", str(tmp_path), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["evaluate", "coldstart", *paths, "--trials", "5"])
    assert result.exit_code == 1
    assert "trials: must be from 1 to 4, not 5" in result.output
    result = CliRunner().invoke(app, ["evaluate", "coldstart", *paths])
    assert result.exit_code == 1
    assert "dataset.json" in result.output
