"""A blend is read back as it was written, speaks of items that came later, and orders as its formula says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.domain.blended import Blended, Newcomer
from services.domain.neighbours import Neighbours
from services.domain.strategies import NAMES, Blend, Strategies, nearest_known

POPULARITY, TOGETHER, CARRIED, SEGMENT = (NAMES.index(one) for one in ("popularity", "together", "carried", "segment"))


def blended(bias: float = 0.0) -> Blended:
    """Items a, b, c and d, of which c is met with a; d is unknown and like b. Segment "age=old" likes b."""
    nothing = Neighbours(np.zeros(5, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    together = Neighbours(np.array([0, 1, 1, 2, 2]), np.array([2, 0]), np.array([0.5, 0.5], np.float32))
    content = np.eye(4, 3, dtype=np.float32)
    content[3] = content[1]
    unknown = np.array([False, False, False, True])
    like, likeness = nearest_known(content, ~unknown, 2)
    weights = np.zeros((2, 2, len(NAMES)), np.float32)
    weights[0, :, TOGETHER] = weights[1, :, CARRIED] = 2.0
    weights[:, 0, POPULARITY] = weights[:, 0, SEGMENT] = 1.0
    return Blended(
        item_ids=("a", "b", "c", "d"),
        strategies=Strategies(
            content=content,
            unknown=unknown,
            popular=np.array([0.3, 0.2, 0.1, -1.0], np.float32),
            together=together,
            basket=nothing,
            follows=nothing,
            like=like,
            likeness=likeness,
            lifts=np.array([[0, 0.5, 0, 0]], np.float32),
            brand=np.array([0, 1, 1, 1]),
            category=np.array([0, 1, 1, 1]),
            alike=np.eye(2, dtype=np.float32),
        ),
        blend=Blend(weights, np.zeros((2, 2), np.float32)),
        bias=bias,
        segments=("age=old",),
        brands=("", "Acme"),
        categories=("", "Mugs"),
        category_lifts=np.array([[0, 0.25]], np.float32),
        mean=np.zeros(3, np.float32),
        directions=np.eye(3, dtype=np.float32),
    )


def order(made: Blended, *liked: str, segments: tuple[str, ...] = ()) -> str:
    return "".join(item for item, _ in made.best(liked, len(liked), segments, 10))


def test_it_orders_by_what_is_known_of_the_shopper() -> None:
    assert order(blended()) == "abcd"
    assert order(blended(), segments=("age=old", "age=unheard of")) == "bacd"
    assert order(blended(), "a")[0] == "c"
    assert order(blended(), "nobody knows it") == order(blended())
    found = blended().best((), 0, (), 10)
    # Odds over those of the best.
    assert [odds for _, odds in found] == pytest.approx(np.exp(np.array([0, -0.1, -0.2, -0.3])).tolist())
    assert blended().best((), 0, (), 2) == found[:2]
    assert dict(blended().best((), 0, (), 2, among=("c", "x", "d"))) == pytest.approx({"c": 1.0, "d": np.exp(-0.1)})
    assert blended().best((), 0, (), 2, among=()) == []


def test_the_bias_is_of_unknown_items_alone() -> None:
    assert order(blended(0.15)) == "abdc"
    assert order(blended(-np.inf)) == "abc"


def test_items_that_come_later_are_like_those_they_resemble() -> None:
    # e resembles c, which is met with a; f has no readable content and a brand nobody heard of.
    later = [
        Newcomer("e", np.array([0, 0.1, 1], np.float32), "Acme", "Mugs"),
        Newcomer("f", np.zeros(3, np.float32), "Other", "Plates"),
    ]
    made = blended().joined(later)
    assert made.item_ids == ("a", "b", "c", "d", "e", "f")
    said = made.strategies.features(np.array([0]), np.array([0]))
    np.testing.assert_array_equal(said[:4], blended().strategies.features(np.array([0]), np.array([0])))
    assert said[4, CARRIED] == pytest.approx(said[2, TOGETHER], rel=0.01)
    assert said[5, CARRIED] == 0
    assert said[4:, SEGMENT].tolist() == [0.25, 0]
    assert order(made, "a")[:2] == "ce"
    assert order(made, "e")
    assert blended().joined([]).item_ids == blended().item_ids


def test_it_is_read_back_as_written_and_refused_when_it_does_not_fit(tmp_path: Path) -> None:
    made = blended(0.15)
    made.write(tmp_path / "blend.npz")
    read = Blended.read(tmp_path / "blend.npz")
    for liked in ((), ("a",), ("d", "b")):
        assert read.best(liked, len(liked), ("age=old",), 10) == made.best(liked, len(liked), ("age=old",), 10)
    replace(made, category_lifts=np.zeros((1, 3), np.float32)).write(tmp_path / "wrong.npz")
    with pytest.raises(ValueError, match=r"wrong\.npz: category_lifts \(1, 3\) does not fit \(1, 2\)"):
        Blended.read(tmp_path / "wrong.npz")
    np.savez(tmp_path / "other.npz", W=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz: lacks an array of a blend"):
        Blended.read(tmp_path / "other.npz")
