import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.retriever.order import best, contenders, tie_key

rows = st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 2), st.integers(0, 9)), max_size=40)


@given(rows, st.integers(1, 12))
def test_the_best_are_those_of_a_full_sort(candidates: list[tuple[int, int, int]], k: int) -> None:
    scores = np.array([score for score, _, _ in candidates], dtype=np.float32)
    popularity = np.array([0.0, *(float(popular) for _, popular, _ in candidates)])
    # Distinct keys, in an order of their own.
    key = (
        np.array([0, *(10 * key + number for number, (_, _, key) in enumerate(candidates))], dtype=np.uint64) * 97 % 401
    )
    slots = np.arange(1, len(candidates) + 1)[::-1]
    expected = sorted(
        range(len(candidates)), key=lambda at: (-scores[at], -popularity[slots[at]], int(key[slots[at]]))
    )  # fmt: skip
    assert best(scores, slots, popularity, key, k).tolist() == expected[:k]


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 10))
def test_contenders_are_the_k_largest_and_their_equals(values: list[int], k: int) -> None:
    least = sorted(values, reverse=True)[:k][-1:]
    expected = [at for at, value in enumerate(values) if value >= (least[0] if least else 0)]
    assert sorted(contenders(np.array(values, dtype=np.float64), k).tolist()) == expected


def test_the_tie_key_is_the_same_everywhere_and_follows_no_order() -> None:
    keys = [tie_key(f"i{number}") for number in range(100)]
    assert keys == [tie_key(f"i{number}") for number in range(100)]
    assert len(set(keys)) == 100
    assert keys not in (sorted(keys), sorted(keys, reverse=True))
    assert all(0 <= key < 2**64 for key in keys)
