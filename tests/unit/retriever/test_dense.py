import os
import sys
import weakref
from pathlib import Path
from typing import Any

import faiss as faiss_module
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retriever import codes as codes_module
from services.retriever import dense as dense_module
from services.retriever.codes import Codes
from services.retriever.columns import Columns, ColumnsView
from services.retriever.dense import Dense, inner_products, normalised
from services.retriever.order import Mask
from services.retriever.planner import EXACT, Plan
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from tests.unit.retriever.items import CONTENT, random_vectors

# FAISS's type stubs know little of what its Python wrappers do.
faiss: Any = faiss_module

DIM = 8


def only(slot: int, columns: ColumnsView) -> Mask:
    """Allows one slot."""
    mask = np.zeros(columns.size, dtype=np.bool_)
    mask[slot] = True
    return mask


class Shelf:
    """A table and a space written together, and a plain dict that says what should be found."""

    def __init__(self, dim: int = DIM) -> None:
        self.columns = Columns()
        self.dense = Dense(CONTENT, "v", dim)
        self.held: dict[str, Float32] = {}

    def write(self, item_id: str, vector: Float32 | None) -> None:
        self.remove(item_id)
        slot = self.columns.add(types_pb2.Item(id=item_id))
        self.dense.add_slot()
        if vector is not None:
            self.dense.put(slot, vector)
            self.held[item_id] = vector

    def remove(self, item_id: str) -> None:
        slot = self.columns.held(item_id)
        if slot:
            self.columns.end(slot)
            self.dense.end(slot)
            self.held.pop(item_id, None)

    def rebuild(self) -> None:
        """Twice where a graph comes after the codes."""
        columns = self.columns.view()
        self.dense.swap(self.dense.build(self.dense.view(), columns, lambda: None), columns)
        if self.dense.view().base.wants_graph:
            self.rebuild()

    def check(self) -> None:
        columns, view = self.columns.view(), self.dense.view()
        query = normalised(random_vectors(1, self.dense.dim, seed=99)[0])
        slots, scores, _ = view.search(query, columns.shown, columns, k=len(self.held) + 5)
        got = {self.columns.ids[slot]: score for slot, score in zip(slots.tolist(), scores.tolist(), strict=True)}
        assert got == pytest.approx({i: float(normalised(v) @ query) for i, v in self.held.items()}, abs=1e-5)
        for slot in np.flatnonzero(columns.alive).tolist():
            slots, _, _ = view.search(query, only(slot, columns), columns, k=2)
            assert slots.tolist() == ([slot] if self.columns.ids[slot] in self.held else [])
        assert view.present == len(self.held)
        assert view.ended == np.count_nonzero(~columns.alive[view.base_slots])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_module, "MIN_STALE", 3)
    monkeypatch.setattr(dense_module, "LISTED_SHARE", 1.0)
    monkeypatch.setattr(dense_module, "CODED_ROWS", 12)
    monkeypatch.setattr(dense_module, "GRAPH_ROWS", 12)


# What happens to which of eight items; "change" keeps the vector, "begin" and "end" are the two halves of a rebuild.
steps = st.lists(
    st.tuples(st.sampled_from(["write", "change", "remove", "pending", "begin", "end"]), st.integers(0, 19)),
    max_size=80,
)


def by_codes(
    rows: int, allowed: int, k: int, codes: Codes | None, graph: bool, *, exact: bool = False, effort: int = 0
) -> Plan:
    """Codes wherever there are any."""
    return EXACT if exact or codes is None else Plan("codes")


@pytest.mark.usefixtures("small")
@settings(max_examples=120, deadline=None)
@given(steps)
def test_nothing_is_lost_whenever_a_rebuild_begins_and_ends(script: list[tuple[str, int]]) -> None:
    play(Shelf(), script)


@pytest.fixture
def coded(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_module, "CODED_ROWS", 16)
    monkeypatch.setattr(dense_module, "GRAPH_ROWS", 18)
    monkeypatch.setattr(dense_module, "choose", by_codes)


@pytest.mark.usefixtures("coded")
@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 39), min_size=16, max_size=40), steps)
def test_nothing_is_lost_where_vectors_have_codes(written: list[int], script: list[tuple[str, int]]) -> None:
    shelf = Shelf(32)
    for which, vector in zip(written, random_vectors(len(written), 32, seed=7), strict=True):
        shelf.write(f"i{which}", vector)
    play(shelf, [("begin", 0), ("end", 0), *script])


