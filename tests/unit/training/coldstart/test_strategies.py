"""What strategies say: of known items by what shoppers did, of unknown ones by content, and nothing without reason."""

import numpy as np
import pytest

from services.domain.strategies import NAMES, Strategies, nearest_known
from souk.types.v1 import types_pb2
from tests.unit.training.ranker.logs import PURCHASE, SKIP, log
from training.coldstart.segments import Segments
from training.coldstart.strategies import Tuning, liked_items, strategies_of
from training.ranker.situations import Facts

NOBODY = np.empty(0, np.int64)
# Items 0, 1, 2 are met together, 3 and 4 too; nobody met 5, which is like 1, or 6, of which nothing is told.
ROWS = [(s, i, PURCHASE, 24.0 * n) for s in range(6) for n, i in enumerate((0, 1, 2) if s < 4 else (3, 4))]


def strategies() -> Strategies:
    vectors = np.eye(7, 8, dtype=np.float32)
    vectors[5] = 0.9 * vectors[1] + 0.1 * vectors[7 - 1]
    vectors[6] = 0
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    items = [types_pb2.Item(id=f"i{n}", brand="A" if n in (0, 5) else "B", category_path=["All"]) for n in range(7)]
    segments = Segments(("age=old",), [np.array([0])] * 4 + [NOBODY] * 2)
    return strategies_of(log(ROWS, 7), Facts.of(items, vectors), vectors, segments, 100 * 3600.0, Tuning(likes=2))


def column(features: np.ndarray[tuple[int, ...], np.dtype[np.float32]], name: str) -> list[float]:
    found: list[float] = features[:, NAMES.index(name)].tolist()
    return found


def test_an_unknown_item_takes_from_those_it_is_like() -> None:
    made = strategies()
    assert made.unknown.tolist() == [False] * 5 + [True] * 2
    # After item 0 alone.
    features = made.features(liked_items(log(ROWS, 7), slice(0, 1)), NOBODY)
    together, carried = column(features, "together"), column(features, "carried")
    assert together[5] == 0
    assert together[1] > together[3]
    # Item 5 is like item 1, which follows item 0.
    assert carried[5] > max(carried[3], carried[4], carried[6])
    assert column(features, "brand")[5] == 1
    assert column(features, "again")[0] == pytest.approx(np.log(2))
    assert np.isfinite(features).all()


def test_without_a_history_only_what_all_shoppers_and_segments_say() -> None:
    made = strategies()
    features = made.features(liked_items(log(ROWS, 7), slice(3, 3)), np.array([0]))
    assert column(features, "segment")[0] > column(features, "segment")[3]
    told = {name for name in NAMES if any(column(features, name))}
    assert told == {"popularity", "demand", "segment"}
    nobody = made.features(liked_items(log(ROWS, 7), slice(3, 3)), NOBODY)
    assert column(nobody, "segment") == [0] * 7
    # An unknown item has the demand of what it is like, and no popularity of its own.
    assert column(nobody, "popularity")[5] == 0
    assert column(nobody, "demand")[5] == pytest.approx(column(nobody, "popularity")[1], abs=0.2)


def test_what_was_turned_down_speaks_for_nothing() -> None:
    made = strategies()
    rows = [*ROWS[:3], (0, 3, SKIP, 80.0)]
    plain = made.features(liked_items(log(ROWS, 7), slice(0, 3)), NOBODY)
    np.testing.assert_array_equal(made.features(liked_items(log(rows, 7), slice(0, 4)), NOBODY), plain)


def test_nearest_known() -> None:
    content = np.array([[1, 0], [0.8, 0.6], [0, 1], [0, 0]], np.float32)
    like, weights = nearest_known(content, np.array([True, True, True, False]), 1)
    assert like[:3, 0].tolist() == [1, 0, 1]
    assert weights[:, 0].tolist() == pytest.approx([1, 1, 1, 0])
    like, weights = nearest_known(content, np.array([False, True, False, False]), 5)
    assert like.shape == weights.shape == (4, 0)
    like, _ = nearest_known(content, np.array([True, True, True, False]), 5)
    assert like.shape == (4, 2)
    assert all(row not in like[row] for row in range(3))
