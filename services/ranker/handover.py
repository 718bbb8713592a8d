"""From the blend of the cold start to the ranker: the more is known of a shopper, the more the ranker decides."""

import numpy as np
from numpy.typing import NDArray

from services.domain.blended import BLEND
from services.domain.strategies import confidence
from souk.ranker.v1 import ranker_pb2
from souk.types.v1 import types_pb2

_SCENES = (types_pb2.SCENE_HOME, types_pb2.SCENE_NEW_ARRIVALS, types_pb2.SCENE_PROMOTION)

Floats = NDArray[np.float64]


def handover(request: ranker_pb2.RankRequest) -> tuple[float, Floats]:
    """The power of the ranker's own score, and what it is then multiplied with, (n,): for a history of e events

        score ^ c * blend ^ (1 - c),   c = e / (e + 3)

    which is the mean of their logarithms; `blend` is the candidate's score in that leg, the least of any that has one
    where it has none. 1 and ones where no leg says it, and in scenes that ask for something else.
    """
    ones = np.ones(len(request.candidates.id))
    said = next((np.array(leg.score, np.float64) for leg in request.candidates.legs if leg.leg == BLEND), None)
    if said is None or request.scene not in _SCENES or not (said > 0).any():
        return 1.0, ones
    least = said[said > 0].min()
    own = confidence(len(request.context.history))
    return own, np.where(said > 0, said, least) ** (1 - own)
