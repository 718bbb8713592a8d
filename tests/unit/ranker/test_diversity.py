"""The order of a list: total and the same each time; what is alike steps back, within the bound that is stated."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from services.ranker.diversity import TRADE_OFF, Dpp, Mmr, by_score, likeness_of, mixed
from souk.types.v1 import types_pb2
from tests.unit.ranker import tiny

PART = st.floats(0, 1)


@pytest.mark.parametrize("kind", [Mmr, Dpp])
@given(data=st.data(), n=st.integers(1, 30), trade_off=st.floats(0, 0.5), places=st.integers(1, 40))
def test_nobody_stands_above_one_who_is_better_by_more_than_the_trade_off(
    kind: type[Mmr] | type[Dpp], data: Any, n: int, trade_off: float, places: int
) -> None:
    scores = data.draw(arrays.arrays(np.float64, n, elements=st.floats(1e-3, 1)))
    alike = data.draw(arrays.arrays(np.float64, (n, n), elements=PART))
    order = by_score(scores, np.ones(n), [f"i{at}" for at in range(n)])
    got = mixed(order, scores, kind(n, lambda at: alike[order[at], order]), trade_off, places)
    assert sorted(got.tolist()) == list(range(n))
    ordered = scores[got]
    worst_above = np.minimum.accumulate(ordered)
    assert (ordered <= worst_above + trade_off * scores.max() + 1e-9).all()
    if not trade_off:
        assert got.tolist() == order.tolist()


def test_equals_are_ordered_by_popularity_then_by_something_that_says_nothing_of_them() -> None:
    ids = [f"i{n}" for n in range(50)]
    scores = np.zeros(50)
    popularity = np.array([n % 2 for n in range(50)], np.float64)
    order = by_score(scores, popularity, ids)
    assert popularity[order].tolist() == [1.0] * 25 + [0.0] * 25
    assert order.tolist() != sorted(order.tolist(), key=lambda row: (-popularity[row], row))
    shuffled = np.random.default_rng(1).permutation(50)
    again = by_score(scores, popularity[shuffled], [ids[row] for row in shuffled])
    assert [ids[shuffled[row]] for row in again] == [ids[row] for row in order]


def test_what_is_nearly_as_good_and_different_comes_between_twins() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 0, 1]]
    scores = np.array([1.0, 0.99, 0.98, 0.9])
    candidates = tiny.candidates("a", "b", "c", "d")
    order = by_score(scores, np.ones(4), candidates.id)
    likeness = likeness_of(order, vectors, np.ones(4, np.bool_), candidates)
    for kind in (Mmr, Dpp):
        home, search = (TRADE_OFF[scene] for scene in (types_pb2.SCENE_HOME, types_pb2.SCENE_SEARCH))
        assert mixed(order, scores, kind(4, likeness), home, 4).tolist() == [0, 3, 1, 2]
        assert mixed(order, scores, kind(4, likeness), search, 4).tolist() == [0, 1, 2, 3]


def test_without_vectors_brand_and_category_say_what_is_alike() -> None:
    candidates = tiny.candidates(
        "a", "b", "c", "d", brand=[1, 1, 0, 0], brands=["", "Halo"], category=[0, 0, 0, 1], categories=["Home", ""]
    )
    none = np.zeros((4, 4), np.float32)
    likeness = likeness_of(np.arange(4), none, np.zeros(4, np.bool_), candidates)
    assert likeness(0).tolist() == [1.0, 1.0, 0.5, 0.0]
    # One vector says nothing of what has none.
    some = likeness_of(np.arange(4), np.eye(4, dtype=np.float32), np.array([True, False, True, True]), candidates)
    assert some(0).tolist() == [1.0, 1.0, 0.0, 0.0]
    # What has no name is like nobody.
    assert likeness(3).tolist() == [0.0, 0.0, 0.0, 0.0]


def test_every_scene_has_its_trade_off_and_none_may_turn_a_list_over() -> None:
    scenes = set(types_pb2.Scene.values()) - {types_pb2.SCENE_UNSPECIFIED}
    assert set(TRADE_OFF) == scenes
    assert max(TRADE_OFF.values()) <= 0.25


def test_the_costs_of_a_dpp_are_those_of_its_determinants() -> None:
    vectors = np.random.default_rng(2).standard_normal((12, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kernel = 0.99 * vectors @ vectors.T + 0.01 * np.eye(12)
    dpp = Dpp(12, lambda at: vectors @ vectors[at])
    chosen: list[int] = []
    for at in (3, 7, 1, 10):
        dpp.add(at)
        chosen.append(at)
        before = np.linalg.det(kernel[np.ix_(chosen, chosen)])
        for other in set(range(12)) - set(chosen):
            own = np.linalg.det(kernel[np.ix_([*chosen, other], [*chosen, other])]) / before
            assert dpp.costs[other] == pytest.approx(np.log(own) / np.log(0.01), abs=1e-9)


def test_likeness_to_several_adds_up_in_a_dpp_alone() -> None:
    """The third lies between the first two; the fourth is as near to the first and to nobody else."""
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0.7, 0.7, np.sqrt(0.02)], [0.7, 0, np.sqrt(0.51)]])
    scores = np.array([1.0, 0.99, 0.9, 0.899])
    order = np.arange(4)
    assert mixed(order, scores, Mmr(4, lambda at: vectors @ vectors[at]), 0.2, 4).tolist() == [0, 1, 2, 3]
    assert mixed(order, scores, Dpp(4, lambda at: vectors @ vectors[at]), 0.2, 4).tolist() == [0, 1, 3, 2]
