"""The k-th largest is what sorting says, whatever is equal."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.domain.largest import kth_largest


@given(st.integers(0, 2**32 - 1), st.integers(1, 20_000), st.floats(0, 1), st.integers(1, 5), st.floats(0, 1))
def test_as_sorting_says(seed: int, n: int, equal: float, kinds: int, place: float) -> None:
    random = np.random.default_rng(seed)
    values = np.where(random.random(n) < equal, random.integers(0, kinds, n) / 4, random.random(n)).astype(np.float32)
    for k in {1, n, min(n, 100), 1 + int(place * (n - 1))}:
        assert kth_largest(values, k) == np.sort(values)[n - k]


def test_order_of_the_values_does_not_mislead_the_sample() -> None:
    rising = np.arange(50_000, dtype=np.float64)
    for values in (rising, rising[::-1].copy(), np.repeat([0.0, 7.0], 25_000)):
        for k in (1, 100, 24_999, 25_001, 50_000):
            assert kth_largest(values, k) == np.sort(values)[50_000 - k]
