"""The vectors of one space version: an immutable FAISS base, an exact delta, and the slot of the item of each row.

Few vectors are compared, more have codes that are looked through, and those that codes cannot tell apart a graph.
Neither takes rows out: a row whose item changed or left stays and is passed over, until `build` makes a new base beside
the old one. Readers hold a `DenseView`, which no write changes.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import faiss as faiss_module
import numpy as np
from numpy.typing import NDArray

from services.retriever import codes as codes_module
from services.retriever.codes import Codes
from services.retriever.columns import NOBODY, ColumnsView
from services.retriever.growing import Growing
from services.retriever.order import Mask, Slots, best, contenders
from services.retriever.planner import CODED_ROWS, GRAPH_ROWS, Plan, choose
from services.runtime.threads import low_priority
from souk.types.v1 import types_pb2
from souk.vectors import Float32

# FAISS's type stubs know little of what its Python wrappers do.
faiss: Any = faiss_module

NEIGHBOURS = 32
# With FAISS's own 40, recall at k = 100 stays under .94 where half of 200,000 clustered items are allowed.
EF_CONSTRUCTION = 64
# A build adds this many rows at a time: so long it goes on after it was abandoned.
BUILD_ROWS = 2_000
# How often a build calls `between`.
BETWEEN_SECONDS = 0.5
# Rows of the delta, and ended rows of the base, that are worth a new base; at least, and as a share of the base.
MIN_STALE = 2_000
MAX_DELTA_SHARE = 0.02
# Rows for each one that codes were learnt from, at which they are learnt anew: what is new may be unlike the old.
MAX_CODED_GROWTH = 2
MAX_ENDED_SHARE = 0.2
# Up to this share of the base the allowed slots are listed: cheaper than looking through all rows.
LISTED_SHARE = 0.1
# An item's earlier versions looked at when its vector is searched for in the base.
MAX_VERSIONS = 64

MISSING = -1
UNCOVERED = -2

Rows = NDArray[np.int64]
T = TypeVar("T")

# Building is FAISS's work alone, and minutes of it: searches go first.
_builder = low_priority("build")


class _Memory:
    """Vectors in the memory of a FAISS index, as numpy reads them: arrays made of it keep the index alive, so work in
    the background that was abandoned reads no memory that is gone."""

    def __init__(self, index: Any, vectors: Float32) -> None:
        self.index = index
        self.__array_interface__ = vectors.__array_interface__


@dataclass(frozen=True)
class Base:
    """A FAISS index and its raw vectors of shape (rows, dim), which are FAISS's memory and keep it alive."""

    index: Any
    vectors: Float32
    codes: Codes | None = None
    coded: int = 0
    """How many rows there were when codes were last learnt or found to be of no use."""

    @classmethod
    def of(cls, index: Any, dim: int, codes: Codes | None = None, coded: int = 0) -> "Base":
        """The base over a finished IndexFlatIP or IndexHNSWFlat and the codes of its rows."""
        rows = index.ntotal
        if not rows:
            return cls(index, _no_vectors(dim), codes, coded)
        memory: Any = _Memory(index, faiss.rev_swig_ptr(_storage(index).get_xb(), rows * dim))
        return cls(index, np.asarray(memory).reshape(rows, dim), codes, coded)

    @property
    def graph(self) -> bool:
        """Whether it can be walked."""
        return not isinstance(self.index, faiss.IndexFlat)

    @property
    def kind(self) -> str:
        """For people: the most that searches can use."""
        return "hnsw" if self.graph else "codes" if self.codes is not None else "flat"

    @property
    def wants_graph(self) -> bool:
        """Whether a graph should be made of the rows, since codes were found to be of no use."""
        return self.codes is None and self.coded > 0 and not self.graph and len(self.vectors) >= GRAPH_ROWS


