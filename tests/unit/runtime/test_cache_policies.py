"""The reference policies of the comparison."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.cache_policies import LRU, POLICIES, Random, Sieve, hit_ratio, shifting, zipf, zipf_with_scans


@pytest.mark.parametrize("name", POLICIES)
@given(capacity=st.integers(3, 9), stream=st.lists(st.integers(0, 15), max_size=80))
def test_holds_no_more_than_its_capacity_and_only_what_was_asked_for(
    name: str, capacity: int, stream: list[int]
) -> None:
    policy = POLICIES[name](capacity)
    asked: set[int] = set()
    for key in stream:
        assert not policy.access(key) or key in asked
        asked.add(key)
    # Each is asked once more: a hit was held before.
    assert sum(policy.access(key) for key in sorted(asked)) <= capacity


def test_sieve_passes_over_what_was_visited() -> None:
    # Oldest first 1 2 3, of which 1 and 2 visited: the hand passes over both, clears them and evicts 3.
    sieve = Sieve(3)
    for key in (1, 2, 3, 1, 2):
        sieve.access(key)
    assert not sieve.access(4)
    assert sieve.access(1)
    assert sieve.access(2)
    assert sieve.access(4)
    assert not sieve.access(3)


def test_lru_evicts_the_least_recent() -> None:
    lru = LRU(2)
    assert [lru.access(key) for key in (1, 2, 1, 3, 1, 2)] == [False, False, True, False, True, False]


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "random"])
def test_beats_random_eviction_on_skewed_traffic(name: str) -> None:
    stream = zipf(np.random.default_rng(1), 1.0, 30_000)
    assert hit_ratio(POLICIES[name](200), stream) > hit_ratio(Random(200), stream) + 0.02


def test_streams_are_reproducible_and_of_the_asked_length() -> None:
    for make in (zipf_with_scans, shifting):
        first, second = (make(np.random.default_rng(5), 25_000) for _ in range(2))
        assert first.shape == (25_000,)
        assert np.array_equal(first, second)
