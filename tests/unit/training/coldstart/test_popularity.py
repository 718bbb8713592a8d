"""What counts of the past is chosen by the log itself: the latest events where fashions pass, all of them where not."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.training.ranker.logs import PURCHASE, SKIP, log
from training.coldstart.popularity import mixed_rates
from training.coldstart.segments import rates
from training.ranker.log import Floats, Log
from training.ranker.situations import popularity

DAY = 86_400.0


def sold(days: int, passing: bool) -> Log:
    """30 items, ten purchases a day of different shoppers: of six items for 40 days, then of six others; or always
    the same items most."""
    rng = np.random.default_rng(3)
    always = rng.dirichlet(np.full(30, 0.3))
    items = [
        day // 40 * 6 + int(rng.integers(6)) if passing else int(rng.choice(30, p=always))
        for day in range(days)
        for _ in range(10)
    ]
    return log([(row, item, PURCHASE, 24.0 * (row // 10)) for row, item in enumerate(items)], 30)


def alone(one: Log, until: float, days: float) -> Floats:
    return rates(popularity(one, np.ones(len(one.item), bool), until, days))


def test_it_follows_a_fashion_and_holds_to_what_lasts() -> None:
    for passing in (True, False):
        one = sold(200, passing)
        until = float(one.time.max())
        found = mixed_rates(one, until)
        assert found.sum() == pytest.approx(1)
        assert (found > 0).all()
        recent, ever = alone(one, until, 7.0), alone(one, until, np.inf)
        far_from = [float(np.abs(found - other).sum()) for other in (recent, ever)]
        assert (far_from[0] < far_from[1]) == passing


def test_short_and_odd_logs_count_all_alike() -> None:
    # Everything at one time: nothing lies before a window.
    one = log([(0, 1, PURCHASE, 5.0), (1, 2, PURCHASE, 5.0), (2, 1, PURCHASE, 5.0)], 4)
    np.testing.assert_allclose(mixed_rates(one, 6.0 * 3600), alone(one, 6.0 * 3600, np.inf))
    nobody = log([(0, 1, SKIP, 1.0), (0, 2, SKIP, 9.0)], 4)
    np.testing.assert_allclose(mixed_rates(nobody, DAY), np.full(4, 0.25))
    timeless = replace(sold(50, True), has_time=False)
    np.testing.assert_allclose(mixed_rates(timeless, 0.0), alone(timeless, 0.0, 7.0))
    # The one window that there is lies long before: what is all but forgotten is no division by nothing.
    old = log([(0, 1, PURCHASE, 0.0), (0, 2, PURCHASE, 24.0), (0, 1, PURCHASE, 48.0), (1, 3, PURCHASE, 72.0)], 4)
    found = mixed_rates(old, 30_000 * DAY)
    assert np.isfinite(found).all()
    assert (found > 0).all()
