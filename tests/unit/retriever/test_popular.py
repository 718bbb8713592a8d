import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.retriever.columns import Columns
from services.retriever.popular import Popular
from tests.unit.retriever.items import make_item

# Popularity, whether the item ends, whether it is allowed.
histories = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=40)


@given(histories, st.integers(0, 40), st.integers(1, 9))
def test_agrees_with_sorting_whenever_the_order_was_made(
    items: list[tuple[int, bool, bool]], sorted_at: int, k: int
) -> None:
    columns = Columns()
    order = Popular.of(columns.view())
    for number, (popularity, ends, _) in enumerate(items):
        slot = columns.add(make_item(f"i{number}", popularity=popularity))
        if number == sorted_at:
            order = Popular.of(columns.view())
        if ends:
            columns.end(slot)
    view = columns.view()
    mask = view.alive & np.array([False, *(allowed for _, _, allowed in items)])
    slots = sorted(np.flatnonzero(mask).tolist(), key=lambda slot: (-view.popularity[slot], int(view.key[slot])))
    assert order.best(mask, view, k).tolist() == slots[:k]
