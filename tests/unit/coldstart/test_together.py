"""Pairs are what a naive count over shoppers or baskets says, at bounded memory."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.coldstart.log import Happening
from services.coldstart.together import Together
from tests.unit.coldstart.making import PURCHASE, SKIP, VIEW

HOUR = 3_600_000
TYPES = frozenset((VIEW, PURCHASE))


def happening(shopper: int, item: str, at: int = 0, kind: int = VIEW) -> Happening:
    return Happening(shopper, "", at, kind, item, False)


EVENTS = st.lists(st.builds(happening, st.integers(0, 4), st.sampled_from("abcdefg")), max_size=60)


def test_what_is_not_wanted_takes_no_place() -> None:
    together = Together(TYPES, None)
    for shopper in range(3):
        together.add([happening(shopper, item) for item in "abc"])
    assert [item for item, _ in together.near({"a": 1.0}, 1)] == ["b"]
    assert [item for item, _ in together.near({"a": 1.0}, 1, lambda item: item != "b")] == ["c"]


@settings(deadline=None)
@given(EVENTS)
def test_scores_are_the_cosine_of_the_items_shoppers(events: list[Happening]) -> None:
    together = Together(TYPES, None)
    for start in range(0, len(events), 5):
        together.add(events[start : start + 5])
    shoppers = {item: {event.shopper for event in events if event.item == item} for item in "abcdefg"}
    for item in "abcdefg":
        expected = {
            other: len(shoppers[item] & shoppers[other]) / math.sqrt(len(shoppers[item]) * len(shoppers[other]))
            for other in "abcdefg"
            if other != item and shoppers[item] & shoppers[other]
        }
        assert dict(together.near({item: 2.0}, 10)) == pytest.approx(expected)


def test_several_items_weigh_by_their_share() -> None:
    together = Together(TYPES, None)
    together.add([happening(1, "a"), happening(1, "x"), happening(2, "b"), happening(2, "y")])
    assert dict(together.near({"a": 3.0, "b": 1.0}, 5)) == pytest.approx({"x": 0.75, "y": 0.25})
    assert dict(together.near({"a": 3.0, "b": 1.0}, 1)) == pytest.approx({"x": 0.75})
    assert together.near({"unknown": 1.0}, 5) == []
    assert together.near({}, 5) == []


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcde"), st.integers(0, 20)), max_size=40))
def test_baskets_part_by_time(told: list[tuple[int, str, int]]) -> None:
    """Each (shopper, item) once: then the pairs are those within the hour."""
    told = list({(shopper, item): (shopper, item, at) for shopper, item, at in told}.values())
    together = Together(TYPES, HOUR)
    together.add([happening(shopper, item, at * HOUR // 4) for shopper, item, at in told])
    pairs = Counter(
        (one, other)
        for shopper, one, at in told
        for who, other, when in told
        if who == shopper and one != other and abs(at - when) <= 4
    )
    single = Counter(item for _, item, _ in told)
    for item in "abcde":
        expected = {
            other: pairs[item, other] / math.sqrt(single[item] * single[other])
            for other in "abcde"
            if pairs[item, other]
        }
        assert dict(together.near({item: 1.0}, 10)) == pytest.approx(expected)


def test_other_events_say_nothing() -> None:
    together = Together(TYPES, None)
    together.add([happening(1, "a"), happening(1, "b", kind=SKIP)])
    assert together.near({"a": 1.0}, 5) == []


def test_memory_is_bounded_and_frequent_pairs_stay() -> None:
    together = Together(TYPES, None, window=4, neighbours=5, max_items=30, max_shoppers=10)
    for n in range(1_000):
        together.add([happening(n, "a"), happening(n, "b"), happening(n, f"rare-{n}")])
    assert len(together._windows) == 10
    assert len(together._single) <= 60
    assert len(together._pairs) <= 61
    assert all(len(partners) <= 15 for partners in together._pairs.values())
    assert dict(together.near({"a": 1.0}, 1)) == pytest.approx({"b": 1.0})


def test_a_forgotten_shoppers_window_is_dropped() -> None:
    together = Together(TYPES, None)
    together.add([happening(1, "a"), happening(2, "a")])
    together.forget([1, 9])
    together.add([happening(1, "b")])
    assert together.near({"b": 1.0}, 5) == []


def test_an_item_that_was_pruned_and_is_still_in_a_window_is_met_again() -> None:
    together = Together(TYPES, None, max_items=3)
    together.add([happening(1, "early")])
    together.add([happening(shopper, f"often {n}") for n in range(6) for shopper in (10 + 2 * n, 11 + 2 * n)])
    together.add([happening(1, "late")])
    assert together.near({"early": 1.0}, 5) == [("late", 1.0)]
