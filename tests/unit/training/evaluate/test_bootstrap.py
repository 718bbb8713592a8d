"""The paired bootstrap on cases whose answer is known."""

import numpy as np
import pytest

from training.evaluate import bootstrap
from training.evaluate.bootstrap import interval, paired_bootstrap

QUERIES = 120


def scores(seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).random(QUERIES)


def test_a_system_does_not_differ_from_itself() -> None:
    same = paired_bootstrap(scores(0), scores(0))
    assert (same.mean, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_a_steady_gain_is_no_luck() -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, QUERIES)
    gain = paired_bootstrap(scores(0) + 0.05 + noise, scores(0))
    assert gain.mean == pytest.approx(0.05, abs=0.005)
    assert 0.04 < gain.low < gain.mean < gain.high < 0.06
    assert gain.p_value < 0.001
    loss = paired_bootstrap(scores(0), scores(0) + 0.05 + noise)
    assert loss.mean == pytest.approx(-gain.mean)
    assert loss.p_value == gain.p_value


def test_p_values_of_noise_are_spread_evenly() -> None:
    rng = np.random.default_rng(2)
    values = [paired_bootstrap(rng.normal(0, 1, 60), np.zeros(60)).p_value for _ in range(100)]
    assert 0.35 < np.mean(values) < 0.65
    assert 0 <= np.mean(np.array(values) < 0.05) <= 0.13


def test_one_query_that_gained_much_proves_nothing() -> None:
    gains = np.zeros(QUERIES)
    gains[0] = 1.0
    assert paired_bootstrap(gains, np.zeros(QUERIES)).p_value > 0.2


def test_the_interval_of_a_mean() -> None:
    low, high = interval(scores(3))
    half = 1.96 * scores(3).std() / np.sqrt(QUERIES)
    assert low == pytest.approx(scores(3).mean() - half, abs=0.01)
    assert high == pytest.approx(scores(3).mean() + half, abs=0.01)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        paired_bootstrap(np.zeros(3), np.zeros(4))


def test_many_queries_are_drawn_in_parts_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand draws of all shoppers of a large shop do not fit into memory at once."""
    whole = paired_bootstrap(scores(4), scores(5))
    monkeypatch.setattr(bootstrap, "_NUMBERS_AT_ONCE", 7 * QUERIES)
    parts = paired_bootstrap(scores(4), scores(5))
    assert parts.mean == whole.mean
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.005)
    assert parts.p_value == pytest.approx(whole.p_value, abs=0.02)
    assert len(bootstrap._means(scores(4), 0)) == bootstrap.DRAWS
