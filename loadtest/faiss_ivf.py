"""FAISS's inverted files with a selector, tuned: what a filtered search is measured against.

For each filter the lists, the codes and the probes are those that answered soonest among all that reach a recall, by
queries that are not timed later.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss as faiss_module
import numpy as np
from numpy.typing import NDArray

from services.retriever.order import Mask
from souk.vectors import Float32

# FAISS's type stubs know little of what its Python wrappers do.
faiss: Any = faiss_module

LISTS = (256, 1_024, 4_096)
# Rows that a list's centre is trained on; FAISS warns below 39. Fewer rows than that get fewer lists.
_TRAINED_ON = 40


@dataclass(frozen=True)
class Tuned:
    """An index, how many of its lists are read, and the recall that it was chosen by."""

    name: str
    index: Any
    probes: int
    recall: float

    def search(self, query: Float32, mask: Mask, k: int) -> NDArray[np.int64]:
        """Slots of the k nearest to a query of shape (dim,) among those that the mask allows, fewer where the lists
        read hold fewer. The selector is made of the mask each time, as a service has to."""
        # FAISS keeps no reference to what it is given: the bitmap must outlive the search.
        bitmap = np.packbits(mask, bitorder="little")
        parameters = faiss.SearchParametersIVF(nprobe=self.probes, sel=faiss.IDSelectorBitmap(bitmap))
        found: NDArray[np.int64] = self.index.search(query[None], k, params=parameters)[1][0]
        return found[found >= 0]


class InvertedFiles:
    """Float32 vectors and 8-bit codes of them, each in several numbers of lists. Searches are of one thread.

    vectors: shape (n, dim), at length 1; slots: the number that a search calls each by; threads: of the build.
    """

    def __init__(self, vectors: Float32, slots: NDArray[np.int64], threads: int, seed: int = 1) -> None:
        rows, dim = vectors.shape
        faiss.omp_set_num_threads(threads)
        self._indexes: dict[str, Any] = {}
        for lists in [each for each in LISTS if each * _TRAINED_ON <= rows] or LISTS[:1]:
            drawn = np.random.default_rng(seed).permutation(rows)[: _TRAINED_ON * lists]
            sample = vectors[np.sort(drawn)]
            centres = faiss.IndexFlatIP(dim)
            inner = faiss.METRIC_INNER_PRODUCT
            eight = faiss.ScalarQuantizer.QT_8bit
            indexes = {
                f"IVF{lists},Flat": faiss.IndexIVFFlat(centres, dim, lists, inner),
                f"IVF{lists},SQ8": faiss.IndexIVFScalarQuantizer(centres, dim, lists, eight, inner),
            }
            for index in indexes.values():
                # The centres are trained with the first; the second finds them made.
                index.train(sample)
            pointer = faiss.swig_ptr
            nearest = np.ascontiguousarray(centres.search(vectors, 1)[1][:, 0])
            for index in indexes.values():
                index.add_core(rows, pointer(vectors), pointer(slots), pointer(nearest))
            self._indexes |= indexes
        faiss.omp_set_num_threads(1)

    def tuned(self, mask: Mask, queries: Float32, nearest: Sequence[set[int]], k: int, recall: float) -> Tuned:
        """The fastest that reaches a recall@k under a filter. queries: shape (n, dim), to choose by; nearest: slots of
        the k nearest to each."""
        found = []
        for name, index in self._indexes.items():
            chosen = _fewest(name, index, mask, queries, nearest, k, recall)
            if chosen.recall >= recall:
                found.append((_middle(chosen, mask, queries, k), chosen))
        # All lists of float32 vectors are an exact search: one is always there.
        return min(found, key=lambda one: one[0])[1]


def recall_of(answers: Sequence[set[int]], nearest: Sequence[set[int]]) -> float:
    """The share of what is nearest that the answers hold."""
    return sum(len(found & near) for found, near in zip(answers, nearest, strict=True)) / sum(map(len, nearest))


def _fewest(
    name: str, index: Any, mask: Mask, queries: Float32, nearest: Sequence[set[int]], k: int, recall: float
) -> Tuned:
    """With the fewest probes that reach a recall, by halving; with all lists where none do."""

    def trial(probes: int) -> Tuned:
        tried = Tuned(name, index, probes, 0.0)
        answers = [set(tried.search(query, mask, k).tolist()) for query in queries]
        return Tuned(name, index, probes, recall_of(answers, nearest))

    low, best = 0, trial(index.nlist)
    while best.recall >= recall and best.probes - low > 1:
        tried = trial((low + best.probes) // 2)
        if tried.recall >= recall:
            best = tried
        else:
            low = tried.probes
    return best


def _middle(tuned: Tuned, mask: Mask, queries: Float32, k: int) -> float:
    """Median seconds of a search."""
    taken = []
    for query in queries:
        began = time.perf_counter()
        tuned.search(query, mask, k)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))
