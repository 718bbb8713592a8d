"""Moments hold what was before them and want what came after, and nothing of the future leaks into a history."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.training.ranker.logs import CART, PURCHASE, SKIP, VIEW, log
from training.ranker.examples import batches, collate, hold_out, session_examples


def test_what_is_wanted_is_what_the_next_session_likes() -> None:
    made = log([(0, 1, VIEW, 0.0), (0, 2, VIEW, 5.0), (0, 3, SKIP, 5.1), (0, 2, PURCHASE, 5.2), (0, 4, CART, 5.3)])
    examples = session_examples(made, 0, within=False)
    assert len(examples) == 1
    assert (examples.begin[0], examples.end[0], examples.now[0]) == (0, 1, 5 * 3600)
    assert dict(zip(examples.items.tolist(), examples.types.tolist(), strict=True)) == {2: PURCHASE, 4: CART}
    assert examples.weights.tolist() == [4.0, 2.0]


def test_inside_a_session_what_was_met_is_not_wanted() -> None:
    made = log([(0, 1, VIEW, 0.0), (0, 1, CART, 0.1), (0, 2, VIEW, 0.2), (0, 1, PURCHASE, 0.3)])
    for seed in range(5):
        examples = session_examples(made, seed)
        assert 1 not in examples.items.tolist()


def test_events_of_one_moment_stay_together() -> None:
    basket = [(0, item, PURCHASE, 1.0) for item in range(5)]
    examples = session_examples(log([(0, 9, VIEW, 0.9), *basket]), 0)
    assert examples.end.tolist() == [1]
    assert sorted(examples.items.tolist()) == [0, 1, 2, 3, 4]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.floats(0, 50)), min_size=2, max_size=60))
def test_a_history_ends_before_its_moment_and_is_one_shoppers(rows: list[tuple[int, int, float]]) -> None:
    rows.sort(key=lambda row: (row[0], row[2]))
    made = log([(shopper, item, VIEW, hours) for shopper, item, hours in rows])
    examples = session_examples(made, 1)
    for number in range(len(examples)):
        rows_before = slice(examples.begin[number], examples.end[number])
        assert examples.end[number] > examples.begin[number]
        assert (
            made.time[rows_before].max() < examples.now[number]
            or made.session[rows_before][-1] < (made.session[examples.end[number]])
        )
        assert len(set(made.shopper[examples.begin[number] : examples.end[number] + 1])) == 1
    learn, late = hold_out(made, examples, 0.3)
    assert sorted([*learn, *late]) == list(range(len(examples)))
    if len(learn) and len(late):
        assert examples.now[learn].max() <= examples.now[late].min()


def test_batches_keep_the_latest_and_pad_on_the_right() -> None:
    made = log([(0, item, VIEW, float(item)) for item in range(8)] + [(1, 9, VIEW, 0.0), (1, 3, VIEW, 2.0)])
    examples = session_examples(made, 0, within=False)
    batch = collate(made, examples, np.array([6, 7]), 3)
    assert batch.items.tolist() == [[4, 5, 6], [9, 0, 0]]
    assert batch.mask.tolist() == [[True, True, True], [True, False, False]]
    assert batch.gaps.tolist() == [[2, 1, 1], [1, 0, 0]]
    assert batch.columns.tolist() == [7, 3]
    seen = np.concatenate([part for part, _ in batches(made, examples, np.arange(8), 3, 5, np.random.default_rng(0))])
    assert sorted(seen.tolist()) == list(range(8))