def play(shelf: Shelf, script: list[tuple[str, int]]) -> None:
    """Does what the script says and looks after each step whether all is there."""
    vectors = random_vectors(len(script) + 1, shelf.dense.dim)
    built = None
    for number, (step, which) in enumerate(script):
        item_id = f"i{which}"
        match step:
            case "write":
                shelf.write(item_id, vectors[number])
            case "change":
                shelf.write(item_id, shelf.held.get(item_id))
            case "pending":
                shelf.write(item_id, None)
            case "remove":
                shelf.remove(item_id)
            case "begin":
                built = shelf.dense.build(shelf.dense.view(), shelf.columns.view(), lambda: None)
            case "end" if built is not None:
                shelf.dense.swap(built, shelf.columns.view())
                built = None
        shelf.check()
    shelf.rebuild()
    shelf.check()


@pytest.mark.usefixtures("small")
def test_a_filter_that_allows_few_finds_them_in_base_and_delta() -> None:
    shelf = Shelf()
    for number, vector in enumerate(random_vectors(20, DIM)):
        shelf.write(f"i{number}", vector)
    shelf.rebuild()
    for number, vector in enumerate(random_vectors(3, DIM, seed=1)):
        shelf.write(f"new{number}", vector)
    shelf.write("pending", None)
    view = shelf.dense.view()
    assert (len(view.base_slots), len(view.delta_slots)) == (20, 3)
    shelf.check()


def test_a_view_stays_as_it_was() -> None:
    shelf = Shelf()
    vectors = random_vectors(4, DIM)
    shelf.write("a", vectors[0])
    shelf.write("pending", None)
    pending = shelf.columns.held("pending")
    columns, view = shelf.columns.view(), shelf.dense.view()
    shelf.write("b", vectors[1])
    shelf.dense.put(pending, vectors[2])
    assert view.vector(pending) is None
    shelf.remove("a")
    shelf.rebuild()
    slots, _, _ = view.search(vectors[0], columns.shown, columns, k=5)
    assert [shelf.columns.ids[slot] for slot in slots] == ["a"]
    assert view.vector(pending) is None
    assert not len(view.search(vectors[2], only(pending, columns), columns, k=5)[0])


@pytest.mark.usefixtures("small")
def test_a_change_that_keeps_the_vector_gets_its_row_of_the_graph_back() -> None:
    shelf = Shelf()
    vectors = random_vectors(40, DIM)
    for number, vector in enumerate(vectors):
        shelf.write(f"i{number}", vector)
    shelf.rebuild()
    before = shelf.dense.view().base
    assert before.kind == "hnsw"
    for _ in range(3):
        for number in range(30):
            shelf.write(f"i{number}", vectors[number])
    assert shelf.dense.due()
    shelf.rebuild()
    view = shelf.dense.view()
    assert view.base is before
    assert (len(view.delta_slots), view.ended) == (0, 0)
    shelf.check()


@pytest.mark.usefixtures("small")
def test_new_rows_are_added_to_a_copy_of_the_graph() -> None:
    shelf = Shelf()
    vectors = random_vectors(60, DIM)
    for number in range(40):
        shelf.write(f"i{number}", vectors[number])
    shelf.rebuild()
    old = shelf.dense.view()
    for number in range(40, 60):
        shelf.write(f"i{number}", vectors[number])
    shelf.rebuild()
    assert len(shelf.dense.view().base_slots) == 60
    assert (len(old.base_slots), old.base.index.ntotal) == (40, 40)
    shelf.check()


@pytest.mark.usefixtures("small")
def test_a_copy_of_the_graph_grows_like_a_clone_of_it_and_within_its_memory() -> None:
    shelf = Shelf()
    for number, vector in enumerate(random_vectors(40, DIM)):
        shelf.write(f"i{number}", vector)
    shelf.rebuild()
    base, fresh = shelf.dense.view().base, random_vectors(20, DIM, seed=5)
    copied, cloned = dense_module._copied_graph(base, 60), dense_module.faiss.clone_index(base.index)
    place = int(dense_module._storage(copied).get_xb())
    for index in (copied, cloned):
        index.add(fresh[:10])
        index.add(fresh[10:])
    assert int(dense_module._storage(copied).get_xb()) == place
    for one, other in zip(copied.search(fresh, 9), cloned.search(fresh, 9), strict=True):
        np.testing.assert_array_equal(one, other)


