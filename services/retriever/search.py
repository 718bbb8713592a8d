"""A checked search over one view of the indexes -> candidates with their features."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from services.domain.checks import check_vector
from services.retriever.columns import NOBODY, ColumnsView
from services.retriever.dense import UNCOVERED, DenseView
from services.retriever.filters import passing
from services.retriever.fusion import Found, Fused, fuse
from services.retriever.offers import offers
from services.retriever.order import Mask, Slots, ranked
from services.retriever.rules import SearchRules
from services.retriever.view import View
from services.runtime.errors import FailedPrecondition, NotFound
from services.runtime.telemetry import StageClock
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_matrix

# Where legs are fused each goes deeper than k: an item that two legs place just behind k may belong among the first k.
FUSION_DEPTH = 2
MIN_FUSION_DEPTH = 100

LARGEST_FLOAT = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _Search:
    """What all legs of one search share. `depth`: how many items each is to find."""

    view: View
    generation: str
    rules: SearchRules
    mask: Mask
    depth: int
    exact: bool
    effort: int


@dataclass(frozen=True)
class _Answer:
    """What one leg found, and how."""

    slots: Slots
    scores: NDArray[np.float32]
    plan: str
    unknown_ids: int = 0
    vector_missing: bool = False
    vector_uncovered: bool = False
    certainty: float = 1.0
    whole: Callable[[Slots], Mask] | None = None
    """Of a leg of words: which of some allowed slots hold all of the query."""
    cosines: Callable[[Slots], tuple[Slots, Float32]] | None = None
    """Of a vector leg: which of some slots have a vector, and their cosines."""


def search(view: View, request: retriever_pb2.SearchRequest) -> retriever_pb2.SearchResponse:
    """Answers a request that `requests.check_search` passed.

    Raises NotFound where an item leg names an item that is not held; FailedPrecondition where the generation or space
    is not loaded or a vector is of another length than its space.
    """
    clock = StageClock()
    columns = view.columns
    generation = view.generation(request.generation)
    rules = view.rules_of(generation)
    with clock.stage("filter"):
        mask = passing(request.filter if request.HasField("filter") else None, columns)
        allowed = columns.shown_count if mask is columns.shown else int(np.count_nonzero(mask))
        mask = _without(mask, [columns.find(item_id) for item_id in request.exclude_item_ids])
    depth = request.k
    if len(request.legs) > 1:
        depth = max(FUSION_DEPTH * request.k, MIN_FUSION_DEPTH)
    shared = _Search(view, generation, rules, mask, depth, request.exact, request.effort)
    answers = []
    for i, leg in enumerate(request.legs):
        kind = leg.WhichOneof("query") or ""
        with clock.stage(kind):
            answers.append(_LEGS[kind](shared, leg, f"legs[{i}]"))
    with clock.stage("fusion"):
        slots = np.unique(np.concatenate([answer.slots for answer in answers]))
        found = [
            Found(
                answer.slots,
                answer.scores,
                rules.weight_of(leg, request) * answer.certainty,
                _is_cosine(leg),
                None if answer.whole is None else slots[answer.whole(slots)],
            )
            for leg, answer in zip(request.legs, answers, strict=True)
        ]
        how = rules.fusion_of(request)
        if how == retriever_pb2.FUSION_DISCOUNTED:
            found = [_completed(leg, answer, found) for leg, answer in zip(found, answers, strict=True)]
        fused = fuse(found, how, columns, request.k)
        if len(fused.slots) < request.min_k:
            fused = _filled(fused, shared, request)
        candidates = candidate_columns(fused, [leg.name for leg in request.legs], columns)
    reports = [
        retriever_pb2.LegReport(
            leg=leg.name,
            found=len(answer.slots),
            plan=answer.plan,
            unknown_ids=answer.unknown_ids,
            vector_missing=answer.vector_missing,
            vector_uncovered=answer.vector_uncovered,
            certainty=answer.certainty,
        )
        for leg, answer in zip(request.legs, answers, strict=True)
    ]
    return retriever_pb2.SearchResponse(
        candidates=candidates,
        reports=reports,
        allowed=allowed,
        sequence=view.sequence,
        generation=generation,
        timings=clock.timings(),
    )


def get_vectors(view: View, request: retriever_pb2.GetVectorsRequest) -> retriever_pb2.GetVectorsResponse:
    """Answers a request that `requests.check_get_vectors` passed; vectors have length 1.

    Raises FailedPrecondition where the space or its version is not loaded.
    """
    if request.space_version:
        dense = view.version(request.space, request.space_version)
    else:
        dense = view.space(request.space, view.serving)
    matrix = np.zeros((len(request.item_ids), dense.dim), dtype=np.float32)
    presence: list[retriever_pb2.Presence.ValueType] = []
    revisions = []
    for i, item_id in enumerate(request.item_ids):
        slot = view.columns.find(item_id)
        vector = dense.vector(slot) if slot != NOBODY else None
        if vector is not None:
            matrix[i] = vector
        presence.append(_presence(slot, dense))
        revisions.append(int(view.columns.revision[slot]) if vector is not None else 0)
    return retriever_pb2.GetVectorsResponse(
        vectors=pack_matrix(matrix), presence=presence, revisions=revisions, space_version=dense.version
    )


def candidate_columns(fused: Fused, legs: list[str], columns: ColumnsView) -> types_pb2.CandidateColumns:
    """The candidates with all that ranking and a result list need."""
    slots, table = fused.slots, columns.table
    currencies, currency = np.unique(columns.currency[slots], return_inverse=True)
    brands, brand = np.unique(columns.brand[slots], return_inverse=True)
    categories, category = np.unique(columns.category[slots], return_inverse=True)
    rows = slots.tolist()
    return types_pb2.CandidateColumns(
        id=[table.ids[slot] for slot in rows],
        revision=columns.revision[slots].tolist(),
        title=[table.titles[slot] for slot in rows],
        price=columns.price[slots].tolist(),
        currency=currency.tolist(),
        currencies=[table.currencies.values[code] for code in currencies],
        brand=brand.tolist(),
        brands=[table.brands.values[code] for code in brands],
        category=category.tolist(),
        categories=[table.categories.values[code] for code in categories],
        stock=columns.stock[slots].tolist(),
        created_at=(columns.created_us[slots] // 1_000_000).tolist(),
        popularity=np.minimum(columns.popularity[slots], LARGEST_FLOAT).tolist(),
        score=np.clip(fused.scores, -LARGEST_FLOAT, LARGEST_FLOAT).tolist(),
        legs=[
            types_pb2.LegScores(leg=name, score=scores.tolist(), whole=None if whole is None else whole.tolist())
            for name, scores, whole in zip(legs, fused.legs, fused.wholes, strict=True)
        ],
        **offers(slots, columns, time.time()),
    )


def _vector_leg(shared: _Search, leg: retriever_pb2.Leg, path: str) -> _Answer:
    dense = shared.view.space(leg.vector.space, shared.generation)
    query = check_vector(leg.vector.vector, f"{path}.vector.vector")
    if len(query) != dense.dim:
        raise FailedPrecondition(f"{path}.vector.vector.dim: {len(query)}; this space has {dense.dim}")
    return replace(_near(shared, dense, query, shared.mask), cosines=partial(dense.cosines, query))


def _is_cosine(leg: retriever_pb2.Leg) -> bool:
    return leg.WhichOneof("query") in ("vector", "item")


def _item_leg(shared: _Search, leg: retriever_pb2.Leg, path: str) -> _Answer:
    dense = shared.view.space(leg.item.space, shared.generation)
    slot = shared.view.columns.find(leg.item.item_id)
    if slot == NOBODY:
        raise NotFound(f"{path}.item.item_id: the catalogue does not hold {leg.item.item_id!r}")
    others = _without(shared.mask, [slot])
    query = dense.vector(slot)
    if query is None:
        return replace(_by_title(shared, slot, others), vector_uncovered=dense.row(slot) == UNCOVERED)
    return _near(shared, dense, query, others)


def _by_title(shared: _Search, slot: int, others: Mask) -> _Answer:
    """What holds the words of an item's title; scores as shares of the item's own, to stand beside cosines."""
    view, columns = shared.view, shared.view.columns
    title = columns.table.titles[slot]
    itself = np.zeros_like(others)
    itself[slot] = True
    own = view.words.search(title, itself, columns, 1, shared.rules.bm25f).scores
    if not len(own):
        return _Answer(np.empty(0, np.int64), np.empty(0, np.float32), "none", vector_missing=True)
    slots, scores, *_ = view.words.search(title, others, columns, shared.depth, shared.rules.bm25f)
    return _Answer(slots, np.minimum(scores / own[0], 1), "words", vector_missing=True)


def _near(shared: _Search, dense: DenseView, query: Float32, mask: Mask) -> _Answer:
    columns = shared.view.columns
    return _Answer(*dense.search(query, mask, columns, shared.depth, shared.exact, shared.effort))


def _completed(leg: Found, answer: _Answer, legs: Sequence[Found]) -> Found:
    """A vector leg with what legs without cosines found and it did not reach; any other as it is."""
    others = [other.slots for other in legs if not other.cosine]
    if answer.cosines is None or not others:
        return leg
    slots, cosines = answer.cosines(np.setdiff1d(np.concatenate(others), leg.slots))
    return replace(leg, slots=np.concatenate((leg.slots, slots)), scores=np.concatenate((leg.scores, cosines)))


def _words_leg(shared: _Search, leg: retriever_pb2.Leg, path: str) -> _Answer:
    bm25f = shared.rules.bm25f_of(leg.words, f"{path}.words")
    view, synonyms = shared.view, shared.rules.synonyms
    found = view.words.search(leg.words.query, shared.mask, view.columns, shared.depth, bm25f, synonyms)
    return _Answer(found.slots, found.scores, "words", certainty=found.certainty, whole=found.whole)


def _ids_leg(shared: _Search, leg: retriever_pb2.Leg, path: str) -> _Answer:
    """All allowed items of the list, however many: they were chosen already."""
    columns = shared.view.columns
    best: dict[int, float] = {}
    unknown = 0
    for scored in leg.ids.items:
        slot = columns.find(scored.item_id)
        if slot == NOBODY:
            unknown += 1
        elif shared.mask[slot]:
            best[slot] = max(best.get(slot, scored.score), scored.score)
    slots = np.array(list(best), dtype=np.int64)
    scores = np.array(list(best.values()), dtype=np.float32)
    order = ranked(scores, columns.popularity[slots], columns.key[slots])
    return _Answer(slots[order], scores[order], "list", unknown_ids=unknown)


def _popular_leg(shared: _Search, leg: retriever_pb2.Leg, path: str) -> _Answer:
    columns = shared.view.columns
    slots = shared.view.popular.best(shared.mask, columns, shared.depth)
    return _Answer(slots, np.minimum(columns.popularity[slots], LARGEST_FLOAT).astype(np.float32), "popular")


_LEGS: dict[str, Callable[[_Search, retriever_pb2.Leg, str], _Answer]] = {
    "vector": _vector_leg,
    "item": _item_leg,
    "words": _words_leg,
    "ids": _ids_leg,
    "popular": _popular_leg,
}


def _filled(fused: Fused, shared: _Search, request: retriever_pb2.SearchRequest) -> Fused:
    """The candidates with popular items behind them, up to min_k; items that legs start from are not among these."""
    columns = shared.view.columns
    sources = [columns.find(leg.item.item_id) for leg in request.legs if leg.WhichOneof("query") == "item"]
    mask = _without(shared.mask, [*fused.slots.tolist(), *sources])
    more = shared.view.popular.best(mask, columns, request.min_k - len(fused.slots))
    behind = min(0.0, float(fused.scores.min(initial=0.0)))
    return Fused(
        np.concatenate((fused.slots, more)),
        np.concatenate((fused.scores, np.full(len(more), behind))),
        [np.concatenate((scores, np.full(len(more), np.nan, dtype=np.float32))) for scores in fused.legs],
        [None if one is None else np.concatenate((one, np.zeros(len(more), dtype=np.bool_))) for one in fused.wholes],
    )


def _without(mask: Mask, slots: list[int]) -> Mask:
    """The mask without some slots; the same mask where there are none."""
    if not slots:
        return mask
    rest = mask.copy()
    rest[slots] = False
    return rest


def _presence(slot: int, dense: DenseView) -> retriever_pb2.Presence.ValueType:
    if slot == NOBODY:
        return retriever_pb2.PRESENCE_NOT_FOUND
    row = dense.row(slot)
    if row >= 0:
        return retriever_pb2.PRESENCE_PRESENT
    return retriever_pb2.PRESENCE_UNCOVERED if row == UNCOVERED else retriever_pb2.PRESENCE_PENDING
