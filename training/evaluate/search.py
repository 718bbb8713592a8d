"""Search quality on judged queries, through the API that a shop's callers use: what is measured is what is served."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.domain.text import scripts_of
from souk import SyncClient, filters
from souk.embedder.v1 import embedder_pb2
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2
from training.evaluate.bootstrap import Difference, paired_bootstrap
from training.evaluate.metrics import RULES, measure, ndcg

DEPTH = 200
"""Items asked for a query: all that the gateway holds ready for the pages of an answer, as it is set by default."""
_PAGE = 100
_SECONDS = 30.0


@dataclass(frozen=True)
class Measures:
    """What systems reached: system -> measure -> float64 (queries,), in the order of `queries`.

    `degraded` counts the answers of "hybrid" that a substitute had a part in, by stage and reason.
    """

    queries: list[str]
    systems: dict[str, dict[str, NDArray[np.float64]]]
    degraded: Counter[str]

    def gain(self, measure: str, system: str = "hybrid", baseline: str = "bm25") -> Difference:
        """The paired difference of two systems in one measure."""
        return paired_bootstrap(self.systems[system][measure], self.systems[baseline][measure])

    def of(self, chosen: list[int]) -> "Measures":
        """The same of some queries alone."""
        systems = {
            name: {measure: values[chosen] for measure, values in measures.items()}
            for name, measures in self.systems.items()
        }
        return Measures([self.queries[i] for i in chosen], systems, self.degraded)

    def by_script(self) -> dict[str, "Measures"]:
        """The same by the script that most letters of a query are written in ("latin", "han"; "none": no letters)."""
        rows: dict[str, list[int]] = {}
        for i, query in enumerate(self.queries):
            shares = scripts_of(query)
            rows.setdefault(max(shares, key=lambda script: shares[script]) if shares else "none", []).append(i)
        return {script: self.of(chosen) for script, chosen in rows.items()}

    def to_json(self) -> dict[str, object]:
        """Means of every system, and what the paired bootstrap says of hybrid against bm25."""
        said: dict[str, object] = {"queries": len(self.queries)}
        for name, measures in self.systems.items():
            said[name] = {measure: float(values.mean()) for measure, values in measures.items()}
        for rule in RULES:
            gain = self.gain(f"ndcg@10_{rule}")
            said[f"gain_{rule}"] = {"mean": gain.mean, "low": gain.low, "high": gain.high}
            said[f"p_value_{rule}"] = gain.p_value
        return said


def measure_search(shop: SyncClient, grades: Mapping[str, Mapping[str, int]], told: Callable[[], None]) -> Measures:
    """Asks every query of words alone ("bm25"), of vectors alone ("dense") and of the gateway ("hybrid").

    grades: by item for every query. `told` is called after each. Raises grpc.aio.AioRpcError.
    """
    measured: dict[str, list[dict[str, float]]] = {"bm25": [], "dense": [], "hybrid": []}
    degraded: Counter[str] = Counter()
    for query, judged in grades.items():
        served, substitutes = by_gateway(shop, query)
        degraded.update(substitutes)
        ranked = {"bm25": by_words(shop, query), "dense": by_meaning(shop, query), "hybrid": served}
        for name, ids in ranked.items():
            measured[name].append(measure(ids, judged))
        told()
    systems = {name: {one: np.array([row[one] for row in rows]) for one in rows[0]} for name, rows in measured.items()}
    return Measures(list(grades), systems, degraded)


def by_words(shop: SyncClient, query: str) -> list[str]:
    """What the words alone find, as the bundle that serves has them scored."""
    leg = retriever_pb2.Leg(name="words", words=retriever_pb2.WordsLeg(query=query))
    request = retriever_pb2.SearchRequest(legs=[leg], k=DEPTH, filter=filters.in_stock())
    return list(shop.retrieve(request, timeout=_SECONDS).candidates.id)


def by_meaning(shop: SyncClient, query: str) -> list[str]:
    """What the vectors alone find; nothing where the encoder cannot read the query."""
    embedded = shop.embed([query], role=embedder_pb2.ROLE_QUERY, timeout=_SECONDS)
    if not embedded.readings[0].covered:
        return []
    return list(shop.nearest(embedded.vectors[0], DEPTH, filter=filters.in_stock(), timeout=_SECONDS).id)


def by_gateway(shop: SyncClient, query: str) -> tuple[list[str], set[str]]:
    """What is served, over all pages, and which substitutes had a part in it, as "stage: REASON"."""
    ids: list[str] = []
    substitutes: set[str] = set()
    token = ""
    while len(ids) < DEPTH:
        answer = shop.search(query, page_size=_PAGE, page_token=token, timeout=_SECONDS)
        ids += [hit.item_id for hit in answer.hits]
        for one in answer.info.degradations:
            reason = types_pb2.DegradationReason.Name(one.reason).removeprefix("DEGRADATION_REASON_")
            substitutes.add(f"{one.stage}: {reason}")
        token = answer.info.next_page_token
        if not token:
            break
    return ids, substitutes


def as_served(shop: SyncClient, grades: Mapping[str, Mapping[str, int]]) -> Iterator[dict[str, float]]:
    """The measures of the gateway's answers, query by query."""
    for query, judged in grades.items():
        yield measure(by_gateway(shop, query)[0], judged)


def popular(shop: SyncClient, grades: Mapping[str, Mapping[str, int]]) -> float:
    """Mean nDCG@10 of the shop's most popular items, the same for every query: what any search must be far above."""
    ranked = [hit.item_id for hit in shop.recommend(types_pb2.SCENE_HOME, page_size=10).hits]
    return float(np.mean([ndcg(ranked, judged) for judged in grades.values()]))
