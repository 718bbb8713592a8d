"""What events say of the demand for items, and how it moves."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from souk.types.v1 import types_pb2

WEIGHTS: Mapping[int, float] = {
    types_pb2.EVENT_TYPE_VIEW: 1.0,
    types_pb2.EVENT_TYPE_CLICK: 1.0,
    types_pb2.EVENT_TYPE_CART: 3.0,
    types_pb2.EVENT_TYPE_PURCHASE: 5.0,
    types_pb2.EVENT_TYPE_RETURN: -5.0,
}
"""How much an event of each type speaks for its item; others nothing."""

LATELY_DAYS = 7.0
"""Half-life of what is lately."""
MAX_RISING = 100
"""So many items at most are said to be in rising demand."""
# As much as one purchase: an item of which hardly anything is known has no trend.
_PRIOR = 5.0
# A tenth more than was to be expected is no trend yet.
_LEAST = 0.1


def trend(lately: NDArray[np.floating], usual: NDArray[np.floating]) -> NDArray[np.float64]:
    """The logarithm of what was met of each of n items lately over what was to be expected: (n,), 0 for no change.

    `lately` and `usual`: sums of WEIGHTS over events that lose half of themselves every LATELY_DAYS and every so many
    more days. Expected is the item's share of `usual` in all that is lately; a shop that grows as a whole has no trend.
    """
    recent, long = np.clip(lately, 0, None), np.clip(usual, 0, None)
    expected = long * (recent.sum() / max(float(long.sum()), 1e-12))
    found: NDArray[np.float64] = np.log((recent + _PRIOR) / (expected + _PRIOR))
    return found


def rising(trends: NDArray[np.floating]) -> NDArray[np.intp]:
    """Where demand rises by over a tenth, most first: at most MAX_RISING places of trends (n,); ties by place."""
    order = np.argsort(-trends, kind="stable")[:MAX_RISING]
    return order[trends[order] > _LEAST]
