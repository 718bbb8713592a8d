"""How near a candidate is to the items that a scene is about: SIMILAR and CART answer these first, then the shopper."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.domain.features import FEATURES, LIKE, TOGETHER
from souk.ranker.v1 import ranker_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32

_LIKE, _TOGETHER = FEATURES.index(LIKE), FEATURES.index(TOGETHER)
# What is neither like the items nor met with them comes last, in the shopper's order.
_LEAST = 0.01


@dataclass(frozen=True)
class _About:
    """`like` and `together`: what the two kinds of closeness count. `taste`: the power of the shopper's own score; the
    smaller, the less it moves what is not equally near."""

    like: float
    together: float
    taste: float


_SCENES: Mapping[int, _About] = {
    # Its like, or what is met with it.
    types_pb2.SCENE_SIMILAR: _About(like=1.0, together=0.5, taste=0.25),
    # What completes it; another of the same kind completes little.
    types_pb2.SCENE_CART: _About(like=0.3, together=1.0, taste=0.5),
}


def weigh(request: ranker_pb2.RankRequest, rows: Float32, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores (n,) of 0 or more as the scene wants them, from features (n, len(FEATURES)): in SIMILAR and CART

        max(like * cosine^2, together * share, 0.01) * score^taste

    with `share` the feature TOGETHER, and unchanged elsewhere or where no item is given. Row by row.
    """
    about = _SCENES.get(request.scene)
    if about is None or not (request.item_ids or request.context.cart_item_ids):
        return scores
    like = np.clip(rows[:, _LIKE], 0, 1).astype(np.float64) ** 2
    near = np.maximum(about.like * like, about.together * rows[:, _TOGETHER])
    weighed: NDArray[np.float64] = np.maximum(near, _LEAST) * scores**about.taste
    return weighed
