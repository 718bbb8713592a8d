"""The k-th largest of many values, most of which may be equal."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAMPLED = 1_024
# A bound that so many times k values of the sample are above leaves few to look through, and seldom too few.
_MARGIN = 4


def kth_largest(values: NDArray[Any], k: int) -> Any:
    """The k-th largest of n values without NaN, shape (n,), 1 <= k <= n.

    numpy's partition takes ten times as long where most values are equal, as scores of a broad word and popularities
    of a young shop are. So a sample bounds what is looked through, and a bound that is itself the answer is noticed.
    """
    n = len(values)
    if n > _SAMPLED * _MARGIN:
        sample = np.sort(values[:: n // _SAMPLED])
        bound = sample[max(0, len(sample) - 1 - _MARGIN * k * len(sample) // n)]
        above = values[values > bound]
        if len(above) >= k:
            values = above
        elif len(above) + np.count_nonzero(values == bound) >= k:
            return bound
    return np.partition(values, len(values) - k)[len(values) - k]
