"""The age of an event as the shopper network reads it."""

import numpy as np
from numpy.typing import NDArray

GAP_BUCKETS = 16
_HOUR = 3600.0


def gap_buckets(seconds: NDArray[np.floating]) -> NDArray[np.int64]:
    """Bucket 0 to 15 of log2(1 + hours); a time in the future is now."""
    hours = np.clip(seconds, 0, None) / _HOUR
    buckets: NDArray[np.int64] = np.clip(np.log2(1 + hours), 0, GAP_BUCKETS - 1).astype(np.int64)
    return buckets
