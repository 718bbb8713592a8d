"""The command as a whole: strengths are chosen on the validation, groups are judged, a killed run goes on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.training.ranker.logs import PURCHASE, log
from training.cli import app
from training.data.canonical import DatasetWriter, Info
from training.evaluate.ranking import last_events
from training.fairness import groups
from training.fairness.chance import cross_fitted
from training.fairness.evaluate import LOSS, STRENGTHS, Asked, judge_seed, turns
from training.fairness.lists import as_ranked, exposure_of, gini, shared_out
from training.ranker.suppliers import Facet

_DAYS, _ITEMS, _SHOPPERS = 60, 40, 90


def shop(path: Path, brands: int) -> Path:
    """Shoppers who buy three kinds of items over two months, those of the first brand most."""
    random = np.random.default_rng(5)
    weights = 1 / np.arange(1, _ITEMS + 1)
    events: list[dict[str, Any]] = []
    for shopper in range(_SHOPPERS):
        for day in sorted(random.choice(_DAYS, 8 + shopper % 9, replace=False).tolist()):
            kind = shopper % 3
            for item in random.choice(np.arange(kind, _ITEMS, 3), 2, p=_share(weights[kind::3])).tolist():
                events.append(
                    {
                        "event_id": f"e{len(events)}",
                        "shopper_id": f"s{shopper}",
                        "type": "PURCHASE",
                        "item_id": f"i{item}",
                        "time": 1_700_000_000_000_000 + (day * 86_400 + shopper) * 1_000_000,
                    }
                )
    with DatasetWriter(path, Info("toy", "1", "here", "none")) as writer:
        items = [
            {"item_id": f"i{n}", "brand": f"B{n * brands // _ITEMS}", "price": 1.0 + n, "currency": "EUR"}
            for n in range(_ITEMS)
        ]
        writer.write("items", items)
        told = [
            {"shopper_id": f"s{n}", "attributes": json.dumps({"country": ["GB" if n % 2 else "FR"]})}
            for n in range(_SHOPPERS)
        ]
        writer.write("shoppers", told)
        writer.write("events", events)
    return path


def _share(weights: np.ndarray[Any, Any]) -> Any:
    return weights / weights.sum()


def test_the_command_measures_chooses_and_writes_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_FEWEST_SHOPPERS", 20)
    path, out = shop(tmp_path / "shop", brands=8), tmp_path / "report"
    said = CliRunner().invoke(
        app, ["evaluate", "fairness", "--data", str(path), "--out", str(out)], env={"COLUMNS": "100"}
    )
    assert said.exit_code == 0, said.output
    assert max(map(len, said.stdout.splitlines())) <= 100 or str(out) in said.stdout
    assert not list(tmp_path.glob(".report.runs"))
    numbers = json.loads((out / "report.json").read_text())
    [seed] = numbers["seeds"]
    assert set(seed["sizes"]) == {"all", "light", "heavy", "country=FR", "country=GB"}
    ginis = [one["gini"] for one in seed["tried"]]
    # More strength, more equal; the choice is the most equal of those that lose little.
    assert ginis[-1] < ginis[0] - 0.1
    allowed = [one for one in seed["tried"] if min(one["ndcg"].values()) >= -LOSS]
    expected = min(allowed, key=lambda one: one["gini"])["strength"] if allowed else None
    assert seed["chosen"]["shared out"] == expected
    plain = seed["systems"]["as ranked"]
    assert plain["gini_change"] == [0, 0, 0]
    assert {one["mean"] for one in plain["change"].values()} == {0}
    for system in seed["systems"].values():
        assert sum(system["exposure"]["price"].values()) == pytest.approx(1)
        low, high = system["gini_change"][1:]
        assert low <= system["gini_change"][0] <= high
    assert seed["shares"]["price"]["cheapest quarter"][0] == pytest.approx(0.25, abs=0.03)
    assert "Goal" in (out / "report.html").read_text()


def test_a_shop_of_one_supplier_is_refused(tmp_path: Path) -> None:
    path = shop(tmp_path / "shop", brands=1)
    said = CliRunner().invoke(app, ["evaluate", "fairness", "--data", str(path), "--out", str(tmp_path / "r")])
    assert said.exit_code == 1
    assert "nobody to be fair to" in said.stdout


def test_lists_are_made_together_in_two_passes() -> None:
    random = np.random.default_rng(2)
    bought = [
        (n, int(item), PURCHASE, 24.0 * day) for n in range(60) for day, item in enumerate(random.integers(40, size=4))
    ]
    at = last_events(log(bought, items=40), 1, 0, 60)
    items = random.permuted(np.tile(np.arange(40), (60, 1)), axis=1)[:, :30]
    chance = -np.sort(-random.random(items.shape), axis=1)
    by = Facet("brand", np.arange(40) // 3, [f"b{n}" for n in range(14)])
    asked = Asked.of(at, items, chance)
    everybody = {"all": np.ones(60, np.bool_)}
    tried = judge_seed(0, asked, asked, (chance, chance), everybody, everybody, by, []).tried
    line = by.group[items]
    plain = as_ranked(chance)
    unit = float(np.take_along_axis(chance, plain, axis=1).mean())

    def changes(passes: int) -> list[float]:
        made = [shared_out(chance, line, 14, one * unit, turns(at, 0), passes) for one in STRENGTHS]
        unequal, *after = (gini(exposure_of(np.take_along_axis(line, one, axis=1), 14)) for one in (plain, *made))
        return [one / unequal - 1 for one in after]

    assert [one.gini for one in tried] == pytest.approx(changes(2))
    assert [one.gini for one in tried] != pytest.approx(changes(1))


def test_chances_mean_the_same_for_shoppers_whose_scores_do_not() -> None:
    random = np.random.default_rng(1)
    certain = np.arange(400) % 3 == 0
    scores = -np.sort(-random.random((400, 20)), axis=1) + 0.5
    # Scores alike; what tells the shoppers apart is how much they met.
    wanted = random.random((400, 20)) < np.where(certain, 0.4, 0.05)[:, None]
    chance = cross_fitted(scores, np.where(certain, 50, 2), wanted)
    assert chance[certain].mean() == pytest.approx(0.4, abs=0.05)
    assert chance[~certain].mean() == pytest.approx(0.05, abs=0.02)
    with pytest.raises(ValueError, match="all or nothing"):
        cross_fitted(scores, np.ones(400, np.int64), np.zeros((400, 20), bool))
