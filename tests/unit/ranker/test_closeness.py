"""SIMILAR and CART: near the items first, then the shopper's taste."""

import numpy as np
import pytest
from numpy.typing import NDArray

from services.domain.features import FEATURES
from services.ranker.closeness import weigh
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from tests.unit.ranker import tiny

LIKE, TOGETHER = FEATURES.index("like"), FEATURES.index("together")
SIMILAR, CART, HOME = types_pb2.SCENE_SIMILAR, types_pb2.SCENE_CART, types_pb2.SCENE_HOME


def rows(*values: tuple[float, float]) -> Float32:
    """(like, together) of each candidate."""
    made = np.zeros((len(values), len(FEATURES)), np.float32)
    made[:, [LIKE, TOGETHER]] = values
    return made


def weighed(
    scene: types_pb2.Scene.ValueType, candidates: Float32, *scores: float, about: tuple[str, ...] = ("page",)
) -> NDArray[np.float64]:
    request = tiny.request(tiny.candidates("a"), scene=scene)
    request.item_ids[:] = about
    return weigh(request, candidates, np.array(scores))


def test_a_tenfold_taste_does_not_outrank_likeness() -> None:
    alike, loved = weighed(SIMILAR, rows((0.8, 0), (0.3, 0)), 0.03, 0.3)
    assert alike > loved
    first, second = weighed(SIMILAR, rows((0.8, 0), (0.8, 0)), 0.03, 0.3)
    assert second > first


def test_a_cart_is_completed_and_not_repeated() -> None:
    same_kind, complement = weighed(CART, rows((0.9, 0), (0.2, 0.6)), 0.1, 0.1)
    assert complement > same_kind
    same_kind, complement = weighed(SIMILAR, rows((0.9, 0), (0.2, 0.6)), 0.1, 0.1)
    assert same_kind > complement


def test_what_is_near_nothing_comes_last_in_the_shoppers_order() -> None:
    near, one, other, away = weighed(SIMILAR, rows((0.2, 0), (0, 0), (0.05, 0), (-0.9, 0)), 0.1, 0.2, 0.3, 0.1)
    assert near > other > one > away > 0


def test_other_scenes_and_an_empty_cart_are_the_shoppers_alone() -> None:
    assert weighed(HOME, rows((0.9, 0), (0, 0)), 0.1, 0.2).tolist() == [0.1, 0.2]
    assert weighed(CART, rows((0.9, 0), (0, 0)), 0.1, 0.2, about=()).tolist() == [0.1, 0.2]


@pytest.mark.parametrize("scene", [SIMILAR, CART])
def test_a_candidate_is_weighed_alone(scene: types_pb2.Scene.ValueType) -> None:
    rng = np.random.default_rng(3)
    candidates, scores = rows(*rng.uniform(-1, 1, (50, 2)).tolist()), rng.uniform(0, 3, 50).tolist()
    together = weighed(scene, candidates, *scores)
    for at in (0, 17, 49):
        assert weighed(scene, candidates[at : at + 1], scores[at])[0] == together[at]
