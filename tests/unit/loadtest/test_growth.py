"""The catalogue of the growth bench: the same each time it is asked for, and exact about what is nearest."""

from pathlib import Path

import numpy as np

from loadtest.growth_bench import SHARES, Home, rows_of
from loadtest.growth_shop import GrowthShop, prices

DIM = 16


def test_items_go_on_where_a_run_was_stopped() -> None:
    """A second run writes just what the first would have written."""
    shop = GrowthShop(1_050, DIM)
    whole = [item for batch in shop.batches(0, 100) for item in batch]
    rest = [item for batch in GrowthShop(1_050, DIM).batches(730, 100) for item in batch]
    assert [item.id for item in whole] == [f"I{number:07d}" for number in range(1_050)]
    assert rest == whole[730:]


def test_vectors_depend_on_the_number_alone() -> None:
    """In any order, of any block, at length 1."""
    numbers = [9_000, 0, 4_096, 4_095]
    vectors = GrowthShop(1_000, DIM).vectors(numbers)
    again = GrowthShop(1_000, DIM).vectors(numbers[::-1])[::-1]
    np.testing.assert_array_equal(vectors, again)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_nearest_is_what_comparing_with_all_finds() -> None:
    """Over several blocks, and where fewer are allowed than wanted."""
    shop = GrowthShop(9_000, DIM)
    queries = shop.queries(5)
    found = shop.nearest(queries, (1.0, 0.1, 0.0004), k=10)
    numbers = np.arange(9_000)
    scores = queries @ shop.vectors(range(9_000)).T
    for share, ids in found.items():
        allowed = prices(numbers) <= share
        expected = np.argsort(-np.where(allowed, scores, -np.inf), axis=1)[:, : min(10, int(allowed.sum()))]
        assert ids == [{f"I{number:07d}" for number in row} for row in expected.tolist()]


def test_prices_allow_the_share_they_say() -> None:
    """Close enough that a share of a thousandth is one."""
    each = prices(np.arange(100_000))
    for share in (0.5, 0.1, 0.01, 0.001):
        assert abs(float((each <= share).mean()) / share - 1) < 0.05


def test_times_of_a_run_in_several_parts_add_up(tmp_path: Path) -> None:
    """Each part finds what the last one kept."""
    Home(tmp_path / "1000").add("write seconds", 2.0)
    Home(tmp_path / "1000").add("write seconds", 1.5)
    assert Home(tmp_path / "1000").figures == {"write seconds": 3.5}


def test_goals_are_missed_where_figures_are_over_them() -> None:
    """Memory, restart, recall and slow filters each say so."""
    names = ["peak of build", "saved bytes", "catalogue bytes", "stop", "ready after stop", "new by words"]
    names += ["new by vector", "searches a second", "words p50", "write seconds"]
    figures = dict.fromkeys(names, 1.0)
    figures |= {f"recall {share}": 1.0 for share in SHARES} | {f"p50 {share}": 2.0 for share in SHARES}
    figures |= {"exact p50": 9.0, "resident": 6.1e9, "ready after kill": 61.0, "recall 0.1": 0.98, "p50 0.01": 10.0}
    rows = rows_of(1_000_000, figures)
    missed = [row.name.removesuffix(", 1,000,000 items") for row in rows if row.reached is False]
    assert missed == [
        "resident while serving",
        "killed to ready",
        "recall@10, 10.0% allowed",
        "vector search, 1.0% allowed, p50",
    ]
