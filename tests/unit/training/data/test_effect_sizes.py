"""Effect sizes on logs small enough to count by hand."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from training.data.effect_sizes import gini, measure


def test_gini() -> None:
    assert gini(np.array([5, 5, 5, 5])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(0.75)
    assert np.isnan(gini(np.array([0, 0])))


def log(rows: list[tuple[str, str, str, int]]) -> pl.DataFrame:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "shopper_id": [row[0] for row in rows],
            "type": [row[1] for row in rows],
            "item_id": [row[2] for row in rows],
            "time": [start + timedelta(minutes=row[3]) for row in rows],
        }
    )


def test_sessions_baskets_and_repeats() -> None:
    effects = measure(
        log(
            [
                ("s", "PURCHASE", "a", 0),
                ("s", "PURCHASE", "a", 10),
                ("s", "PURCHASE", "b", 30),
                ("s", "VIEW", "c", 61),
                ("s", "PURCHASE", "a", 80),
                ("t", "PURCHASE", "a", 0),
                ("t", "RETURN", "a", 500),
            ]
        )
    )
    assert (effects.shoppers, effects.items, effects.purchases) == (2, 2, 5)
    assert effects.sparsity == pytest.approx(1 - 3 / 4)
    # s buys a again in a second session; the second a of the first session is no repeat.
    assert effects.repeat_rate == pytest.approx(1 / 4)
    assert effects.return_rate == pytest.approx(1 / 5)
    assert effects.basket_mean == pytest.approx(5 / 3)
    assert effects.session_events_mean == pytest.approx(7 / 4)
    assert effects.top_percent_share == pytest.approx(4 / 5)


def test_without_time_sessions_are_not_known() -> None:
    effects = measure(log([("s", "PURCHASE", "a", 0)]).with_columns(time=pl.lit(None, pl.Datetime("us", "UTC"))))
    assert np.isnan(effects.basket_mean)
    assert np.isnan(effects.repeat_rate)
    assert effects.purchases == 1
    assert measure(log([])).purchases == 0
