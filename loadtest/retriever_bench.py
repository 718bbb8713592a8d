"""Recall and latency of vector search by how many items the filter allows: the planner against always Flat and always
HNSW with a selector and FAISS's inverted files with one, interleaved in one run over one set of vectors, drawn around
centres or those of a shop. Also what words and filters cost.

    python -m loadtest.retriever_bench --items 200000 --dim 384
    python -m loadtest.retriever_bench --items 1000000     # an hour or more, up to 14 GB of memory
    python -m loadtest.retriever_bench --vectors items.npy # those of a shop, shape (rows, dim), float32
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss as faiss_module
import numpy as np
from numpy.typing import NDArray

from loadtest.bench_rows import Row, write_rows
from loadtest.faiss_ivf import InvertedFiles
from services.retriever.columns import Columns, ColumnsView
from services.retriever.dense import EF_CONSTRUCTION, NEIGHBOURS, Dense, DenseView, normalised
from services.retriever.filters import passing
from services.retriever.lexical import Lexical, merge, words_of
from services.retriever.order import Mask
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32

# FAISS's type stubs know little of what its Python wrappers do.
faiss: Any = faiss_module

SHARES = (1.0, 0.5, 0.25, 0.1, 0.01, 0.001)
HNSW_EFFORT = 128
RECALL = 0.99
# Wanted of the planner beside inverted files of equal recall, where no more than this share is allowed.
_IVF_RATIO, _IVF_SHARE = 12.0, 0.01
WORDS = ("red", "blue", "lamp", "shoe", "table", "wool", "light", "cotton", "running", "garden", "kitchen", "pro")

Search = Callable[[Float32], NDArray[np.int64]]


def clustered(rows: int, dim: int, random: np.random.Generator) -> Float32:
    """Vectors around rows / 100 centres, shape (rows, dim), at length 1."""
    centres = random.standard_normal((max(1, rows // 100), dim), dtype=np.float32)
    vectors = centres[random.integers(len(centres), size=rows)]
    vectors += 0.6 * random.standard_normal((rows, dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def shuffled(path: Path, random: np.random.Generator) -> Float32:
    """The vectors of a .npy file of shape (rows, dim), at length 1: a catalogue stands in some order."""
    vectors: Float32 = random.permutation(np.load(path).astype(np.float32, copy=False))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def build(vectors: Float32, random: np.random.Generator, threads: int) -> tuple[DenseView, ColumnsView, Lexical]:
    """The items behind the vectors, with titles of four common words and one of their own."""
    columns, words = Columns(), Lexical()
    space = Dense(types_pb2.SPACE_CONTENT, "bench", vectors.shape[1], build_threads=threads)
    for number, vector in enumerate(vectors):
        title = " ".join([*random.choice(WORDS, 4), f"model{number}"])
        item = types_pb2.Item(
            id=f"i{number}", title=title, brand=f"b{number % 300}", price=number % 500, currency="EUR"
        )
        slot = columns.add(item)
        words.add(slot, words_of(item))
        space.add_slot()
        space.put(slot, vector)
    table = columns.view()
    while space.due():
        began = time.perf_counter()
        space.swap(space.build(space.view(), table, lambda: None), table)
        kind, took = space.view().base.kind, time.perf_counter() - began
        print(f"index ({kind}) of {len(vectors)} x {vectors.shape[1]} built in {took:.1f} s")
    began = time.perf_counter()
    view = words.view()
    words.swap(merge(view, table), view)
    print(f"words of {len(vectors)} items merged in {time.perf_counter() - began:.1f} s")
    return space.view(), table, words


def compare(
    view: DenseView,
    table: ColumnsView,
    files: InvertedFiles,
    tuned_by: Float32,
    queries: Float32,
    k: int,
    random: np.random.Generator,
    threads: int,
) -> list[Row]:
    """A line a share of allowed items, and two rows: recall against exact search and latency of each way of searching.

    tuned_by: the queries that the probes of the inverted files are chosen by, none of `queries`.
    """
    flat = faiss.IndexFlatIP(view.dim)
    flat.add(view.base.vectors)
    graph = _graph(view, threads)
    faiss.omp_set_num_threads(1)
    print(f"\nk = {k}; recall, median / 95th percentile in ms over {len(queries)} queries, one thread")
    heads = ("planner", "always Flat", f"always HNSW, ef {HNSW_EFFORT}", "inverted files, tuned")
    print(f"{'allowed':>9} {heads[0]:>31} {heads[1]:>24} {heads[2]:>24} {heads[3]:>24}")
    rows = []
    for share in SHARES:
        mask = random.random(table.size) < share
        mask[0] = False

        def exact(query: Float32, mask: Mask = mask) -> set[int]:
            return set(view.search(query, mask, table, k, exact=True)[0].tolist())

        tuned = files.tuned(mask, tuned_by, [exact(query) for query in tuned_by], k, RECALL)
        plans: set[str] = set()
        ways: tuple[Search, ...] = (
            _planner(view, table, mask, k, plans),
            _always(flat, view, mask, k, 0),
            _always(graph, view, mask, k, HNSW_EFFORT),
            partial(tuned.search, mask=mask, k=k),
        )
        times: tuple[list[float], ...] = tuple([] for _ in ways)
        hits = np.zeros(len(ways))
        wanted = 0
        for query in queries:
            expected = exact(query)
            wanted += len(expected)
            for number, way in enumerate(ways):
                began = time.perf_counter()
                slots = way(query)
                times[number].append((time.perf_counter() - began) * 1000)
                hits[number] += len(expected & set(slots.tolist()))
        recalls = hits / wanted
        cells = [
            f"{recall:.3f} {np.median(taken):6.2f} / {np.percentile(taken, 95):6.2f}"
            for recall, taken in zip(recalls, times, strict=True)
        ]
        plan = "+".join(sorted(plans))
        print(f"{share:>9.1%} {plan:>6} {' '.join(f'{cell:>24}' for cell in cells)} {tuned.name} {tuned.probes} probes")
        what = f"{share:.1%} of {table.size - 1} items allowed, k = {k}, p50 (recall {recalls[0]:.3f})"
        middle = float(np.median(times[0]))
        beside_flat, _, beside_files = (float(np.median(np.array(each) / np.array(times[0]))) for each in times[1:])
        reached = bool(recalls[0] >= RECALL and beside_flat >= 1)
        rows.append(Row(what, middle, "ms", "Flat with a selector", beside_flat, "recall >= .99, ratio >= 1", reached))
        baseline = f"{tuned.name}, {tuned.probes} probes, recall {recalls[3]:.3f}, {np.median(times[3]):.3g} ms"
        goal = f">= {_IVF_RATIO:g} x" if share <= _IVF_SHARE else None
        reached = beside_files >= _IVF_RATIO
        rows.append(Row(what, middle, "ms", baseline, beside_files, goal, reached if goal else None))
    return rows


def _planner(view: DenseView, table: ColumnsView, mask: Mask, k: int, plans: set[str]) -> Search:
    def run(query: Float32) -> NDArray[np.int64]:
        slots, _, plan = view.search(query, mask, table, k)
        plans.add(plan)
        return slots

    return run


def _graph(view: DenseView, threads: int) -> Any:
    """FAISS's graph of the vectors: the retriever's own where it has one."""
    if view.base.graph:
        return view.base.index
    faiss.omp_set_num_threads(threads)
    graph = faiss.IndexHNSWFlat(view.dim, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = EF_CONSTRUCTION
    graph.add(view.base.vectors)
    return graph


def _always(index: Any, view: DenseView, mask: Mask, k: int, effort: int) -> Search:
    """One FAISS index with a bitmap selector, made for each query as a service has to."""

    def run(query: Float32) -> NDArray[np.int64]:
        bitmap = np.packbits(np.take(mask, view.base_slots), bitorder="little")
        selector = faiss.IDSelectorBitmap(bitmap)
        if effort:
            parameters = faiss.SearchParametersHNSW(efSearch=effort, sel=selector)
        else:
            parameters = faiss.SearchParameters(sel=selector)
        rows = index.search(query[None], k, params=parameters)[1][0]
        slots: NDArray[np.int64] = view.base_slots[rows[rows >= 0]].astype(np.int64)
        return slots

    return run


def others(table: ColumnsView, words: Lexical) -> list[Row]:
    """What words and filters cost: lines and rows."""
    view = words.view()
    price = retriever_pb2.Filter(price=retriever_pb2.PriceRange(min=10, max=20))
    brand = retriever_pb2.Filter(brand=retriever_pb2.StringList(values=["B7", "b8", "b9"]))
    both = retriever_pb2.Filter(all=retriever_pb2.FilterList(filters=[price, brand]))
    print()
    runs: dict[str, Callable[[], object]] = {
        "one rare word": lambda: view.search("model77", table.shown, table, 100),
        "three common words": lambda: view.search("red running shoe", table.shown, table, 100),
        "filter: price and brand": lambda: passing(both, table),
    }
    rows = []
    for name, run in runs.items():
        times = []
        for _ in range(30):
            began = time.perf_counter()
            run()
            times.append((time.perf_counter() - began) * 1000)
        print(f"{name:<26} {np.median(times):7.2f} ms")
        rows.append(Row(f"{name}, {table.size - 1} items, p50", float(np.median(times)), "ms"))
    return rows


def main() -> None:
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--vectors", type=Path, help="a .npy file, in place of --items and --dim")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2, help="threads of the build; searches use one")
    arguments = parser.parse_args()
    random = np.random.default_rng(7)
    if arguments.vectors:
        vectors = shuffled(arguments.vectors, random)
    else:
        vectors = clustered(arguments.items + 2 * arguments.queries, arguments.dim, random)
    # Queries are drawn as the items are, and none is an item.
    items = len(vectors) - 2 * arguments.queries
    queries = np.stack([normalised(query) for query in vectors[items:]])
    view, table, words = build(vectors[:items], random, arguments.threads)
    del vectors
    began = time.perf_counter()
    files = InvertedFiles(view.base.vectors, view.base_slots.astype(np.int64), arguments.threads)
    print(f"inverted files built in {time.perf_counter() - began:.1f} s")
    faiss.omp_set_num_threads(1)
    timed, tuned_by = np.split(queries, 2)
    rows = [
        row for k in (10, 100) for row in compare(view, table, files, tuned_by, timed, k, random, arguments.threads)
    ]
    rows += others(table, words)
    print(f"next: read {write_rows('retriever', rows)}")


if __name__ == "__main__":
    main()
