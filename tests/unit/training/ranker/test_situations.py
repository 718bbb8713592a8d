"""What the heads learn from is what serving will compute: the same numbers by another road."""

from dataclasses import replace

import numpy as np
import pytest

from services.coldstart.log import Happening
from services.coldstart.popularity import Popularity
from services.domain.features import FEATURES, features
from souk.coldstart.v1 import coldstart_pb2
from souk.types.v1 import types_pb2
from tests.unit.training.ranker.logs import CART, PURCHASE, SKIP, VIEW, log
from training.ranker.neighbours import find_neighbours
from training.ranker.situations import Facts, Situations, Trends, popularity

NAN = float("nan")


def item(number: int) -> types_pb2.Item:
    made = types_pb2.Item(
        id=f"i{number}",
        brand=["", "Acme", "Bolt"][number % 3],
        category_path=[["Home"], ["Home", "Lamps"], []][number % 3],
    )
    if number % 4:
        made.price = 5.0 * number
    made.created_at.seconds = number * 86_400
    if number in (2, 5, 6):
        made.attributes.add(name="promotion", values=["Spring"])
        # At the moment of the test, 100 hours, that of 5 runs and that of 6 is over.
        made.attributes.add(name="offer_until", values=[str(99 * 3600 if number == 6 else 100 * 3600)])
    return made


@pytest.fixture
def situations() -> Situations:
    made = log(
        [
            *((0, 1, VIEW, 0.0), (0, 2, SKIP, 30.0), (0, 1, PURCHASE, 30.1), (0, 4, CART, 90.0), (0, 5, VIEW, 90.1)),
            *((1, 1, VIEW, 5.0), (1, 4, VIEW, 6.0), (1, 2, CART, 7.0)),
        ]
    )
    content = np.random.default_rng(0).standard_normal((10, 8)).astype(np.float32)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    content[3] = 0
    facts = Facts.of([item(number) for number in range(10)], content)
    seen = np.ones(len(made.item), bool)
    neighbours = find_neighbours(made.shopper, made.item, 10)
    return Situations(made, facts, popularity(made, seen, 100 * 3600.0, 30), Trends(made, seen), neighbours)


def test_the_same_numbers_as_serving(situations: Situations) -> None:
    made, facts, now = situations.log, situations.facts, 100 * 3600.0
    rows = slice(0, 5)
    affinity = np.linspace(-1, 1, 10).astype(np.float32)
    affinity[7] = NAN
    legs = {
        "affinity": affinity,
        "together": situations.together(rows),
        "profile": situations.profile(rows),
        "like": situations.near(facts.content[1]),
        "trend": np.array([NAN, 0.2, NAN, 1.0, 5.0, *[NAN] * 5], np.float32),
    }
    stock = np.array([NAN, 0, 1, 2, 5, 10, 100, 1e6, NAN, 3])
    ours = situations.known(rows, now, np.arange(10), legs, stock).features(types_pb2.SCENE_HOME)
    share = coldstart_pb2.NamedShare
    context = coldstart_pb2.ShopperContext(
        history=[
            coldstart_pb2.HistoryEntry(
                item_id=made.item_ids[made.item[row]], type=made.type[row], time_ms=int(made.time[row] * 1000)
            )
            for row in range(5)
        ],
        seen_item_ids=["i1", "i2", "i4", "i5"],
        cart_item_ids=["i4"],
        brands=[share(name="Acme", share=0.6), share(name="Bolt", share=0.4)],
        categories=[share(name="Home > Lamps", share=0.6)],
        mean_log_price=float(np.mean(np.log1p([5, 10, 5, 25]))),
    )
    columns = types_pb2.CandidateColumns(
        id=made.item_ids,
        price=facts.price,
        brand=facts.brand,
        brands=["", "Acme", "Bolt"],
        category=facts.category,
        categories=facts.categories,
        created_at=[number * 86_400 for number in range(10)],
        popularity=situations.popularity,
        stock=[-1 if np.isnan(left) else int(left) for left in stock],
        promotion=[1 if number in (2, 5) else 0 for number in range(10)],
        promotions=["", "spring"],
        legs=[types_pb2.LegScores(leg=name, score=legs[name]) for name in ("together", "profile", "like", "trend")],
    )
    theirs = features(context, "", types_pb2.SCENE_HOME, columns, affinity, now)
    for column, name in enumerate(FEATURES):
        assert ours[:, column] == pytest.approx(theirs[:, column], abs=1e-5), name


def test_legs_say_nothing_where_there_is_nothing(situations: Situations) -> None:
    nothing = slice(0, 0)
    assert np.isnan(situations.profile(nothing)).all()
    assert not np.nan_to_num(situations.together(nothing)).any()
    assert np.isnan(situations.near(situations.facts.content[0])).tolist() == [n == 3 for n in range(10)]
    made = situations.known(nothing, 0.0, np.arange(10), {}).features(types_pb2.SCENE_HOME)
    assert np.isfinite(made).all()


def test_popularity_halves_with_age() -> None:
    made = log([(0, 1, VIEW, 0.0), (0, 1, VIEW, 24.0), (0, 2, SKIP, 24.0), (0, 3, VIEW, 24.0)])
    counts = popularity(made, np.array([True, True, True, False]), 24 * 3600.0, 1.0)
    assert counts[:4].tolist() == pytest.approx([0, 1.5, 0, 0])


def test_trends_are_those_of_coldstart_as_the_day_began() -> None:
    """The future, and the day itself, say nothing."""
    rng = np.random.default_rng(6)
    hours = np.sort(rng.integers(0, 60 * 24, 400)) + 0.5
    fads = rng.random(400) < np.where(hours > 36 * 24, 0.6, 0.05)
    items = np.where(fads, 6, rng.integers(0, 5, 400)).tolist()
    made = log([(n % 7, items[n], [VIEW, CART, PURCHASE][n % 3], 2e4 * 24 + float(hours[n])) for n in range(400)])
    day = 20_040  # In 2024.
    known = Popularity(30.0)
    for row in np.flatnonzero(made.time < day * 86_400):
        item, time_ms = made.item_ids[made.item[row]], int(made.time[row] * 1000)
        known.add([Happening(1, "", time_ms, int(made.type[row]), item, False)])
    trends = Trends(made, np.ones(400, bool))
    found = trends.at(day * 86_400 + 3600.0)
    assert np.nanargmax(found) == 6
    # Coldstart's day began at its last event, not at midnight.
    (item, score), *_ = known.charts.rising
    assert item == "i6"
    assert score == pytest.approx(float(found[6]), abs=0.05)
    before = Trends(made, made.time < day * 86_400)
    np.testing.assert_array_equal(before.at(day * 86_400 + 3600.0), found)
    np.testing.assert_array_equal(before.at(day * 86_400 * 2.0), found)


def test_without_time_nothing_rises() -> None:
    made = replace(log([(0, 1, VIEW, 0.0), (0, 2, VIEW, 1.0)]), has_time=False)
    assert np.isnan(Trends(made, np.ones(2, bool)).at(3.0)).all()
