"""No brand and no supplier has more of a list than its share, wherever a page begins."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ranker.diversity import Mmr, by_score, mixed
from services.ranker.exposure import WINDOW, Exposure
from services.ranker.settings import RankerSettings
from souk.types.v1 import types_pb2
from tests.unit.ranker import tiny

HOME, SEARCH, SPONSORED = types_pb2.SCENE_HOME, types_pb2.SCENE_SEARCH, types_pb2.SCENE_SPONSORED


def listed(
    brands: list[str], share: float, strict: bool = False, suppliers: list[str] | None = None, supplier_share: float = 1
) -> list[int]:
    """Rows as they are listed under limits; the earlier have the better scores."""
    n = len(brands)
    names, codes = np.unique(brands, return_inverse=True)
    columns = tiny.candidates(*(f"i{at}" for at in range(n)), brand=codes.tolist(), brands=names.tolist())
    if suppliers:
        names, codes = np.unique(suppliers, return_inverse=True)
        columns.supplier.extend(codes.tolist())
        columns.suppliers.extend(names.tolist())
    scores = np.linspace(1, 0.1, n)
    order = by_score(scores, np.ones(n), columns.id)
    exposure = Exposure(order, columns, share, supplier_share, strict)
    rows: list[int] = mixed(order, scores, Mmr(n, lambda at: np.zeros(n)), 0.0, n, exposure).tolist()
    return rows


def most_in_a_window(names: list[str]) -> int:
    counts = [Counter(names[at : at + WINDOW]) for at in range(max(1, len(names) - WINDOW + 1))]
    return max((count for window in counts for name, count in window.items() if name), default=0)


@given(
    brands=st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=60),
    share=st.sampled_from([0.1, 0.3, 0.5, 0.7]),
)
def test_paid_places_keep_within_the_share_wherever_a_page_begins(brands: list[str], share: float) -> None:
    rows = listed(brands, share, strict=True)
    assert most_in_a_window([brands[row] for row in rows]) <= round(WINDOW * share)
    # Nothing that has no brand is left out, and nothing at all where all are within the limit.
    assert {row for row, brand in enumerate(brands) if not brand} <= set(rows)
    if most_in_a_window(brands) <= round(WINDOW * share):
        assert rows == list(range(len(brands)))


def test_elsewhere_what_is_over_the_limit_follows_when_nothing_else_is_left() -> None:
    brands = ["a"] * 8 + ["b"] * 4
    rows = listed(brands, 0.3)
    assert sorted(rows) == list(range(12))
    assert rows[:8] == [0, 1, 2, 8, 9, 10, 3, 4]
    assert most_in_a_window([brands[row] for row in rows[:6]]) == 3


def test_brand_and_supplier_are_limited_each_by_itself() -> None:
    suppliers = ["north"] * 6 + ["south"] * 6
    rows = listed(["a", "b"] * 6, 0.5, suppliers=suppliers, supplier_share=0.2)
    assert [suppliers[row] for row in rows[:4]] == ["north", "north", "south", "south"]


@pytest.mark.parametrize(("scene", "brand", "limited"), [(HOME, 1.0, False), (HOME, 0.3, True), (SEARCH, 0.3, False)])
def test_limits_are_off_unless_set_and_never_hold_for_a_query(
    scene: types_pb2.Scene.ValueType, brand: float, limited: bool
) -> None:
    columns = tiny.candidates("a", "b", brand=[1, 1], brands=["", "Halo"])
    made = Exposure.of(scene, np.arange(2), columns, RankerSettings(brand_share=brand))
    assert (made is not None) is limited


def test_paid_places_have_a_limit_of_their_own() -> None:
    columns = tiny.candidates("a", "b", brand=[1, 1], brands=["", "Halo"])
    made = Exposure.of(SPONSORED, np.arange(2), columns, RankerSettings())
    assert made is not None
    assert made.strict
    assert Exposure.of(SPONSORED, np.arange(2), columns, RankerSettings(sponsored_share=1)) is None
