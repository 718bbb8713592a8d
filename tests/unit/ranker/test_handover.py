"""Of whom nothing is known the blend decides, of whom much is known the ranker."""

import numpy as np
import pytest

from services.ranker.handover import handover
from souk.ranker.v1 import ranker_pb2
from souk.types.v1 import types_pb2
from tests.unit.ranker import tiny


def request(
    events: int, *blend: float, scene: types_pb2.Scene.ValueType = types_pb2.SCENE_HOME
) -> ranker_pb2.RankRequest:
    made = tiny.request(tiny.candidates("a", "b", "c"), scene=scene)
    del made.context.history[:]
    for number in range(events):
        made.context.history.add(item_id=f"{number}")
    if blend:
        made.candidates.legs.add(leg="blend", score=blend)
    return made


def searched(events: int, *fused: float) -> ranker_pb2.RankRequest:
    made = request(events, scene=types_pb2.SCENE_SEARCH)
    made.query = "thing"
    made.candidates.legs.add(leg="words", score=fused)
    made.candidates.score[:] = fused
    return made


def test_a_search_shows_what_fits_the_query_and_the_shopper_decides_among_that() -> None:
    scores = np.array([0.9, 0.6, 0.1])
    handed, unit = handover(searched(0, 0.1, 0.8, 0.82), scores)
    assert handed.tolist() == pytest.approx([0.1 / 0.82, 0.8 / 0.82, 1])
    assert unit == 1
    handed, unit = handover(searched(27, 0.1, 0.8, 0.82), scores)
    assert handed.argsort().tolist() == [0, 2, 1]
    assert unit == pytest.approx(0.2 * 0.9 / 0.9)
    assert handed[1] == pytest.approx(0.8 / 0.82 + 0.6 * unit)
    # However sure the ranker is of an item, one that fits the query far better stands before it.
    assert handover(searched(1000, 0.1, 0.8, 0.1), np.array([1.0, 1e-6, 1e-6]))[0].argmax() == 1
    assert handover(searched(3, -0.2, 0.5, 0.1), scores)[0].min() > 0


def test_the_blend_decides_at_first_and_the_ranker_later() -> None:
    scores = np.array([0.2, 0.1, 0.4])
    # What the blend does not name stands with the least of what it does.
    assert handover(request(0, 0.5, 1.0, np.nan), scores)[0].tolist() == pytest.approx([0.5, 1.0, 0.5])
    handed, unit = handover(request(3, 0.25, 1.0, np.nan), scores)
    assert handed.tolist() == pytest.approx(np.sqrt([0.25 * 0.2, 0.1, 0.25 * 0.4]))
    assert unit == 1
    assert handover(request(200, 0.25, 1.0, np.nan), scores)[0].argmax() == 2


def test_nothing_changes_without_a_blend_and_where_the_scene_asks_for_something_else() -> None:
    for one in (
        request(0),
        request(0, np.nan, np.nan, np.nan),
        request(0, 0.5, 1.0, 0.1, scene=types_pb2.SCENE_SEARCH),
        searched(20, 0.0, -0.5, -1.0),
        request(0, 0.5, 1.0, 0.1, scene=types_pb2.SCENE_SPONSORED),
    ):
        handed, unit = handover(one, np.array([0.2, 0.1, 0.4]))
        assert (handed.tolist(), unit) == ([0.2, 0.1, 0.4], 1)
