"""Weights by scene, as the manifest states them."""

import numpy as np
import pytest

from services.domain.features import SCENES
from services.ranker.objectives import Objectives
from souk.types.v1 import types_pb2

NAMES = ("click", "cart", "purchase")
EVEN = dict.fromkeys(SCENES, (1.0, 1.0, 1.0))


def test_a_score_is_the_weighted_sum_of_its_probabilities() -> None:
    objectives = Objectives(NAMES, EVEN | {"CART": (0.0, 0.5, 2.0)})
    probability = np.array([[0.5, 0.2, 0.1], [0.9, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(objectives.score(probability, types_pb2.SCENE_HOME), [0.8, 0.9], rtol=1e-6)
    np.testing.assert_allclose(objectives.score(probability, types_pb2.SCENE_CART), [0.3, 0.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("names", "weights", "problem"),
    [
        (("click", "dwell"), EVEN, "dwell are not among click, cart, purchase"),
        (NAMES, {scene: w for scene, w in EVEN.items() if scene != "HOME"}, "HOME needs 3"),
        (NAMES, EVEN | {"CART": (1.0, 1.0)}, "CART needs 3"),
        (NAMES, EVEN | {"CART": (1.0, -1.0, 1.0)}, "CART needs 3 finite numbers of 0 or more"),
        (NAMES, EVEN | {"CART": (1.0, float("nan"), 1.0)}, "CART needs 3 finite"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    names: tuple[str, ...], weights: dict[str, tuple[float, ...]], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Objectives(names, weights)