def test_uncovered_and_missing_vectors_are_told_apart() -> None:
    shelf = Shelf()
    for item_id in "abc":
        shelf.write(item_id, None)
    shelf.dense.put(shelf.columns.held("a"), None)
    shelf.dense.put(shelf.columns.held("b"), random_vectors(1, DIM)[0])
    for _ in range(2):
        view = shelf.dense.view()
        rows = [view.row(shelf.columns.held(item_id)) for item_id in "abc"]
        assert rows == [dense_module.UNCOVERED, 0, dense_module.MISSING]
        assert (view.present, view.uncovered) == (1, 1)
        shelf.rebuild()


def test_raw_vectors_are_those_of_the_index_itself() -> None:
    shelf = Shelf()
    vector = random_vectors(1, DIM)[0]
    shelf.write("a", vector)
    columns = shelf.columns.view()
    shelf.dense.swap(_forced(shelf), columns)
    base = shelf.dense.view().base
    assert base.vectors.base is not None
    assert not base.vectors.flags.owndata
    np.testing.assert_array_equal(base.vectors[0], normalised(vector))


def _forced(shelf: Shelf) -> dense_module.Built:
    view = shelf.dense.view()
    index = dense_module.faiss.IndexFlatIP(DIM)
    index.add(view.delta)
    return dense_module.Built(view, dense_module.Base.of(index, DIM), view.delta_slots, np.empty(0, dtype=np.int64))


def test_one_vector_has_one_score_wherever_it_stands() -> None:
    vectors = random_vectors(100, 37)
    query = normalised(vectors[5])
    everywhere = inner_products(vectors, np.arange(100), query)
    for rows in (np.array([5]), np.array([99, 5, 17]), np.arange(3, 90, 7)):
        np.testing.assert_array_equal(inner_products(vectors, rows, query), everywhere[rows])


def test_equals_stand_by_popularity_then_by_a_key_that_says_nothing_of_age() -> None:
    def order(ids: list[str]) -> list[str]:
        columns, dense = Columns(), Dense(CONTENT, "v", DIM)
        vector = random_vectors(1, DIM)[0]
        for item_id in ids:
            slot = columns.add(types_pb2.Item(id=item_id, popularity=5 if item_id == "i7" else 1))
            dense.add_slot()
            dense.put(slot, vector)
        view = columns.view()
        return [columns.ids[slot] for slot in dense.view().search(vector, view.shown, view, 6)[0]]

    ids = [f"i{number}" for number in range(20)]
    best = order(ids)
    assert best[0] == "i7"
    assert best == order(ids[::-1])
    assert best[1:] not in (sorted(best[1:]), sorted(best[1:], reverse=True))


def test_cosines_of_slots_of_base_and_delta_alike() -> None:
    shelf = Shelf()
    vectors = random_vectors(30, DIM, seed=3)
    for number in range(20):
        shelf.write(f"i{number}", vectors[number])
    shelf.rebuild()
    for number in range(20, 30):
        shelf.write(f"i{number}", vectors[number])
    shelf.write("unread", None)
    query = random_vectors(1, DIM, seed=4)[0]
    wanted = np.array([shelf.columns.held(name) for name in ("i25", "i3", "unread", "i0")] + [10_000])
    slots, cosines = shelf.dense.view().cosines(query, wanted)
    assert [shelf.columns.ids[slot] for slot in slots.tolist()] == ["i25", "i3", "i0"]
    expected = [float(normalised(vectors[number]) @ normalised(query)) for number in (25, 3, 0)]
    assert cosines.tolist() == pytest.approx(expected, abs=1e-5)


