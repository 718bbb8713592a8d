"""Exact, by codes or by a graph, and how broad: chosen from how many vectors may be returned, so that recall holds at
any filter."""

import math
from dataclasses import dataclass

from services.retriever.codes import Codes

# Below this comparing all vectors costs no more than what is saved.
CODED_ROWS = 10_000
# A graph is for vectors that codes cannot tell apart. Where they can a walk is three times as fast and misses too much:
# among 250,000 texts with near equals one query in 70 found less than half of what is near (docs/performance.md).
GRAPH_ROWS = 20_000
# Prices, in vectors picked out of all and compared: so many codes are looked through for one, so many vectors are
# compared in their order, and a step of FAISS's HNSW32 costs so many. Of 100,000 x 384 a picked one takes .2 us, all
# codes 1.4 ms, all vectors 5.8 ms, 256 steps 1.1 ms and 1,000 steps 3.9 (loadtest/retriever_bench.py and walks with a
# cache that others have filled; 2 vCPU AMD EPYC with AVX-512, 2026-11-23).
CODES_PER_ROW = 12
ROWS_IN_ORDER_PER_ROW = 3
ROWS_PER_STEP = 20
# Its queue is searched from end to end at each step: beyond this breadth that costs more than the vectors.
MAX_EFFORT = 4096
DEFAULT_EFFORT = 128
# Steps for each item wanted, where every item may be returned. Measured on clusters no larger than k, where a walk has
# to leave the cluster it is in: 2 gives a recall of .92 at k = 100 and half of the items allowed, 4 gives .97.
STEPS_PER_ITEM = 5
# What is above was measured with so many rows. Of more a walk must be broader for the same recall and each of its steps
# finds less of the graph in the processor's cache: both by about the root of how many times as many. Of a million 128
# steps gave a recall of .976 at k = 10, 192 and more .991, at 5 to 7 us each.
MEASURED_ROWS = 200_000


@dataclass(frozen=True)
class Plan:
    """How one vector search runs: "exact", "codes", or "ann" with HNSW's ef."""

    kind: str
    effort: int = 0


EXACT = Plan("exact")


def choose(
    rows: int, allowed: int, k: int, codes: Codes | None, graph: bool, *, exact: bool = False, effort: int = 0
) -> Plan:
    """The cheapest plan that keeps recall.

    rows: vectors in the index; allowed: how many of them may be returned; k: how many are wanted; codes: those of the
    rows, if there are any; graph: whether there is one; exact: whether the caller insists; effort: the caller's breadth
    for an unfiltered walk, 0 for the default. A walk meets items that may not be returned as often as others, so its
    breadth grows as rows / allowed; codes are looked through whether they are allowed or not.
    """
    if exact or allowed <= k:
        return EXACT
    plans = [(allowed / (ROWS_IN_ORDER_PER_ROW if allowed == rows else 1), EXACT)]
    if codes is not None:
        plans.append((rows / CODES_PER_ROW + codes.compared(k), Plan("codes")))
    elif graph:
        growth = math.sqrt(max(1.0, rows / MEASURED_ROWS))
        steps = int((effort or growth * max(DEFAULT_EFFORT, STEPS_PER_ITEM * k)) * rows / allowed)
        if steps <= MAX_EFFORT:
            plans.append((steps * ROWS_PER_STEP * growth, Plan("ann", steps)))
    return min(plans, key=lambda plan: plan[0])[1]
