"""What else than the ranker orders a page: the more is known of a shopper, the more the ranker decides."""

import numpy as np
from numpy.typing import NDArray

from services.domain.blended import BLEND
from services.domain.features import MEANING, WORDS
from services.domain.strategies import confidence
from souk.ranker.v1 import ranker_pb2
from souk.types.v1 import types_pb2

_SCENES = (types_pb2.SCENE_HOME, types_pb2.SCENE_NEW_ARRIVALS, types_pb2.SCENE_PROMOTION)

# What the best of the ranker's scores is of the best that fits the query, in a search of somebody known well: heads
# learn from what was shown for a query, which all fits it, and so learn little of what does not (docs/models.md).
_OF_A_SEARCH = 0.2

Floats = NDArray[np.float64]


def handover(request: ranker_pb2.RankRequest, scores: Floats) -> tuple[Floats, float]:
    """What orders n candidates, given the ranker's own scores (n,), and what a unit of these is of it. With a history
    of e events and c = e / (e + 3):

    - In scenes that coldstart's blend orders score ^ c * blend ^ (1 - c), the mean of their logarithms; `blend` is the
      candidate's score in that leg, the least of any that has one where it has none. The unit is left at 1.
    - In a search the share of the best fused score of the retrieval, and c / 5 of the share of the best own score. The
      unit is 1 where c is 0: reasons then tell of the ranker's score alone.
    - Else, and where there is no other score, the scores as they are.
    """
    legs = {leg.leg: leg for leg in request.candidates.legs}
    known = confidence(len(request.context.history))
    if request.scene == types_pb2.SCENE_SEARCH and request.query and (WORDS in legs or MEANING in legs):
        fused = np.maximum(np.array(request.candidates.score, np.float64), 0)
        if (fused > 0).any() and (scores > 0).any():
            unit = float(_OF_A_SEARCH * known / scores.max())
            return fused / fused.max() + unit * scores, unit or 1.0
    if request.scene in _SCENES and BLEND in legs:
        said = np.array(legs[BLEND].score, np.float64)
        if (said > 0).any():
            return scores**known * np.where(said > 0, said, said[said > 0].min()) ** (1 - known), 1.0
    return scores, 1.0
