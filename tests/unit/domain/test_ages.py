"""Ages double from bucket to bucket."""

import numpy as np

from services.domain.ages import gap_buckets


def test_gaps_double_with_each_bucket() -> None:
    hours = np.array([-5, 0, 0.9, 1, 3, 7, 1e9])
    assert gap_buckets(hours * 3600).tolist() == [0, 0, 0, 1, 2, 3, 15]
