import numpy as np
import pytest

from services.retriever import codes as codes_module
from services.retriever import dense
from services.retriever.codes import Codes
from services.retriever.columns import Columns
from services.retriever.dense import Dense, DenseView
from services.retriever.order import Mask
from services.retriever.planner import EXACT, MAX_EFFORT, Plan, choose
from souk.types.v1 import types_pb2
from tests.unit.retriever.items import CONTENT, clustered

ROWS, DIM = 30_000, 32


CODES = Codes(None, breadth=3)


def test_few_allowed_are_compared_whatever_else_there_is() -> None:
    assert choose(200_000, 200, 10, CODES, graph=True) == EXACT
    assert choose(200_000, 2_000, 10, CODES, graph=True) == EXACT
    assert choose(200_000, 2_000, 10, None, graph=True) == EXACT


def test_codes_are_looked_through_where_that_is_less_than_comparing_all_that_are_allowed() -> None:
    assert choose(100_000, 50_000, 200, CODES, graph=False).kind == "codes"
    assert choose(100_000, 9_100, 200, CODES, graph=False).kind == "codes"
    assert choose(100_000, 9_000, 200, CODES, graph=False) == EXACT
    # The more has to be compared after, the less they save.
    assert choose(100_000, 9_100, 200, Codes(None, breadth=6), graph=False) == EXACT


def test_no_graph_is_walked_where_codes_miss_nothing() -> None:
    for k in (10, 50, 200, 1_000):
        assert choose(1_000_000, 1_000_000, k, CODES, graph=True, effort=64).kind == "codes"


def test_a_walk_is_broader_as_the_filter_closes_until_it_is_left() -> None:
    efforts = [choose(1_000_000, allowed, 10, None, graph=True).effort for allowed in (1_000_000, 500_000, 250_000)]
    assert 0 < efforts[0] < efforts[1] < efforts[2] <= MAX_EFFORT
    assert choose(1_000_000, 60_000, 10, None, graph=True) == EXACT


def test_a_larger_graph_is_walked_more_broadly() -> None:
    for k in (10, 100):
        small, large = (choose(rows, rows, k, None, graph=True).effort for rows in (200_000, 1_000_000))
        assert large > 2 * small


@pytest.mark.parametrize("exact", [False, True])
def test_without_codes_or_graph_or_at_the_callers_word_it_is_exact(exact: bool) -> None:
    codes = CODES if exact else None
    assert choose(1_000_000, 1_000_000, 10, codes, graph=exact, exact=exact) == EXACT


def test_the_callers_effort_counts_where_there_is_a_graph() -> None:
    assert choose(1_000_000, 1_000_000, 10, None, graph=True, effort=512).effort == 512
    assert choose(1_000_000, 1_000_000, 10, CODES, graph=False, effort=512).kind == "codes"


@pytest.fixture(scope="module", params=["codes", "hnsw"])
def built(request: pytest.FixtureRequest) -> tuple[DenseView, Columns]:
    vectors, _ = clustered(ROWS, DIM, clusters=300)
    columns = Columns()
    space = Dense(CONTENT, "v", DIM, build_threads=2)
    for number, vector in enumerate(vectors):
        slot = columns.add(types_pb2.Item(id=f"i{number}"))
        space.add_slot()
        space.put(slot, vector)
    view = columns.view()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "hnsw":
            patch.setattr(codes_module, "MIN_DIM", DIM + 1)
        while space.due():
            space.swap(space.build(space.view(), view, lambda: None), view)
    assert space.view().base.kind == request.param
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
    mask = np.random.default_rng(1).random(ROWS + 1) < share
    mask[0] = False
    reached, plans = recall(view, columns, mask, k)
    assert reached >= 0.95
    if share == 1.0 and k == 10:
        assert plans == {"ann" if view.base.graph else "codes"}


def test_recall_holds_where_the_filter_leaves_out_what_is_near(built: tuple[DenseView, Columns]) -> None:
    # Half of the clusters are not allowed: half of the queries stand where hardly anything may be returned.
    view, columns = built
    _, cluster = clustered(ROWS, DIM, clusters=300)
    mask = np.concatenate(([False], cluster % 2 == 0))
    assert recall(view, columns, mask)[0] >= 0.95


@pytest.mark.parametrize("built", ["hnsw"], indirect=True)
def test_a_walk_that_meets_too_few_falls_back_to_exact(
    built: tuple[DenseView, Columns], monkeypatch: pytest.MonkeyPatch
) -> None:
    view, columns = built
    plan = Plan("ann", 16)
    monkeypatch.setattr(dense, "choose", lambda *_, exact, effort: EXACT if exact else plan)
    mask = np.zeros(ROWS + 1, dtype=np.bool_)
    mask[1 : ROWS : ROWS // 30] = True
    assert recall(view, columns, mask)[0] == 1.0
