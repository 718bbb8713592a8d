"""Who supplies an item, and how much it counts that one of theirs is wanted."""

import numpy as np
import pytest

from souk.types.v1 import types_pb2
from training.ranker.config import ConfigError, RankerConfig
from training.ranker.examples import Examples
from training.ranker.suppliers import Facet, suppliers, worth


def wants(items: list[int]) -> Examples:
    """Moments that want one item each."""
    n = len(items)
    at = np.arange(n)
    return Examples(at, at, at.astype(float), np.arange(n + 1), np.array(items), np.full(n, 4.0), np.zeros(n, np.int64))


def test_at_1_every_supplier_counts_as_much_as_any_other() -> None:
    # Items 0 and 1 are of A, 2 of B, 3 of C of whom nothing is wanted.
    by = Facet("supplier", np.array([0, 0, 1, 2]), ["A", "B", "C"])
    wanted = wants([0] * 60 + [1] * 30 + [2] * 10)
    assert worth(by, wanted, 0.0).tolist() == [1, 1, 1, 1]
    full = worth(by, wanted, 1.0)
    assert 90 * full[0] == pytest.approx(10 * full[2]) == pytest.approx(50)
    assert full[0] == full[1]
    assert full[3] == pytest.approx(10 * full[2])
    half = worth(by, wanted, 0.5)
    assert half[2] / half[0] == pytest.approx(3)
    assert half[wanted.items].mean() == pytest.approx(1)


def test_suppliers_are_told_by_the_attribute_or_else_the_brand() -> None:
    items = [types_pb2.Item(id=str(n), brand="ab"[n % 2]) for n in range(4)]
    by = suppliers(items)
    assert (by.name, by.names, by.group.tolist()) == ("brand", ["a", "b"], [0, 1, 0, 1])
    for n in (1, 2, 3):
        items[n].attributes.add(name="supplier", values=["x" if n == 1 else "y"])
    by = suppliers(items)
    assert (by.name, by.names, by.group.tolist()) == ("supplier", ["(none)", "x", "y"], [0, 1, 2, 2])


def test_a_weight_beyond_1_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"supplier_weight: must be from 0 to 1, not 1.5"):
        RankerConfig(supplier_weight=1.5)
