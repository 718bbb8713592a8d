"""The slab against a model, and against the reference policy that was measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.cache_policies import S3FIFO, zipf_with_scans
from services.runtime.cache import Slab

KEYS = st.lists(st.integers(0, 12), max_size=20)


def vector_of(key: str) -> list[float]:
    return [float(key) + 1, -float(key), 0.5]


@given(capacity=st.integers(1, 8), steps=st.lists(st.tuples(st.sampled_from(["gather", "put"]), KEYS), max_size=40))
def test_never_answers_with_another_keys_vector_nor_grows_beyond_its_capacity(
    capacity: int, steps: list[tuple[str, list[int]]]
) -> None:
    slab = Slab(capacity, 3)
    ever_put: set[str] = set()
    for step, numbers in steps:
        keys = [str(number) for number in numbers]
        if step == "put":
            slab.put(keys, np.array([vector_of(key) for key in keys], np.float32).reshape(-1, 3))
            ever_put.update(keys)
            assert len(slab) == min(capacity, len(slab))
            if keys:
                assert slab.gather(keys[-1:])[1][0]
        vectors, held = slab.gather(keys)
        assert vectors.shape == (len(keys), 3)
        assert vectors.dtype == np.float32
        for key, vector, is_held in zip(keys, vectors, held, strict=True):
            assert not is_held or key in ever_put
            assert vector.tolist() == (vector_of(key) if is_held else [0, 0, 0])
        assert len(slab) <= capacity
        everything = [str(number) for number in range(13)]
        assert slab.gather(everything)[1].sum() == len(slab)
    assert len(slab) == min(capacity, len(slab))
    assert len(ever_put) <= capacity or len(slab) == capacity


def test_gathers_a_copy() -> None:
    slab = Slab(2, 3)
    slab.put(["1"], np.array([vector_of("1")], np.float32))
    slab.gather(["1", "2"])[0][:] = 9
    vectors, held = slab.gather(["1", "2"])
    assert vectors.tolist() == [vector_of("1"), [0, 0, 0]]
    assert held.tolist() == [True, False]


def test_hits_exactly_what_the_measured_policy_hits() -> None:
    stream = zipf_with_scans(np.random.default_rng(3), 20_000).tolist()
    slab, policy = Slab(150, 1), S3FIFO(150)
    one = np.ones((1, 1), np.float32)
    for key in stream:
        held = bool(slab.gather([str(key)])[1][0])
        if not held:
            slab.put([str(key)], one)
        assert held == policy.access(key)


def test_a_sweep_does_not_wash_out_what_is_hot() -> None:
    slab = Slab(100, 1)
    hot = [f"hot{i}" for i in range(50)]
    slab.put(hot, np.ones((50, 1), np.float32))
    for _ in range(3):
        slab.gather(hot)
    sweep = [f"cold{i}" for i in range(1_000)]
    slab.put(sweep, np.ones((1_000, 1), np.float32))
    assert slab.gather(hot)[1].all()


@pytest.mark.parametrize(("capacity", "dim"), [(0, 3), (3, 0)])
def test_refuses_to_be_empty(capacity: int, dim: int) -> None:
    with pytest.raises(ValueError, match=f"capacity {capacity} and dim {dim}"):
        Slab(capacity, dim)
