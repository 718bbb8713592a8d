"""How searches are best scored on judged queries: BM25F alone and with vectors, tried equally often, and what of it
holds on queries that had no part in the choice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.domain.search import Bm25f, SearchManifest
from souk import SyncClient, filters
from souk.embedder.v1 import embedder_pb2
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2
from training.evaluate.bootstrap import paired_bootstrap
from training.evaluate.metrics import RULES, condensed_ndcg, ndcg
from training.tune.folds import FOLDS, fold_of, query_key
from training.tune.fusion import CANDIDATES, DEPTH, Leg, fuse
from training.tune.kept import Kept
from training.tune.trials import Trial

_SECONDS = 30.0
_VECTORS_AT_ONCE = 1000

Reached = NDArray[np.float64]
"""nDCG@10 under both rules: float64 (queries, 2), in the order of RULES."""


@dataclass(frozen=True)
class Chosen:
    """What the folds chose of a list of trials.

    `reached`: every query scored by the trial that the other folds chose. `by_fold`: that trial of each fold. `best`:
    the choice of all queries. `defaults`: what the first trial, the defaults, reached.
    """

    reached: Reached
    by_fold: list[int]
    best: int
    defaults: Reached


@dataclass(frozen=True)
class Tuned:
    """The outcome of tuning: the search part to serve, and what it was chosen from."""

    queries: list[str]
    bm25f: list[Bm25f]
    trials: list[Trial]
    bm25: Chosen
    hybrid: Chosen

    @property
    def manifest(self) -> SearchManifest:
        """The way of scoring that all queries together chose."""
        return _manifest(self.bm25f, self.trials[self.hybrid.best])

    def to_json(self) -> dict[str, object]:
        """Out-of-fold means, what each fold chose, the folds as hashes, and hybrid against BM25F tuned as often."""
        said: dict[str, object] = {"queries": len(self.queries), "trials": len(self.trials)}
        for name, chosen in (("bm25", self.bm25), ("hybrid", self.hybrid)):
            said[name] = _means(chosen.reached)
            said[f"{name}_defaults"] = _means(chosen.defaults)
        for column, rule in enumerate(RULES):
            gain = paired_bootstrap(self.hybrid.reached[:, column], self.bm25.reached[:, column])
            said[f"gain_{rule}"] = {"mean": gain.mean, "low": gain.low, "high": gain.high}
            said[f"p_value_{rule}"] = gain.p_value
        said["bm25_chosen"] = [asdict(self.bm25f[trial]) for trial in self.bm25.by_fold]
        said["hybrid_chosen"] = [asdict(_manifest(self.bm25f, self.trials[one])) for one in self.hybrid.by_fold]
        said["folds"] = {query_key(query): fold_of(query) for query in self.queries}
        return said


def tune_search(
    shop: SyncClient,
    items: Sequence[str],
    grades: Mapping[str, Mapping[str, int]],
    bm25f: list[Bm25f],
    trials: list[Trial],
    kept: Kept,
    told: Callable[[int], None],
) -> Tuned:
    """Tries ways of scoring by words alone and as many by words and vectors, on the shop that runs.

    items: the ids it holds. grades: by item for every query. kept: queries that it holds are not asked again. `told` is
    told of so many further searches for words, as many a query as there are trials. Raises ValueError where a fold has
    no query, and grpc.aio.AioRpcError.
    """
    queries = list(grades)
    folds = np.array([fold_of(query) for query in queries])
    if len(set(folds.tolist())) < FOLDS:
        raise ValueError(f"judgements: {len(queries)} queries; too few for {FOLDS} folds with one each")
    place = {item_id: i for i, item_id in enumerate(items)}
    rows = []
    for query in queries:
        row = kept.of(query)
        if row is None:
            row = _asked(shop, query, items, place, grades[query], bm25f, trials, told)
            kept.add(query, row)
        else:
            told(len(bm25f))
        rows.append(row)
    # (queries, 2, trials, rules) -> (2, trials, queries, rules)
    alone, together = np.stack(rows).transpose(1, 2, 0, 3)
    return Tuned(queries, bm25f, trials, choose(alone, folds), choose(together, folds))


def _asked(
    shop: SyncClient,
    query: str,
    items: Sequence[str],
    place: Mapping[str, int],
    grades: Mapping[str, int],
    bm25f: Sequence[Bm25f],
    trials: Sequence[Trial],
    told: Callable[[int], None],
) -> NDArray[np.float64]:
    """What the query reaches by words alone and by words and vectors: float64 (2, trials, 2)."""
    words = []
    for parameters in bm25f:
        words.append(_words(shop, query, parameters, place))
        told(1)
    meaning = _meaning(shop, query, items, place, words)
    if len(meaning.items):
        near = _whole(shop, query, meaning.items, items)
        words = [replace(leg, whole=np.union1d(leg.whole, near)) for leg in words]
    alone = [_reached(leg.items[:CANDIDATES], items, grades) for leg in words]
    fused = [fuse(words[trial.words], meaning, trial.words_weight, trial.fusion) for trial in trials]
    return np.array([alone, [_reached(found, items, grades) for found in fused]])


def choose(reached: NDArray[np.float64], folds: NDArray[np.int64]) -> Chosen:
    """What cross-validation chooses by the mean of both rules.

    reached: float64 (trials, queries, 2); folds: int64 (queries,), the fold of each query.
    """
    held_out = np.empty_like(reached[0])
    by_fold = []
    for fold in range(FOLDS):
        others = folds != fold
        by_fold.append(_first_as_good_as_the_best(reached[:, others]))
        held_out[~others] = reached[by_fold[-1], ~others]
    return Chosen(held_out, by_fold, _first_as_good_as_the_best(reached), reached[0])


def _first_as_good_as_the_best(reached: NDArray[np.float64]) -> int:
    """The first trial that lies within one standard error of the best (Breiman, Friedman, Olshen, Stone 1984).

    On a hundred queries the best of many trials is mostly the luckiest: so the defaults stay until clearly beaten.
    """
    each = reached.mean(axis=2)
    behind = each[each.mean(axis=1).argmax()] - each
    error = behind.std(axis=1, ddof=1) / np.sqrt(behind.shape[1])
    return int((behind.mean(axis=1) <= error).argmax())


def _manifest(bm25f: Sequence[Bm25f], trial: Trial) -> SearchManifest:
    return SearchManifest(bm25f[trial.words], trial.words_weight, trial.fusion)


def _means(reached: Reached) -> dict[str, float]:
    return {f"ndcg@10_{rule}": float(reached[:, column].mean()) for column, rule in enumerate(RULES)}


def _reached(found: NDArray[np.int64], items: Sequence[str], grades: Mapping[str, int]) -> tuple[float, float]:
    ranked = [items[place] for place in found.tolist()]
    return ndcg(ranked, grades), condensed_ndcg(ranked, grades)


def _words(shop: SyncClient, query: str, bm25f: Bm25f, place: Mapping[str, int]) -> Leg:
    parameters = retriever_pb2.Bm25f(**asdict(bm25f))
    words = retriever_pb2.WordsLeg(query=query, bm25f=parameters)
    leg = retriever_pb2.Leg(name="words", words=words)
    request = retriever_pb2.SearchRequest(legs=[leg], k=DEPTH, filter=filters.in_stock())
    answer = shop.retrieve(request, timeout=_SECONDS)
    found = answer.candidates
    places = np.array([place[one] for one in found.id], np.int64)
    whole = places[np.array(found.legs[0].whole, np.bool_)]
    return Leg(places, np.array(found.legs[0].score, np.float64), answer.reports[0].certainty, whole)


def _whole(shop: SyncClient, query: str, near: NDArray[np.int64], items: Sequence[str]) -> NDArray[np.int64]:
    """Which of the items near the query hold all of its words, however deep words alone would find them."""
    ids = [types_pb2.ScoredId(item_id=items[one], score=1.0) for one in near.tolist()]
    # So light that none but those listed is among the first.
    words = retriever_pb2.Leg(name="words", words=retriever_pb2.WordsLeg(query=query), weight=1e-6)
    listed = retriever_pb2.Leg(name="near", ids=retriever_pb2.IdsLeg(items=ids))
    request = retriever_pb2.SearchRequest(legs=[words, listed], k=len(ids), filter=filters.in_stock())
    found = shop.retrieve(request, timeout=_SECONDS).candidates
    place = dict(zip((one.item_id for one in ids), near.tolist(), strict=True))
    told = zip(found.id, found.legs[0].whole, strict=True)
    return np.array([place[item_id] for item_id, holds in told if holds], np.int64)


def _meaning(shop: SyncClient, query: str, items: Sequence[str], place: Mapping[str, int], words: Sequence[Leg]) -> Leg:
    """What is near the query, and how near what words found is; nothing where the encoder cannot read the query."""
    embedded = shop.embed([query], role=embedder_pb2.ROLE_QUERY, timeout=_SECONDS)
    if not embedded.readings[0].covered:
        return Leg(np.empty(0, np.int64), np.empty(0))
    vector = embedded.vectors[0]
    found = shop.nearest(vector, DEPTH, filter=filters.in_stock(), timeout=_SECONDS)
    near = np.array([place[one] for one in found.id], np.int64)
    others = np.setdiff1d(np.concatenate([leg.items for leg in words]), near)
    held, cosines = [], []
    for start in range(0, len(others), _VECTORS_AT_ONCE):
        part = others[start : start + _VECTORS_AT_ONCE]
        asked = shop.vectors([items[one] for one in part.tolist()], timeout=_SECONDS)
        held.append(part[asked.present])
        cosines.append(asked.vectors[asked.present] @ (vector / np.linalg.norm(vector)))
    reached = Leg(np.concatenate(held), np.concatenate(cosines).astype(np.float64)) if held else None
    return Leg(near, np.array(found.score, np.float64), others=reached)
