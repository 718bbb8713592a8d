import numpy as np
import pytest

from services.retriever import dense
from services.retriever.columns import Columns
from services.retriever.dense import Dense, DenseView
from services.retriever.order import Mask
from services.retriever.planner import EXACT, MAX_EFFORT, Plan, choose
from souk.types.v1 import types_pb2
from tests.unit.retriever.items import CONTENT, clustered

ROWS, DIM = 30_000, 32


def test_a_selective_filter_is_answered_exactly() -> None:
    assert choose(200_000, 200, 10, ann=True) == EXACT
    assert choose(200_000, 2_000, 10, ann=True) == EXACT


def test_an_open_filter_walks_the_graph_with_a_breadth_that_grows_as_it_closes() -> None:
    efforts = [choose(1_000_000, allowed, 10, ann=True).effort for allowed in (1_000_000, 500_000, 250_000)]
    assert 0 < efforts[0] < efforts[1] < efforts[2] <= MAX_EFFORT


def test_a_larger_graph_is_walked_more_broadly_and_left_sooner() -> None:
    small, large = (choose(rows, rows, 10, ann=True).effort for rows in (200_000, 1_000_000))
    assert large > 2 * small
    # Where looking at all that are allowed is cheaper than a step that misses the cache for each of them.
    assert choose(200_000, 50_000, 10, ann=True).kind == "ann"
    assert choose(1_000_000, 100_000, 10, ann=True) == EXACT
    assert choose(1_000_000, 250_000, 10, ann=True).kind == "ann"


@pytest.mark.parametrize("arguments", [{"ann": False}, {"ann": True, "exact": True}])
def test_without_a_graph_or_at_the_callers_word_it_is_exact(arguments: dict[str, bool]) -> None:
    assert choose(1_000_000, 1_000_000, 10, **arguments) == EXACT


def test_the_callers_effort_counts() -> None:
    assert choose(1_000_000, 1_000_000, 10, ann=True, effort=512).effort == 512


@pytest.fixture(scope="module")
def built() -> tuple[DenseView, Columns]:
    vectors, _ = clustered(ROWS, DIM, clusters=300)
    columns = Columns()
    space = Dense(CONTENT, "v", DIM, build_threads=2)
    for number, vector in enumerate(vectors):
        slot = columns.add(types_pb2.Item(id=f"i{number}"))
        space.add_slot()
        space.put(slot, vector)
    view = columns.view()
    space.swap(space.build(space.view(), view, lambda: None), view)
    return space.view(), columns


def recall(view: DenseView, columns: Columns, mask: Mask, k: int = 10) -> tuple[float, set[str]]:
    table = columns.view()
    shares, plans = [], set()
    for query in clustered(60, DIM, clusters=300, seed=0)[0]:
        slots, _, plan = view.search(query, mask, table, k)
        expected, _, _ = view.search(query, mask, table, k, exact=True)
        assert mask[slots].all()
        assert len(slots) == min(k, np.count_nonzero(mask))
        shares.append(len(set(slots.tolist()) & set(expected.tolist())) / max(len(expected), 1))
        plans.add(plan)
    return float(np.mean(shares)), plans


@pytest.mark.parametrize("k", [10, 100])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.001])
def test_recall_holds_at_every_selectivity(built: tuple[DenseView, Columns], share: float, k: int) -> None:
    view, columns = built
    assert view.base.kind == "hnsw"
    mask = np.random.default_rng(1).random(ROWS + 1) < share
    mask[0] = False
    reached, plans = recall(view, columns, mask, k)
    assert reached >= 0.95
    if share == 1.0:
        assert plans == {"ann"}


def test_recall_holds_where_the_filter_leaves_out_what_is_near(built: tuple[DenseView, Columns]) -> None:
    # Half of the clusters are not allowed: half of the queries stand where hardly anything may be returned.
    view, columns = built
    _, cluster = clustered(ROWS, DIM, clusters=300)
    mask = np.concatenate(([False], cluster % 2 == 0))
    assert recall(view, columns, mask)[0] >= 0.95


def test_a_walk_that_meets_too_few_falls_back_to_exact(
    built: tuple[DenseView, Columns], monkeypatch: pytest.MonkeyPatch
) -> None:
    view, columns = built
    plan = Plan("ann", 16)
    monkeypatch.setattr(dense, "choose", lambda *arguments: EXACT if arguments[4] else plan)
    mask = np.zeros(ROWS + 1, dtype=np.bool_)
    mask[1 : ROWS : ROWS // 30] = True
    assert recall(view, columns, mask)[0] == 1.0
