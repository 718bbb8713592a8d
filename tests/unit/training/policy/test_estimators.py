"""Estimates of other policies are right where theory says so: against a world small enough to be enumerated."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.training.policy.logs import LOOKED_AT, WANTED, drawn, every_answer, one_answer
from training.policy import estimators
from training.policy.estimators import Logged, doubly_robust, ips, mean, snips, support
from training.ranker.log import Floats, Ints

# The best order of the three items: 0, 2, 1. Item i stands at PLACE[i].
PLACE = np.array([0, 2, 1])
TRUTH = float((LOOKED_AT[PLACE] * WANTED).sum())


def best_first(items: Ints, places: Ints) -> Floats:
    there: Floats = (PLACE[items] == places).astype(np.float64)
    return there


def logged(propensity: list[float], reward: list[float]) -> Logged:
    """Answers of one place."""
    n = len(reward)
    return Logged(np.arange(n), np.zeros(n, np.int64), np.array(propensity), np.array(reward), np.arange(n))


@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_ips_and_doubly_robust_are_unbiased_whatever_the_model_says(
    wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Logged, "clip", np.inf)
    monkeypatch.setattr(estimators, "DRAWS", 1)
    by_ips = by_dr = 0.0
    for items, clicks, chance in every_answer():
        log = one_answer(items, clicks)
        weights = log.weights(best_first(items, log.place))
        model = WANTED + wrong
        by_ips += chance * ips(log, weights).value
        by_dr += chance * doubly_robust(log, weights, model[items] * LOOKED_AT, (model * LOOKED_AT[PLACE])[items]).value
    assert by_ips == pytest.approx(TRUTH, abs=1e-9)
    assert by_dr == pytest.approx(TRUTH, abs=1e-9)


def test_intervals_hold_the_truth_and_doubly_robust_is_the_narrower() -> None:
    items, log = drawn(3_000, 1)
    weights = log.weights(best_first(items, log.place))
    found = [ips(log, weights), snips(log, weights)]
    right = WANTED[items]
    found.append(doubly_robust(log, weights, right * LOOKED_AT[log.place], right * LOOKED_AT[PLACE[items]]))
    for one in found:
        assert one.low < TRUTH < one.high
    assert found[2].high - found[2].low < found[0].high - found[0].low


def test_by_hand() -> None:
    log = logged([0.5, 0.25, 1.0, 0.5], [1, 1, 0, 0])
    weights = log.weights(np.array([1.0, 0.5, 1.0, 0.0]))
    # Weights 2, 2, 1, 0; the root of four answers clips none of them.
    assert weights.tolist() == [2, 2, 1, 0]
    assert ips(log, weights).value == pytest.approx(1.0)
    assert snips(log, weights).value == pytest.approx(0.8)
    # The model says .5 everywhere: .5 + (2 * .5 + 2 * .5 - 1 * .5) / 4.
    half = np.full(4, 0.5)
    assert doubly_robust(log, weights, half, half).value == pytest.approx(0.875)
    found = support(log, weights)
    assert found.covered == 1.25
    assert found.places == pytest.approx(25 / 9)


def test_doubly_robust_is_the_direct_method_where_the_model_is_right() -> None:
    log = logged([0.5, 0.25, 0.5], [1.0, 0.2, 0.0])
    expected = np.array([0.3, 0.6, 0.9])
    weights = log.weights(np.array([0.1, 0.9, 0.4]))
    assert doubly_robust(log, weights, log.reward, expected).value == pytest.approx(mean(log, expected).value)


def test_snips_takes_a_constant_as_it_is_and_ips_does_not() -> None:
    items, log = drawn(200, 3)
    weights = log.weights(best_first(items, log.place))
    shifted = replace(log, reward=log.reward + 7)
    # Three places an answer.
    assert snips(shifted, weights).value == pytest.approx(snips(log, weights).value + 21)
    assert abs(ips(shifted, weights).value - ips(log, weights).value - 21) > 0.1


def test_clipping_takes_off_no_more_than_is_said() -> None:
    log = logged([0.01, *[1.0] * 3], [1, 1, 0, 0])
    weights = log.weights(np.ones(4))
    # The root of four answers: 2 of the weight 100 are left.
    assert ips(log, weights).value == pytest.approx(3 / 4)
    assert support(log, weights).clipped == pytest.approx(98 / 4)


def test_propensities_that_are_too_small_are_refused() -> None:
    items, log = drawn(2_000, 1)
    wrong = replace(log, propensity=log.propensity / 2)
    assert "too small" in support(wrong, wrong.weights(best_first(items, log.place))).problem
    assert support(log, log.weights(best_first(items, log.place))).problem == ""


def test_one_item_drawn_from_hundreds_does_not_make_a_log_of_fixed_places_a_drawn_one() -> None:
    """Nine places stand fast, the tenth was drawn from 200 items: what any order would earn is not in it."""
    answers, places = 300, 10
    propensity = np.tile([1.0] * (places - 1) + [1 / 200], answers)
    place = np.tile(np.arange(places), answers)
    log = Logged(np.repeat(np.arange(answers), places), place, propensity, np.ones(len(place)), np.arange(answers))
    assert support(log, log.weights(np.full(len(place), 1 / places))).problem


def test_what_the_log_never_showed_is_refused() -> None:
    # Always the same order: of another it says nothing at two places of three.
    rows, place = np.tile(np.arange(3), 400), np.tile(np.arange(3), 400)
    log = Logged(np.repeat(np.arange(400), 3), place, np.ones(1200), np.ones(1200), np.arange(400))
    problem = support(log, log.weights(best_first(rows, place))).problem
    assert problem == "the log gave a chance to 33% of what it would show; 95% is needed"
    assert support(log, log.weights((rows == place).astype(np.float64))).problem == ""
    few = logged([0.5] * 20, [1.0] * 20)
    assert "worth 20 places" in support(few, few.weights(np.full(20, 0.5))).problem


@pytest.mark.parametrize(
    ("propensity", "problem"), [(0.0, "propensity: from 0"), (1.5, "1.5; each must be"), (np.nan, "propensity")]
)
def test_propensities_that_cannot_be_are_refused(propensity: float, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        logged([propensity, 0.5] if propensity != 1.5 else [0.5, 1.5], [1.0, 0.0])


def test_targets_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match="target"):
        logged([0.5], [1.0]).weights(np.array([1.2]))