@dataclass(frozen=True)
class _Selection:
    """Rows of the base that a mask allows: as flags or as numbers, the other made where it is asked for."""

    among: int
    count: int
    _flags: Mask | None = None
    _numbers: Rows | None = None

    def flags(self) -> Mask:
        """Whether each row is allowed, shape (among,)."""
        if self._flags is not None:
            return self._flags
        flags = np.zeros(self.among, dtype=np.bool_)
        flags[self._numbers] = True
        return flags

    def numbers(self) -> Rows:
        """The allowed rows, shape (count,), in no order."""
        return self._numbers if self._numbers is not None else np.flatnonzero(self.flags())


@dataclass(frozen=True)
class DenseView:
    """The space as it was at one moment. Rows count through the base, then the delta."""

    space: types_pb2.Space.ValueType
    version: str
    dim: int
    base: Base
    base_slots: NDArray[np.int32]
    delta: Float32
    delta_slots: NDArray[np.int32]
    row_of: NDArray[np.int32]
    present: int
    uncovered: int
    ended: int
    _kept: dict[str, _Selection] = field(default_factory=dict)

    def row(self, slot: int) -> int:
        """Row of the vector of a slot; MISSING or UNCOVERED where there is none."""
        row = int(self.row_of[slot]) if slot < len(self.row_of) else MISSING
        return row if row < len(self.base_slots) + len(self.delta_slots) else MISSING

    def vector(self, slot: int) -> Float32 | None:
        """The normalised vector of a slot, shape (dim,)."""
        row = self.row(slot)
        if row < 0:
            return None
        rows = len(self.base_slots)
        vector: Float32 = self.base.vectors[row] if row < rows else self.delta[row - rows]
        return vector

    def cosines(self, query: Float32, slots: Slots) -> tuple[Slots, Float32]:
        """Those of the slots that have a vector, and the cosine of each to a query of shape (dim,)."""
        held = slots[slots < len(self.row_of)]
        rows = self.row_of[held].astype(np.int64)
        there = (rows >= 0) & (rows < len(self.base_slots) + len(self.delta_slots))
        held, rows = held[there], rows[there]
        query, fresh = normalised(query), rows >= len(self.base_slots)
        cosines = np.empty(len(rows), dtype=np.float32)
        cosines[~fresh] = inner_products(self.base.vectors, rows[~fresh], query)
        cosines[fresh] = inner_products(self.delta, rows[fresh] - len(self.base_slots), query)
        return held, cosines

    def search(
        self, query: Float32, mask: Mask, columns: ColumnsView, k: int, exact: bool = False, effort: int = 0
    ) -> tuple[Slots, Float32, str]:
        """The k allowed items nearest to a query of shape (dim,): slots, cosines and the plan, best first."""
        faiss.omp_set_num_threads(1)
        query = normalised(query)
        selected = self._shown(columns) if mask is columns.shown else self._select(mask)
        plan = choose(
            len(self.base_slots), selected.count, k, self.base.codes, self.base.graph, exact=exact, effort=effort
        )
        rows, scores = self._search_base(query, selected, k, plan)
        fresh = np.flatnonzero(mask[self.delta_slots])
        slots = np.concatenate((self.base_slots[rows], self.delta_slots[fresh]))
        scores = np.concatenate((scores, inner_products(self.delta, fresh, query)))
        first = best(scores, slots, columns.popularity, columns.key, k)
        return slots[first].astype(np.int64), scores[first], plan.kind

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it but its FAISS indexes, for a snapshot."""
        return {
            "base_slots": self.base_slots,
            "delta": self.delta,
            "delta_slots": self.delta_slots,
            "uncovered": np.flatnonzero(self.row_of == UNCOVERED).astype(np.int32),
            "coded": np.array([self.base.coded, self.base.codes.breadth if self.base.codes else 0]),
        }

    def _shown(self, columns: ColumnsView) -> _Selection:
        """The rows of all visible items: most searches want these, so they are kept. Two threads may both make them."""
        kept = self._kept.get("shown")
        if kept is None:
            kept = self._kept["shown"] = self._select(columns.shown)
        return kept

    def _select(self, mask: Mask) -> _Selection:
        among = len(self.base_slots)
        if np.count_nonzero(mask) > LISTED_SHARE * among:
            flags = np.take(mask, self.base_slots)
            return _Selection(among, int(np.count_nonzero(flags)), _flags=flags)
        slots = np.flatnonzero(mask)
        numbers = self.row_of[slots[slots < len(self.row_of)]].astype(np.int64)
        # A row beyond the base is of the delta, or was given after this view was taken.
        numbers = numbers[(numbers >= 0) & (numbers < among)]
        return _Selection(among, len(numbers), _numbers=numbers)

    def _search_base(self, query: Float32, selected: _Selection, k: int, plan: Plan) -> tuple[Rows, Float32]:
        if plan.kind == "ann":
            rows = self._walk(query, selected, k, plan.effort)
            # Scored anew: the same vector has the same score to the last bit whichever plan found it.
            if len(rows) == k:
                return rows, inner_products(self.base.vectors, rows, query)
        if plan.kind == "codes" and self.base.codes is not None:
            rows = self.base.codes.scan(query, k, None if selected.count == selected.among else selected.flags())
        else:
            rows = selected.numbers()
        scores = inner_products(self.base.vectors, rows, query)
        near = contenders(scores, k)
        return rows[near], scores[near]

    def _walk(self, query: Float32, selected: _Selection, k: int, effort: int) -> Rows:
        """Rows that the graph search found, all allowed; fewer than k where it met too few."""
        # FAISS keeps no reference to what it is given: bitmap and selector must outlive the search.
        bitmap = selector = None
        flags = selected.flags()
        if selected.count < selected.among:
            bitmap = np.packbits(flags, bitorder="little")
            selector = faiss.IDSelectorBitmap(bitmap)
        parameters = faiss.SearchParametersHNSW(efSearch=effort, sel=selector)
        _, rows = self.base.index.search(query[None], k, params=parameters)
        found: Rows = rows[0][rows[0] >= 0].astype(np.int64)
        return found[flags[found]]


@dataclass(frozen=True)
class Built:
    """A new base made from a view: what `Dense.swap` puts in its place."""

    view: DenseView
    base: Base
    base_slots: NDArray[np.int32]
    # Rows of the view's delta that stay in the delta.
    kept: Rows


class Dense:
    """The writer's side of a space. One thread writes; what it wrote counts for the views taken after."""

    def __init__(
        self, space: types_pb2.Space.ValueType, version: str, dim: int, slots: int = 1, build_threads: int = 1
    ) -> None:
        self.space = space
        self.version = version
        self.dim = dim
        self._build_threads = build_threads
        self._base = Base.of(faiss.IndexFlatIP(dim), dim)
        self._base_slots: NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self._delta = Growing(np.float32, width=dim, capacity=64)
        self._delta_slots = Growing(np.int32, capacity=64)
        self._row_of = Growing(np.int32)
        self._row_of.extend(np.full(slots, MISSING, dtype=np.int32))
        self._present = self._uncovered = self._ended = 0
        # Size of the delta when it was last looked through.
        self._looked_at = 0

    def add_slot(self) -> None:
        """A new slot of the table, without a vector yet."""
        self._row_of.append(MISSING)

    def put(self, slot: int, vector: Float32 | None) -> None:
        """The vector of the item in a slot, None where the encoder cannot read it. A second one changes nothing: the
        vector of a revision in a space version is always the same."""
        row_of = self._row_of.view()
        if row_of[slot] != MISSING:
            return
        if vector is None:
            row_of[slot] = UNCOVERED
            self._uncovered += 1
            return
        row_of[slot] = len(self._base_slots) + self._delta_slots.size
        self._delta.append(normalised(vector))
        self._delta_slots.append(slot)
        self._present += 1

    def end(self, slot: int) -> None:
        """The item in a slot is no longer so."""
        row = int(self._row_of.view()[slot])
        if row >= 0:
            self._present -= 1
            self._ended += row < len(self._base_slots)
        elif row == UNCOVERED:
            self._uncovered -= 1

    def view(self) -> DenseView:
        """The space as it is now."""
        return DenseView(
            self.space,
            self.version,
            self.dim,
            self._base,
            self._base_slots,
            self._delta.view(),
            self._delta_slots.view(),
            self._row_of.view(),
            self._present,
            self._uncovered,
            self._ended,
        )

    def due(self) -> bool:
        """Whether a new base is worth its making."""
        rows = len(self._base_slots)
        delta = self._delta_slots.size
        if self._ended > max(MIN_STALE, MAX_ENDED_SHARE * rows) or delta > _delta_limit(rows):
            return True
        if self._base.wants_graph:
            return True
        # Items that changed and kept their vector can have their old rows back at no cost.
        return self._ended > 0 and delta - self._looked_at > MIN_STALE

    def build(self, view: DenseView, columns: ColumnsView, between: Callable[[], None]) -> Built:
        """A new base from a view of this space and the table of the same moment. Runs beside reads and writes; calls
        `between` now and then.

        An item that changed without changing its vector gets its old row back. What else is new is added to a copy of
        the graph and of the codes, or, where much of them has ended, all is built anew.
        """
        base_slots, fresh = self._give_back(view, columns)
        base, live = view.base, columns.alive[base_slots]
        rows = len(base_slots)
        ended = rows - int(np.count_nonzero(live))
        too_old = ended > max(MIN_STALE, MAX_ENDED_SHARE * rows)
        if len(fresh) <= _delta_limit(rows) and not too_old and not base.wants_graph:
            return Built(view, base, base_slots, fresh)
        kept = np.flatnonzero(live) if too_old or base.kind == "flat" else np.arange(rows)
        parts = [(base.vectors, kept), (view.delta, fresh)]
        base_slots = np.concatenate((base_slots[kept], view.delta_slots[fresh]))
        if base.graph and not too_old:
            index = _copied_graph(base, len(base_slots))
            _in_background(partial(_add, index, parts[1:], self._build_threads), between)
        else:
            make = _new_graph if base.graph or base.wants_graph else _new_flat
            index = make(self.dim, len(base_slots))
            _in_background(partial(_add, index, parts, self._build_threads), between)
        grown = Base.of(index, self.dim, base.codes, base.coded)
        if too_old or len(base_slots) >= MAX_CODED_GROWTH * base.coded:
            grown = self._coded_anew(grown, between)
        elif base.codes is not None and len(fresh):
            codes = base.codes.copy()
            _in_background(partial(_encode, codes.index, grown.vectors, self._build_threads), between)
            grown = Base.of(index, self.dim, codes, base.coded)
        return Built(view, grown, base_slots, np.empty(0, dtype=np.int64))

    def _coded_anew(self, base: Base, between: Callable[[], None]) -> Base:
        """The base with codes of its own, where they are worth their making and can be told apart."""
        rows = len(base.vectors)
        if rows < CODED_ROWS:
            return Base.of(base.index, self.dim)
        if self.dim < codes_module.MIN_DIM:
            return Base.of(base.index, self.dim, None, rows)
        index = codes_module.untrained(self.dim)
        _in_background(partial(_encode, index, base.vectors, self._build_threads), between)
        codes = _in_background(lambda _: codes_module.measured(index, base.vectors), between)
        return Base.of(base.index, self.dim, codes, rows)

    def swap(self, built: Built, columns: ColumnsView) -> None:
        """Puts a new base in place of the one it was built from; what was written since goes on in the delta.

        `columns` is the table as it is now.
        """
        since = len(built.view.delta_slots)
        delta, delta_slots = self._delta.view(), self._delta_slots.view()
        self._base, self._base_slots = built.base, built.base_slots
        self._delta = Growing(np.float32, width=self.dim, capacity=64)
        self._delta.extend(delta[built.kept])
        self._delta.extend(delta[since:])
        self._delta_slots = Growing(np.int32, capacity=64)
        self._delta_slots.extend(delta_slots[built.kept])
        self._delta_slots.extend(delta_slots[since:])
        self._looked_at = len(built.kept)
        self._renumber(columns.alive)

    def moved(self, moved: NDArray[np.int32], alive: Mask) -> "Dense":
        """This space over a compacted table. moved: new slot of each old one; alive: of the new table."""
        fresh = Dense(self.space, self.version, self.dim, 0, self._build_threads)
        old = self._row_of.view()
        statuses = np.full(len(alive), MISSING, dtype=np.int32)
        statuses[moved[old == UNCOVERED]] = UNCOVERED
        fresh._row_of.extend(statuses)
        fresh._base, fresh._base_slots = self._base, moved[self._base_slots]
        slots = moved[self._delta_slots.view()]
        kept = slots != NOBODY
        fresh._delta.extend(self._delta.view()[kept])
        fresh._delta_slots.extend(slots[kept])
        fresh._renumber(alive)
        return fresh

    def restore(self, index: Any, codes: Any | None, arrays: dict[str, NDArray[Any]], alive: Mask) -> None:
        """Takes back what a snapshot held: the FAISS index of the vectors, that of their codes if there is one, and
        the arrays. Raises ValueError where they do not belong together."""
        rows, (coded, breadth) = len(arrays["base_slots"]), arrays["coded"].tolist()
        if any(each.d != self.dim or each.ntotal != rows for each in (index, codes) if each is not None):
            raise ValueError(f"space {self.version}: index and row list do not belong together")
        known = None if codes is None else Codes(codes, breadth)
        self._base, self._base_slots = Base.of(index, self.dim, known, coded), arrays["base_slots"]
        self._delta.extend(arrays["delta"])
        self._delta_slots.extend(arrays["delta_slots"])
        statuses = np.full(len(alive), MISSING, dtype=np.int32)
        statuses[arrays["uncovered"]] = UNCOVERED
        self._row_of = Growing(np.int32)
        self._row_of.extend(statuses)
        self._renumber(alive)

    def _give_back(self, view: DenseView, columns: ColumnsView) -> tuple[NDArray[np.int32], Rows]:
        """Slots of the base with the rows of unchanged vectors given back, and the live delta rows that remain."""
        base_slots = view.base_slots.copy()
        live = np.flatnonzero(columns.alive[view.delta_slots])
        if not view.ended:
            return base_slots, live
        fresh = []
        for delta_row in live.tolist():
            slot = int(view.delta_slots[delta_row])
            row = self._earlier_row(view, columns, slot)
            if row != MISSING and np.array_equal(view.base.vectors[row], view.delta[delta_row]):
                base_slots[row] = slot
            else:
                fresh.append(delta_row)
        return base_slots, np.array(fresh, dtype=np.int64)

    def _earlier_row(self, view: DenseView, columns: ColumnsView, slot: int) -> int:
        for _ in range(MAX_VERSIONS):
            slot = columns.table.previous[slot]
            row = view.row(slot)
            if 0 <= row < len(view.base_slots):
                return row if view.base_slots[row] == slot else MISSING
            if slot == NOBODY:
                break
        return MISSING

    def _renumber(self, alive: Mask) -> None:
        """Says anew which row each slot has, and counts."""
        row_of = self._row_of.view()
        fresh = np.where(row_of == UNCOVERED, np.int32(UNCOVERED), np.int32(MISSING))
        rows = len(self._base_slots)
        fresh[self._base_slots] = np.arange(rows, dtype=np.int32)
        delta_slots = self._delta_slots.view()
        fresh[delta_slots] = np.arange(rows, rows + len(delta_slots), dtype=np.int32)
        fresh[NOBODY] = MISSING
        self._row_of = Growing(np.int32)
        self._row_of.extend(fresh)
        self._present = int(np.count_nonzero(alive & (fresh >= 0)))
        self._uncovered = int(np.count_nonzero(alive & (fresh == UNCOVERED)))
        self._ended = int(np.count_nonzero(~alive[self._base_slots]))


