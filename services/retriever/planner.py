"""Exact or ANN, and how broad: chosen from how many vectors may be returned, so that recall holds at any filter."""

import math
from dataclasses import dataclass

# Below this an exact search costs no more than an ANN one.
ANN_ROWS = 20_000
# FAISS's HNSW32 looks at about this many vectors a step, each at the price of one row of an exact search (measured by
# loadtest/retriever_bench.py: a quiet core takes 2.2 us a step and .074 us a row at 384 dimensions).
ROWS_PER_STEP = 30
# Its queue is searched from end to end at each step: beyond this breadth that costs more than the vectors.
MAX_EFFORT = 4096
DEFAULT_EFFORT = 128
# Steps for each item wanted, where every item may be returned. Measured on clusters no larger than k, where a walk has
# to leave the cluster it is in: 2 gives a recall of .92 at k = 100 and half of the items allowed, 4 gives .97.
STEPS_PER_ITEM = 5
# What is above was measured with so many rows. Of more a walk must be broader for the same recall and each of its steps
# finds less of the graph in the processor's cache: both by about the root of how many times as many. Of a million 128
# steps gave a recall of .976 at k = 10, 192 and more .991, at 5 to 7 us each. With a tenth allowed 22 ms of walking
# gave .991, where looking at all of it takes 38: taken, since it misses nothing.
MEASURED_ROWS = 200_000


@dataclass(frozen=True)
class Plan:
    """How one vector search runs: "exact", or "ann" with HNSW's ef."""

    kind: str
    effort: int = 0


EXACT = Plan("exact")


def choose(rows: int, allowed: int, k: int, ann: bool, exact: bool = False, effort: int = 0) -> Plan:
    """The cheapest plan that keeps recall.

    rows: vectors in the index; allowed: how many of them may be returned; k: how many are wanted; ann: whether the
    index has a graph; exact: whether the caller insists; effort: the caller's breadth for an unfiltered search, 0 for
    the default. A graph search meets items that may not be returned as often as others, so its breadth grows as
    rows / allowed; where that costs more than looking at every allowed vector, looking is also exact.
    """
    if exact or not ann or allowed <= k:
        return EXACT
    growth = math.sqrt(max(1.0, rows / MEASURED_ROWS))
    wanted = max(effort or int(growth * DEFAULT_EFFORT), STEPS_PER_ITEM * k) * rows // allowed
    if wanted > MAX_EFFORT or wanted * ROWS_PER_STEP * growth >= allowed:
        return EXACT
    return Plan("ann", wanted)