def large(rows: int, build_threads: int) -> tuple[Dense, ColumnsView]:
    """A space with so many vectors in its delta, and its table."""
    columns, space = Columns(), Dense(CONTENT, "v", 64, build_threads=build_threads)
    for number, vector in enumerate(random_vectors(rows, 64)):
        slot = columns.add(types_pb2.Item(id=f"i{number}"))
        space.add_slot()
        space.put(slot, vector)
    return space, columns.view()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_all_threads_of_a_build_have_a_low_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_module, "BETWEEN_SECONDS", 0.005)
    busy: dict[int, int] = {}

    def used(thread: Path) -> int:
        """Its processor time, in ticks (proc(5), stat)."""
        return sum(map(int, (thread / "stat").read_text().rsplit(")", 1)[1].split()[11:13]))

    def look() -> None:
        for thread in Path("/proc/self/task").iterdir():
            busy[int(thread.name)] = used(thread)

    space, columns = large(12_000, build_threads=2)
    look()
    before = dict(busy)
    space.build(space.view(), columns, look)
    working = [thread for thread, ticks in busy.items() if ticks - before.get(thread, 0) > 5 and thread != os.getpid()]
    assert len(working) == 2
    assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in working} == {10}


def test_a_build_ends_soon_after_it_was_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_module, "BUILD_ROWS", 100)
    monkeypatch.setattr(dense_module, "BETWEEN_SECONDS", 0.001)
    index = codes_module.untrained(64)
    monkeypatch.setattr(codes_module, "untrained", lambda dim: index)

    def stop() -> None:
        raise InterruptedError

    space, columns = large(12_000, build_threads=1)
    with pytest.raises(InterruptedError):
        space.build(space.view(), columns, stop)
    dense_module._builder.submit(lambda: None).result(timeout=60)
    assert index.ntotal < 12_000


@pytest.mark.parametrize("index", [faiss.IndexFlatIP(64), faiss.IndexHNSWFlat(64, 8, faiss.METRIC_INNER_PRODUCT)])
def test_vectors_of_a_base_keep_their_memory(index: Any) -> None:
    index, vectors = faiss.clone_index(index), random_vectors(50, 64)
    index.add(vectors)
    held = weakref.ref(index)
    seen = dense_module.Base.of(index, 64).vectors[10:]
    del index
    assert held() is not None
    assert np.array_equal(seen, vectors[10:])
    del seen
    assert held() is None


def test_codes_grow_and_are_learnt_anew_without_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_module, "MIN_STALE", 3)
    monkeypatch.setattr(dense_module, "CODED_ROWS", 100)
    monkeypatch.setattr(dense_module, "GRAPH_ROWS", 200)
    shelf = Shelf(32)
    vectors = random_vectors(450, 32)

    def write(numbers: range) -> str:
        for number in numbers:
            shelf.write(f"i{number}", vectors[number])
        columns = shelf.columns.view()
        shelf.dense.swap(shelf.dense.build(shelf.dense.view(), columns, lambda: None), columns)
        return shelf.dense.view().base.kind

    def coded() -> tuple[int, int]:
        base = shelf.dense.view().base
        return (0 if base.codes is None else base.codes.rows), base.coded

    assert (write(range(90)), coded()) == ("flat", (0, 0))
    assert (write(range(90, 150)), coded()) == ("codes", (150, 150))
    assert (write(range(150, 210)), coded()) == ("codes", (210, 150))
    assert not shelf.dense.due()
    # What is twice as many may be unlike what the codes were learnt from.
    assert (write(range(210, 299)), coded()) == ("codes", (299, 150))
    assert (write(range(299, 310)), coded()) == ("codes", (310, 310))
    shelf.check()


def test_vectors_that_codes_cannot_tell_apart_are_compared_or_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_module, "CODED_ROWS", 5_000)
    monkeypatch.setattr(dense_module, "GRAPH_ROWS", 5_000)
    random = np.random.default_rng(1)
    # One crowd around one point, and a few vectors far off, for which the codes' steps are made.
    vectors = np.ones((6_000, 32), dtype=np.float32) + 0.02 * random.standard_normal((6_000, 32), dtype=np.float32)
    vectors[::10] = random.standard_normal((600, 32), dtype=np.float32)
    columns, space = Columns(), Dense(CONTENT, "v", 32, build_threads=2)
    for number, vector in enumerate(vectors):
        slot = columns.add(types_pb2.Item(id=f"i{number}"))
        space.add_slot()
        space.put(slot, vector)
    table = columns.view()
    for kind in ("flat", "hnsw"):
        space.swap(space.build(space.view(), table, lambda: None), table)
        assert (space.view().base.kind, space.view().base.codes) == (kind, None)
        assert space.due() == (kind == "flat")
