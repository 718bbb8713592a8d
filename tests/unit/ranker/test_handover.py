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


def test_the_blend_decides_at_first_and_the_ranker_later() -> None:
    scores = np.array([0.2, 0.1, 0.4])
    power, times = handover(request(0, 0.5, 1.0, np.nan))
    # What the blend does not name stands with the least of what it does.
    assert (times * scores**power).tolist() == pytest.approx([0.5, 1.0, 0.5])
    power, times = handover(request(3, 0.25, 1.0, np.nan))
    assert (times * scores**power).tolist() == pytest.approx(np.sqrt([0.25 * 0.2, 0.1, 0.25 * 0.4]))
    power, times = handover(request(200, 0.25, 1.0, np.nan))
    assert (times * scores**power).argmax() == 2


def test_nothing_changes_without_a_blend_and_where_the_scene_asks_for_something_else() -> None:
    for one in (
        request(0),
        request(0, np.nan, np.nan, np.nan),
        request(0, 0.5, 1.0, 0.1, scene=types_pb2.SCENE_SEARCH),
        request(0, 0.5, 1.0, 0.1, scene=types_pb2.SCENE_SPONSORED),
    ):
        power, times = handover(one)
        assert (power, times.tolist()) == (1.0, [1.0, 1.0, 1.0])