def normalised(vector: Float32) -> Float32:
    """The vector at length 1, float32 and contiguous."""
    wide = vector.astype(np.float64)
    length = float(np.sqrt(wide @ wide))
    unit: Float32 = np.ascontiguousarray(wide / (length or 1.0), dtype=np.float32)
    return unit


def inner_products(vectors: Float32, rows: Rows, query: Float32) -> Float32:
    """Inner products of some rows with a query: no copy of the rows, one thread, and the same bits for the same
    vector wherever it stands."""
    scores = np.empty(len(rows), dtype=np.float32)
    if len(rows):
        pointer = faiss.swig_ptr
        faiss.fvec_inner_products_by_idx(
            pointer(scores), pointer(query), pointer(vectors), pointer(rows), vectors.shape[1], 1, len(rows)
        )
    return scores


def _in_background(work: Callable[[threading.Event], T], between: Callable[[], None]) -> T:
    """Does work at low priority and calls `between` meanwhile; if that raises the work is told, to end soon."""
    abandoned = threading.Event()
    working = _builder.submit(work, abandoned)
    try:
        while wait([working], BETWEEN_SECONDS).not_done:
            between()
        return working.result()
    finally:
        abandoned.set()


def _add(index: Any, parts: Sequence[tuple[Float32, Rows]], threads: int, abandoned: threading.Event) -> None:
    faiss.omp_set_num_threads(threads)
    for vectors, rows in parts:
        for start in range(0, len(rows), BUILD_ROWS):
            if abandoned.is_set():
                return
            index.add(vectors[rows[start : start + BUILD_ROWS]])


