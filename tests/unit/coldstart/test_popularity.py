"""Popularity is what a naive sum over all events says, at bounded memory."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.coldstart.log import Facts, Happening
from services.coldstart.popularity import Popularity
from services.coldstart.shelf import roots
from services.domain.demand import LATELY_DAYS, WEIGHTS, rising, trend
from tests.unit.coldstart.making import CART, DAY, NOW, PURCHASE, RETURN, VIEW

HALF_LIFE = 30.0
NO_TEXT = "\x00"


def facts(category: str = "", popularity: float = 0, sellable: bool = True) -> Facts:
    return Facts(1, "", "", category, None, 0, sellable, popularity)


def happening(item: str, kind: int = VIEW, days_ago: float = 0, segment: str = "") -> Happening:
    return Happening(1, segment, int((NOW - days_ago * DAY) * 1000), kind, item, False)


EVENTS = st.lists(
    st.builds(
        happening,
        st.sampled_from("abcdef"),
        st.sampled_from([VIEW, CART, PURCHASE]),
        st.floats(0, 3000),
        st.sampled_from(["", "country=GB", f"country=DE{NO_TEXT}age_band=25-34"]),
    ),
    min_size=1,
    max_size=60,
)
CATEGORIES = {"a": "Shoes > Red", "b": "Shoes > Blue", "c": "Shoes", "d": "Tea", "e": ""}


@settings(deadline=None)
@given(EVENTS)
def test_charts_are_naive_decayed_sums(events: list[Happening]) -> None:
    popularity = Popularity(HALF_LIFE)
    for start in range(0, len(events), 7):
        popularity.add(events[start : start + 7])
    popularity.refresh([(item, facts(category)) for item, category in CATEGORIES.items()])
    latest = max(event.time_ms for event in events)
    overall: dict[str, float] = defaultdict(float)
    segments: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    categories: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for item, category in CATEGORIES.items():
        overall[item] += 0
        for root in roots(category):
            categories[root][item] += 0
    for event in events:
        count = WEIGHTS[event.type] * 0.5 ** ((latest - event.time_ms) / (HALF_LIFE * DAY * 1000))
        overall[event.item] += count
        for segment in event.segment.split(NO_TEXT) if event.segment else []:
            segments[segment][event.item] += count
        for root in roots(CATEGORIES.get(event.item, "")):
            categories[root][event.item] += count
    charts = popularity.charts
    assert dict(charts.overall) == pytest.approx(overall)
    assert {name: dict(chart) for name, chart in charts.segments.items()} == {
        name: pytest.approx(dict(counts)) for name, counts in segments.items()
    }
    assert {name: dict(chart) for name, chart in charts.categories.items()} == {
        name: pytest.approx(dict(counts)) for name, counts in categories.items()
    }
    met = sorted({event.item for event in events})
    lately = dict.fromkeys(met, 0.0)
    for event in events:
        lately[event.item] += WEIGHTS[event.type] * 0.5 ** ((latest - event.time_ms) / (LATELY_DAYS * DAY * 1000))
    trends = trend(np.array([lately[item] for item in met]), np.array([overall[item] for item in met]))
    assert dict(charts.rising) == pytest.approx({met[row]: trends[row] for row in rising(trends)}, abs=1e-6)
    scores = [score for _, score in charts.overall]
    assert scores == sorted(scores, reverse=True)


def test_newer_events_count_more() -> None:
    popularity = Popularity(HALF_LIFE)
    popularity.add([*(happening("old", days_ago=90) for _ in range(5)), happening("new")])
    popularity.refresh([])
    assert [item for item, _ in popularity.charts.overall] == ["new", "old"]


def test_the_shops_own_popularity_orders_until_events_say_more() -> None:
    popularity = Popularity(HALF_LIFE)
    known = [("famous", facts(popularity=1e6)), ("known", facts(popularity=10)), ("unknown", facts())]
    popularity.refresh(known)
    assert [item for item, _ in popularity.charts.overall] == ["famous", "known", "unknown"]
    popularity.add([happening("unknown")])
    popularity.refresh(known)
    assert [item for item, _ in popularity.charts.overall] == ["unknown", "famous", "known"]


def test_demand_that_rises_is_listed_and_what_cannot_be_sold_is_not() -> None:
    popularity = Popularity(HALF_LIFE)
    steady = [happening("steady", days_ago=day) for day in range(90)]
    fad = [happening(item, days_ago=day / 10) for item in ("fad", "sold out") for day in range(20)]
    over = [happening("over", days_ago=40) for _ in range(50)]
    popularity.add([*steady, *fad, *over])
    popularity.refresh([("sold out", facts(sellable=False))])
    assert [item for item, _ in popularity.charts.rising] == ["fad"]


def test_what_cannot_be_sold_is_not_listed_and_what_came_back_counts_nothing() -> None:
    popularity = Popularity(HALF_LIFE)
    popularity.add([happening("hidden"), happening("returned", PURCHASE), happening("returned", RETURN)])
    popularity.refresh([("hidden", facts("Tea", sellable=False)), ("returned", facts("Tea"))])
    assert popularity.charts.overall == [("returned", 0.0)]
    assert popularity.charts.categories == {"Tea": [("returned", 0.0)]}


def test_memory_is_bounded_and_the_popular_stay() -> None:
    popularity = Popularity(HALF_LIFE, max_items=50, max_segments=2, max_segment_items=10)
    for n in range(2_000):
        popularity.add([happening(f"rare-{n}", segment=f"country={n % 9}"), happening("often", segment="country=0")])
    assert len(popularity._all) <= 100
    assert len(popularity._segments) == 2
    assert all(len(segment) <= 20 for segment in popularity._segments.values())
    popularity.refresh([])
    assert dict(popularity.charts.overall[:1]) == pytest.approx({"often": 2_000})


@pytest.mark.parametrize("year", [1970, 1990, 2060])
def test_any_year_keeps_numbers_finite(year: int) -> None:
    popularity = Popularity(HALF_LIFE)
    popularity.add([Happening(1, "", int((year - 1970) * 365.25 * DAY * 1000), VIEW, "a", False)] * 3)
    popularity.refresh([])
    assert dict(popularity.charts.overall) == pytest.approx({"a": 3})
