"""Popularity is what a naive sum over all events says, at bounded memory."""

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.coldstart.log import Facts, Happening
from services.coldstart.popularity import MAX_LISTED, Popularity
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
        popularity.refresh()
        assert popularity.charts.overall
    for item, category in CATEGORIES.items():
        popularity.put(item, facts("Tea"))
        popularity.put(item, facts(category))
    popularity.refresh()
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
    for name in ("country=GB", "country=DE", "age_band=25-34"):
        assert dict(charts.segment(name)) == pytest.approx(dict(segments[name]))
    for name in ("Shoes", "Shoes > Red", "Shoes > Blue", "Tea", "Toys"):
        assert dict(charts.category(name)) == pytest.approx(dict(categories[name]))
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
    assert [item for item, _ in popularity.charts.overall] == ["new", "old"]


@pytest.mark.parametrize("half_life", [0.1, 1.0, 2.5, 30.0])
def test_newer_events_count_more_however_short_the_half_life(half_life: float) -> None:
    popularity = Popularity(half_life)
    for years in (40, 10, 5, 0):  # A log that goes on for long, in order of time.
        ago = 365 * years
        before = [happening("before", segment="country=GB", days_ago=ago + half_life) for _ in range(3)]
        popularity.add([*before, happening("now", segment="country=GB", days_ago=ago)])
        popularity.refresh()
        told = dict(popularity.charts.overall)
        assert dict(popularity.charts.segment("country=GB")) == pytest.approx(told)
        if half_life < 10:
            assert told == pytest.approx({"before": 1.5, "now": 1.0})
        assert all(math.isfinite(trend) for _, trend in popularity.charts.rising)
    # One who comes late with what is old moves nothing.
    popularity.add([happening("now", days_ago=365 * 60)])
    popularity.refresh()
    assert dict(popularity.charts.overall) == pytest.approx(told)


def test_the_shops_own_popularity_orders_until_events_say_more() -> None:
    popularity = Popularity(HALF_LIFE)
    for item, told in (("famous", 1e6), ("known", 10.0), ("unknown", 0.0)):
        popularity.put(item, facts(popularity=told))
    assert [item for item, _ in popularity.charts.overall] == ["famous", "known", "unknown"]
    popularity.add([happening("unknown")])
    popularity.refresh()
    assert [item for item, _ in popularity.charts.overall] == ["unknown", "famous", "known"]


def test_demand_that_rises_is_listed_and_what_cannot_be_sold_is_not() -> None:
    popularity = Popularity(HALF_LIFE)
    steady = [happening("steady", days_ago=day) for day in range(90)]
    fad = [happening(item, days_ago=day / 10) for item in ("fad", "sold out") for day in range(20)]
    over = [happening("over", days_ago=40) for _ in range(50)]
    popularity.add([*steady, *fad, *over])
    popularity.put("sold out", facts(sellable=False))
    assert [item for item, _ in popularity.charts.rising] == ["fad"]


def test_what_cannot_be_sold_is_not_listed_and_what_came_back_counts_nothing() -> None:
    popularity = Popularity(HALF_LIFE)
    popularity.add([happening("hidden"), happening("returned", PURCHASE), happening("returned", RETURN)])
    popularity.put("hidden", facts("Tea", sellable=False))
    popularity.put("returned", facts("Tea"))
    assert popularity.charts.overall == [("returned", 0.0)]
    assert popularity.charts.category("Tea") == [("returned", 0.0)]


def test_memory_is_bounded_and_the_popular_and_the_told_stay() -> None:
    popularity = Popularity(HALF_LIFE, max_untold=50, max_segments=2, max_segment_items=10)
    popularity.put("told", facts("Tea > Green", popularity=5))
    for n in range(2_000):
        popularity.add([happening(f"rare-{n}", segment=f"country={n % 9}"), happening("often", segment="country=0")])
    popularity.put("later", facts("Tea"))
    assert len(popularity._items.ids) <= 102
    assert len(popularity._segments) == 2
    assert all(len(segment) <= 20 for segment in popularity._segments.values())
    assert dict(popularity.charts.overall[:1]) == pytest.approx({"often": 2_000})
    assert popularity.charts.category("Tea") == [("told", pytest.approx(0.99)), ("later", 0.0)]


def test_charts_stand_until_they_are_refreshed() -> None:
    popularity = Popularity(HALF_LIFE)
    popularity.add([happening("a")])
    charts = popularity.charts
    assert [item for item, _ in charts.overall] == ["a"]
    popularity.add([happening("b")])
    assert charts is popularity.charts
    assert [item for item, _ in charts.overall] == ["a"]
    popularity.refresh()
    assert {item for item, _ in popularity.charts.overall} == {"a", "b"}


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=30), st.integers(1, 40))
def test_of_more_items_than_are_listed_the_best_are_whatever_the_order_of_telling(
    told: list[tuple[int, bool]], times: int
) -> None:
    items = {f"{n}-{time}": facts("Tea", popularity=float(told[n][0]), sellable=told[n][1])
             for n in range(len(told)) for time in range(times)}  # fmt: skip
    forth, back = Popularity(HALF_LIFE), Popularity(HALF_LIFE)
    for item in items:
        forth.put(item, items[item])
    for item in reversed(items):
        back.put(item, items[item])
    chart = forth.charts.overall
    assert chart == back.charts.overall == forth.charts.category("Tea")
    sellable = sorted((each.popularity for each in items.values() if each.sellable), reverse=True)
    assert [items[item].popularity for item, _ in chart] == sellable[:MAX_LISTED]


def test_breadth_takes_the_best_of_each_department_by_turns() -> None:
    popularity = Popularity(HALF_LIFE)
    for n in range(600):
        popularity.put(f"tea-{n:03}", facts(f"Tea > {n % 7}", popularity=600 - n))
    popularity.put("shoe", facts("Shoes", popularity=10_000))
    popularity.put("boot", facts("Shoes > Boots", popularity=1))
    popularity.put("nowhere", facts(popularity=10**6))
    breadth = popularity.charts.breadth
    assert [item for item, _ in breadth[:5]] == ["shoe", "tea-000", "tea-001", "boot", "tea-002"]
    assert len(breadth) == MAX_LISTED
    assert [score for _, score in breadth[:2]] == [1.0, 0.5]


@pytest.mark.parametrize("year", [1970, 1990, 2060])
def test_any_year_keeps_numbers_finite(year: int) -> None:
    popularity = Popularity(HALF_LIFE)
    popularity.add([Happening(1, "", int((year - 1970) * 365.25 * DAY * 1000), VIEW, "a", False)] * 3)
    assert dict(popularity.charts.overall) == pytest.approx({"a": 3})