def _encode(index: Any, vectors: Float32, threads: int, abandoned: threading.Event) -> None:
    """Makes the codes that an index lacks of the vectors, after it has learnt to where it has not."""
    faiss.omp_set_num_threads(threads)
    if not index.is_trained:
        codes_module.train(index, vectors)
    for start in range(index.ntotal, len(vectors), BUILD_ROWS):
        if abandoned.is_set():
            return
        index.add(vectors[start : start + BUILD_ROWS])


def _delta_limit(rows: int) -> float:
    return max(MIN_STALE, MAX_DELTA_SHARE * rows)


def _new_flat(dim: int, rows: int) -> Any:
    """An empty index with room for so many rows."""
    return _with_room(faiss.IndexFlatIP(dim), rows)


def _new_graph(dim: int, rows: int) -> Any:
    index = faiss.IndexHNSWFlat(dim, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EF_CONSTRUCTION
    return _with_room(index, rows)


def _with_room(index: Any, rows: int) -> Any:
    """An empty index, given its memory at once: as it grows FAISS would double it, and hold both while it copies."""
    codes = _storage(index).codes
    codes.resize(rows * index.d * np.dtype(np.float32).itemsize)
    codes.resize(0)
    return index


def _copied_graph(base: Base, rows: int) -> Any:
    """What faiss.clone_index makes of a graph, with room for `rows` rows in all."""
    index = _new_graph(base.vectors.shape[1], rows)
    index.hnsw = base.index.hnsw
    storage = _storage(index)
    storage.codes.resize(base.vectors.nbytes)
    faiss.rev_swig_ptr(storage.get_xb(), base.vectors.size)[:] = base.vectors.reshape(-1)
    storage.ntotal = index.ntotal = len(base.vectors)
    return index


def _storage(index: Any) -> Any:
    """The flat index that holds an index's vectors."""
    return index if isinstance(index, faiss.IndexFlat) else faiss.downcast_index(index.storage)


def _no_vectors(dim: int) -> Float32:
    return np.empty((0, dim), dtype=np.float32)
