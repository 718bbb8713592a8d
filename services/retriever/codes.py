"""Four bits for each dimension of a vector: a search looks through all of them in a quarter of the time that vectors
take, whatever a filter allows, and compares exactly what it finds.

Product quantisation (Jégou et al. 2011) of one dimension each, after a random rotation that gives all dimensions their
share, with sums of 8-bit tables held in registers (André et al. 2015), as FAISS has it. How many of the found rows must
be compared for a recall of RECALL is measured on the vectors themselves.
"""

from dataclasses import dataclass
from typing import Any

import faiss as faiss_module
import numpy as np
from numpy.typing import NDArray

from services.domain.largest import kth_largest
from services.retriever.order import Mask
from souk.vectors import Float32

# FAISS's type stubs know little of what its Python wrappers do.
faiss: Any = faiss_module

Rows = NDArray[np.int64]

BITS = 4
# With fewer dimensions too many vectors have the same code.
MIN_DIM = 32
# Rows that the quantiser is trained on; the clusters are of one dimension, which needs no more.
_SAMPLE = 8_000
_ITERATIONS = 8
# What the breadth is measured by: so many queries, wanted so many each.
_QUERIES = 32
_WANTED = 100
RECALL = 0.995
_BREADTHS = (3, 6, 12, 24)
# Of few wanted ones more must be compared for each.
_AT_LEAST = 30
# Scores that differ by less are of equal vectors, or as good as equal.
_EQUAL = 1e-6


@dataclass(frozen=True)
class Codes:
    """The codes of rows of vectors, and how many rows are found for each one wanted."""

    index: Any
    breadth: int

    @property
    def rows(self) -> int:
        """How many there are codes of."""
        return int(self.index.ntotal)

    def compared(self, k: int) -> int:
        """How many rows a scan finds for k wanted ones."""
        return self.breadth * (k + _AT_LEAST)

    def scan(self, query: Float32, k: int, allowed: Mask | None) -> Rows:
        """Rows among which the k nearest to a query of shape (dim,) are, in no order; fewer where fewer are allowed.

        allowed: flags of shape (rows,); None: all.
        """
        # FAISS keeps no reference to what it is given: bitmap and selector must outlive the search.
        bitmap = selector = None
        if allowed is not None:
            bitmap = np.packbits(allowed, bitorder="little")
            selector = faiss.IDSelectorBitmap(bitmap)
        lists = faiss.SearchParametersIVF(nprobe=1, sel=selector)
        parameters = faiss.SearchParametersPreTransform(index_params=lists)
        _, found = self.index.search(query[None], min(self.compared(k), self.rows), params=parameters)
        rows: Rows = found[0][found[0] >= 0]
        return rows

    def copy(self) -> "Codes":
        """One whose index can be added to while searches use this one."""
        return Codes(faiss.clone_index(self.index), self.breadth)


def untrained(dim: int) -> Any:
    """A FAISS index for codes of vectors of so many dimensions."""
    lists = faiss.IndexIVFPQFastScan(faiss.IndexFlatIP(dim), dim, 1, dim, BITS, faiss.METRIC_INNER_PRODUCT)
    lists.pq.cp.niter = _ITERATIONS
    rotation = faiss.RandomRotationMatrix(dim, dim)
    rotation.init(1)
    return faiss.IndexPreTransform(rotation, lists)


def train(index: Any, vectors: Float32) -> None:
    """Learns the quantiser from vectors of shape (rows, dim), of which it takes a sample."""
    index.train(vectors[:: max(1, len(vectors) // _SAMPLE)][:_SAMPLE])


def measured(index: Any, vectors: Float32) -> Codes | None:
    """The codes with the breadth that they need; None where they cannot tell vectors apart well enough to be of use.

    vectors: those behind the rows, shape (rows, dim), at length 1.
    """
    drawn = np.random.default_rng(1).integers(len(vectors), size=(2, _QUERIES))
    queries = vectors[drawn[0]]
    # Half are items, half lie between two.
    queries[::2] += vectors[drawn[1, ::2]]
    queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-12)
    scores = queries @ vectors.T
    k = min(_WANTED, scores.shape[1])
    least = [kth_largest(of_query, k) - _EQUAL for of_query in scores]
    for breadth in _BREADTHS:
        codes = Codes(index, breadth)
        found = [
            min(k, int(np.count_nonzero(of_query[codes.scan(query, k, None)] >= limit)))
            for query, of_query, limit in zip(queries, scores, least, strict=True)
        ]
        if np.mean(found) >= RECALL * k:
            return codes
    return None
