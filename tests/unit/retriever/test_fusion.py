import numpy as np
import pytest

from services.retriever.columns import Columns
from services.retriever.fusion import Found, fuse
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2

RECIPROCAL, CONVEX = retriever_pb2.FUSION_RECIPROCAL_RANK, retriever_pb2.FUSION_CONVEX


def leg(slots: list[int], scores: list[float], weight: float = 1.0) -> Found:
    return Found(np.array(slots, dtype=np.int64), np.array(scores, dtype=np.float32), weight)


@pytest.fixture
def columns() -> Columns:
    table = Columns()
    for number in range(1, 10):
        table.add(types_pb2.Item(id=f"i{number}", popularity=10 if number == 9 else 0))
    return table


def test_reciprocal_rank_is_the_sum_of_weights_over_sixty_and_rank(columns: Columns) -> None:
    fused = fuse([leg([1, 2], [9, 8]), leg([2, 3], [0.5, 0.1], 2.0)], RECIPROCAL, columns.view(), 10)
    assert fused.slots.tolist() == [2, 3, 1]
    assert fused.scores.tolist() == pytest.approx([1 / 62 + 2 / 61, 2 / 62, 1 / 61])


def test_convex_divides_each_leg_by_its_best(columns: Columns) -> None:
    fused = fuse([leg([1, 2], [8, 2]), leg([2, 3], [0.5, 0.1], 0.5)], CONVEX, columns.view(), 10)
    assert fused.slots.tolist() == [1, 2, 3]
    assert fused.scores.tolist() == pytest.approx([1.0, 0.25 + 0.5, 0.1])


def test_discounted_takes_cosines_as_they_are_and_shares_by_their_rank(columns: Columns) -> None:
    near = Found(np.array([2, 3]), np.array([0.6, -0.1], np.float32), 0.7, cosine=True)
    fused = fuse([leg([1, 2], [9, 5], 0.3), near], retriever_pb2.FUSION_DISCOUNTED, columns.view(), 10)
    assert fused.slots.tolist() == [2, 1, 3]
    assert fused.scores.tolist() == pytest.approx([0.3 * 5 / 9 * 50 / 51 + 0.7 * 0.6, 0.3, 0.7 * -0.1])


def test_what_holds_all_of_a_query_is_lifted_where_words_are_discounted(columns: Columns) -> None:
    words = Found(np.array([1, 2]), np.array([9, 5], np.float32), 0.2, whole=np.array([2, 3]))
    near = Found(np.array([3, 2]), np.array([0.6, 0.4], np.float32), 0.8, cosine=True)
    fused = fuse([words, near], retriever_pb2.FUSION_DISCOUNTED, columns.view(), 10)
    assert fused.slots.tolist() == [3, 2, 1]
    assert fused.scores.tolist() == pytest.approx(
        [0.8 * 0.6 + 0.2 * 0.75, 0.2 * (5 / 9 * 50 / 51 + 0.75) + 0.8 * 0.4, 0.2]
    )
    assert [one if one is None else one.tolist() for one in fused.wholes] == [[True, True, False], None]
    assert fuse([words, near], CONVEX, columns.view(), 10).scores.tolist() == pytest.approx(
        [0.8 * 0.6, 0.2 * 5 / 9 + 0.8 * 0.4, 0.2]
    )


def test_not_said_is_convex(columns: Columns) -> None:
    legs = [leg([1, 2], [8, 2]), leg([2, 3], [0.5, 0.1])]
    unspecified = fuse(legs, retriever_pb2.FUSION_UNSPECIFIED, columns.view(), 10)
    assert unspecified.scores.tolist() == fuse(legs, CONVEX, columns.view(), 10).scores.tolist()


def test_a_leg_says_nan_of_what_it_did_not_find(columns: Columns) -> None:
    fused = fuse([leg([1, 2], [8, 2]), leg([3], [0.5])], CONVEX, columns.view(), 10)
    said = {slot: [scores[i] for scores in fused.legs] for i, slot in enumerate(fused.slots.tolist())}
    assert said[1][0] == 8
    assert np.isnan(said[1][1])
    assert np.isnan(said[3][0])
    assert said[3][1] == 0.5


def test_scores_at_or_below_zero_keep_their_order(columns: Columns) -> None:
    fused = fuse([leg([1, 2, 3], [-0.1, -0.2, -0.4])], CONVEX, columns.view(), 10)
    assert fused.slots.tolist() == [1, 2, 3]
    assert fused.scores.tolist() == pytest.approx([-0.25, -0.5, -1.0])
    assert fuse([leg([4, 5], [0, 0])], CONVEX, columns.view(), 10).scores.tolist() == [0, 0]


def test_equals_stand_by_popularity_then_by_key(columns: Columns) -> None:
    fused = fuse([leg(list(range(1, 10)), [1] * 9)], CONVEX, columns.view(), 9)
    assert fused.slots[0] == 9
    key = columns.view().key
    assert fused.slots[1:].tolist() == sorted(range(1, 9), key=lambda slot: int(key[slot]))


def test_only_the_best_k_stay_and_nothing_found_is_nothing(columns: Columns) -> None:
    assert fuse([leg([1, 2, 3], [3, 2, 1])], CONVEX, columns.view(), 2).slots.tolist() == [1, 2]
    assert fuse([leg([], [])], RECIPROCAL, columns.view(), 2).slots.tolist() == []


def test_a_distant_neighbour_does_not_look_like_a_match(columns: Columns) -> None:
    far = Found(np.array([1], dtype=np.int64), np.array([0.2], dtype=np.float32), 0.5, cosine=True)
    fused = fuse([leg([2], [8.9], 0.5), far], CONVEX, columns.view(), 2)
    assert fused.slots.tolist() == [2, 1]
    np.testing.assert_allclose(fused.scores, [0.5, 0.1])
