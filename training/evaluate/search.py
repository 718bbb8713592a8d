"""Search quality of a running shop on a dataset's judgements, through the same API that its callers use."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from souk import SyncClient
from souk.types.v1 import types_pb2
from training.evaluate.metrics import condensed_ndcg, ndcg

_BOOTSTRAPS = 1000
_DEPTH = 100


@dataclass(frozen=True)
class Quality:
    """Mean over queries; `interval` is half the width of the 95% bootstrap interval of `as_zero`."""

    queries: int
    as_zero: float
    condensed: float
    interval: float
    judged: float
    """Share of the first ten that was judged at all."""


def evaluate(shop: SyncClient, grades: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, float, float, float]]:
    """Query, nDCG@10 with unjudged items as zero, nDCG@10 condensed, and the judged share of the first ten."""
    for query, judged in grades.items():
        ranked = [hit.item_id for hit in shop.search(query, page_size=_DEPTH, timeout=30).hits]
        share = np.mean([item in judged for item in ranked[:10]]) if ranked else 0.0
        yield query, ndcg(ranked, judged), condensed_ndcg(ranked, judged), float(share)


def popular(shop: SyncClient, grades: Mapping[str, Mapping[str, int]]) -> float:
    """Mean nDCG@10 of the shop's most popular items, the same for every query: what any search must be far above."""
    ranked = [hit.item_id for hit in shop.recommend(types_pb2.SCENE_HOME, page_size=10).hits]
    return float(np.mean([ndcg(ranked, judged) for judged in grades.values()]))


def summary(results: list[tuple[str, float, float, float]]) -> Quality:
    """The means and the interval of one group of queries."""
    table = np.array([row[1:] for row in results])
    draws = np.random.default_rng(0).integers(0, len(table), (_BOOTSTRAPS, len(table)))
    low, high = np.percentile(table[draws, 0].mean(axis=1), [2.5, 97.5])
    as_zero, condensed, judged = table.mean(axis=0)
    return Quality(len(table), float(as_zero), float(condensed), float(high - low) / 2, float(judged))
