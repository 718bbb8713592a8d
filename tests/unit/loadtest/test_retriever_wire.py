"""What the wire bench makes of its turns, and the graph it measures against."""

import numpy as np

from loadtest.retriever_wire import ALONE, BATCHES, ENGINE, FOUR, GRAPH, NOTHING, RECALL, graph_of, in_process, rows_of


def test_ratios_are_of_the_same_turn() -> None:
    turns = {ENGINE: [100.0, 200.0, 400.0], GRAPH: [1e3] * 3, FOUR: [50.0] * 3, NOTHING: [999.0] * 3}
    # Always nine tenths of the engine in its turn, however fast the machine was then; one turn is disturbed.
    rows = rows_of(5, turns | {ALONE: [90.0, 180.0, 1.0], BATCHES: [60.0, 120.0, 240.0]}, 0.98, "a graph")
    found = {(row.name, (row.baseline or "").split(",")[0]): row for row in rows}
    alone, batches = found[ALONE, ENGINE.split(",")[0]], found[BATCHES, ENGINE.split(",")[0]]
    assert (alone.ratio, alone.reached, alone.goal) == (0.9, True, ">= 0.8 x")
    assert (batches.ratio, batches.reached) == (0.6, False)
    assert found[ALONE, "a graph"].reached is None
    assert rows[0].reached is False


def test_the_graph_is_as_narrow_as_the_recall_allows() -> None:
    random = np.random.default_rng(1)
    vectors = random.standard_normal((3_000, 16), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[:50] + 0.1 * random.standard_normal((50, 16), dtype=np.float32)
    nearest = [set(row) for row in np.argsort(-(queries @ vectors.T), axis=1)[:, :10].tolist()]
    graph, effort, recall = graph_of(vectors, queries, nearest)
    assert recall >= RECALL
    graph.hnsw.efSearch = effort // 2
    found = graph.search(queries, 10)[1].tolist()
    assert sum(len(set(row) & near) for row, near in zip(found, nearest, strict=True)) / 500 < RECALL


async def test_searches_in_process_are_counted() -> None:
    asked: list[float] = []
    rate = await in_process(lambda query: asked.append(float(query[0])), np.eye(3, 2, dtype=np.float32))(0.05)
    assert asked[:4] == [1, 0, 0, 1]
    assert 0 < rate <= len(asked) / 0.05
