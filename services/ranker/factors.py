"""What a score is multiplied by: the bid where places are paid for, else the shop's boost."""

import numpy as np
from numpy.typing import NDArray

from souk.ranker.v1 import ranker_pb2
from souk.types.v1 import types_pb2


def factors(request: ranker_pb2.RankRequest, max_boost: float) -> NDArray[np.float64]:
    """One of each candidate, (n,): in SPONSORED its bid, 0 without one, so that the score is the expected value of a
    showing; in every other scene its boost, of which no more than from 1 / max_boost to max_boost counts."""
    candidates = request.candidates
    if request.scene == types_pb2.SCENE_SPONSORED:
        return np.array(candidates.bid or np.zeros(len(candidates.id)), np.float64)
    boost = np.array(candidates.boost or np.ones(len(candidates.id)), np.float64)
    return np.clip(boost, 1 / max_boost, max_boost)
