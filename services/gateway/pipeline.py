"""The map of a request: which stages an answer passes, in what order, and what stands in for each.

Search:     embed ─────────> retrieve ─> page      no vector: words only · no primary: a follower
Similar:    retrieve ─────────────────-> page      no vector of the item: the words of its title
Recommend:  context ───────> retrieve ─> page      no context: popularity
next page:  kept list ─────> retrieve ─> page      list gone: computed again without what was shown
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

from google.protobuf.message import Message

from services.gateway.pages import Pages, PageToken, Ranked, fingerprint
from services.gateway.peers import Peers
from services.gateway.requests import DEFAULT_PAGE_SIZE, allowed
from services.gateway.settings import GatewaySettings
from services.gateway.stages import Journey, StageFailed
from services.gateway.told_back import told_back
from services.runtime.errors import NotFound
from services.runtime.tasks import Background
from souk.embedder.v1 import embedder_pb2
from souk.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from souk.shop.v1 import shop_pb2
from souk.types.v1 import types_pb2

R = TypeVar("R")
_Listing = shop_pb2.SearchRequest | shop_pb2.SimilarRequest | shop_pb2.RecommendRequest

# Shares of the time left that a stage may take; what follows it has the rest.
_EMBED_SHARE = 0.4
_PRIMARY_SHARE = 0.6

# A page refreshed from a kept list asks for so many times its size, since some of it may no longer be shown.
_REFRESH_FACTOR = 3
_ITEMS_OF_A_SCENE = 4


@dataclass(frozen=True)
class Wanted:
    """What every listing request has in common."""

    page_size: int
    before: PageToken | None
    fingerprint: bytes
    filter: retriever_pb2.Filter
    excluded: frozenset[str]
    explain: bool


@dataclass(frozen=True)
class Answer:
    """A page."""

    hits: list[shop_pb2.Hit]
    next_page_token: str


class Pipeline:
    """Composes the processes into answers."""

    def __init__(self, settings: GatewaySettings, peers: Peers, pages: Pages, background: Background) -> None:
        self._settings = settings
        self._peers = peers
        self._pages = pages
        self._background = background

    # ---- what is asked for ----

    async def search(self, journey: Journey, request: shop_pb2.SearchRequest) -> Answer:
        """Items for a query."""
        wanted = self._wanted(request, b"search", request.query.encode())

        async def compute() -> retriever_pb2.SearchResponse:
            vector = await self._query_vector(journey, request.query)
            legs = [_words_leg(request.query, self._settings.words_weight)]
            if vector is not None:
                legs.append(_vector_leg(vector, 1 - self._settings.words_weight))
            return await self._retrieve(journey, wanted, legs, wanted.excluded)

        return await self._page(journey, wanted, compute)

    async def similar(self, journey: Journey, request: shop_pb2.SimilarRequest) -> Answer:
        """Items like one item."""
        wanted = self._wanted(request, b"similar", request.item_id.encode())

        async def compute() -> retriever_pb2.SearchResponse:
            found = await self._find(journey, wanted, [_item_leg("like", request.item_id)], wanted.excluded)
            if not found.reports[0].vector_missing:
                return found
            journey.degrade("retrieve", types_pb2.DEGRADATION_REASON_PENDING, "words of the item's title")
            item = await self.get_item(journey, request.item_id)
            without = wanted.excluded | {request.item_id}
            return await self._retrieve(journey, wanted, [_words_leg(item.title, 1.0)], without)

        return await self._page(journey, wanted, compute)

    async def recommend(self, journey: Journey, request: shop_pb2.RecommendRequest) -> Answer:
        """Items for a scene."""
        scene = types_pb2.Scene.Name(request.scene)
        about = list(request.item_ids[:_ITEMS_OF_A_SCENE])
        wanted = self._wanted(request, b"recommend", scene.encode(), *(item.encode() for item in request.item_ids))

        async def compute() -> retriever_pb2.SearchResponse:
            journey.degrade("context", types_pb2.DEGRADATION_REASON_UNAVAILABLE, "popularity")
            without = wanted.excluded | set(request.item_ids)
            legs = [_item_leg(f"like {i}", item) for i, item in enumerate(about)]
            try:
                return await self._retrieve(journey, wanted, [*legs, _popular_leg()], without)
            except NotFound:
                return await self._retrieve(journey, wanted, [_popular_leg()], without)

        return await self._page(journey, wanted, compute)

    async def suggest(self, journey: Journey, prefix: str, k: int) -> Sequence[retriever_pb2.Suggestion]:
        """Completions of what is being typed."""
        request = retriever_pb2.SuggestRequest(prefix=prefix, k=k or 10)
        return (await self._read(journey, "suggest", lambda reader: reader.Suggest, request)).suggestions

    async def get_item(self, journey: Journey, item_id: str) -> types_pb2.Item:
        """One item as the catalogue holds it. Raises NotFound."""
        request = retriever_pb2.GetItemsRequest(item_ids=[item_id])
        result = (await self._read(journey, "get item", lambda reader: reader.GetItems, request)).results[0]
        if result.presence == retriever_pb2.PRESENCE_NOT_FOUND:
            raise NotFound(f"item_id: the catalogue holds no item {item_id!r}")
        return result.item

    # ---- stages ----

    async def _query_vector(self, journey: Journey, query: str) -> types_pb2.Vector | None:
        """The query in the content space; None, and a degradation, where words must do."""
        request = embedder_pb2.EmbedRequest(
            inputs=[embedder_pb2.Input(text=query)],
            options=embedder_pb2.Options(role=embedder_pb2.ROLE_QUERY, generation=journey.generation),
        )
        peers = self._peers
        try:
            answer = await journey.stage(
                "embed", _EMBED_SHARE, lambda seconds: peers.embedder.call(peers.embed.Embed, request, seconds)
            )
        except StageFailed as failure:
            journey.degrade("embed", failure.reason, "words only")
            return None
        if not answer.readings[0].covered:
            journey.degrade("embed", types_pb2.DEGRADATION_REASON_VOCABULARY, "words only")
            return None
        vectors = answer.vectors
        return types_pb2.Vector(data=vectors.data, dim=vectors.dim, dtype=vectors.dtype)

    async def _retrieve(
        self, journey: Journey, wanted: Wanted, legs: Sequence[retriever_pb2.Leg], excluded: frozenset[str]
    ) -> retriever_pb2.SearchResponse:
        """Candidates of the legs; popular items where the legs find nothing and something can be shown."""
        found = await self._find(journey, wanted, legs, excluded)
        if found.candidates.id:
            return found
        popular = await self._find(journey, wanted, [_popular_leg()], excluded)
        if popular.candidates.id:
            journey.degrade("retrieve", types_pb2.DEGRADATION_REASON_NOTHING_FOUND, "popularity")
        return popular

    async def _find(
        self, journey: Journey, wanted: Wanted, legs: Sequence[retriever_pb2.Leg], excluded: frozenset[str]
    ) -> retriever_pb2.SearchResponse:
        """Candidates of the legs."""
        request = retriever_pb2.SearchRequest(
            legs=legs,
            k=self._settings.candidates,
            filter=wanted.filter,
            exclude_item_ids=excluded,
            generation=journey.generation,
        )
        return await self._read(journey, "retrieve", lambda reader: reader.Search, request)

    async def _read(
        self,
        journey: Journey,
        stage: str,
        method: Callable[[retriever_pb2_grpc.RetrieverAsyncStub], Callable[..., Awaitable[R]]],
        request: Message,
    ) -> R:
        """Asks the primary and, when it fails, its followers in turn."""
        readers = self._peers.readers
        for peer, stub in readers[:-1]:
            try:
                with told_back(peer.name):
                    return await journey.stage(stage, _PRIMARY_SHARE, partial(peer.call, method(stub), request))
            except StageFailed as failure:
                journey.degrade(stage, failure.reason, "follower")
        peer, stub = readers[-1]
        try:
            with told_back(peer.name):
                return await journey.stage(stage, 1.0, partial(peer.call, method(stub), request))
        except StageFailed as failure:
            raise journey.give_up(failure) from None

    # ---- pages ----

    async def _page(
        self, journey: Journey, wanted: Wanted, compute: Callable[[], Awaitable[retriever_pb2.SearchResponse]]
    ) -> Answer:
        """The page after those that the token remembers, or the first."""
        before = wanted.before or PageToken(journey.request_id, wanted.fingerprint, 0, frozenset())
        kept = await self._kept(journey, wanted, wanted.before) if wanted.before else None
        if kept is not None:
            candidates, left = kept
        else:
            candidates = (await compute()).candidates
            left = sum(not before.has_shown(item_id) for item_id in candidates.id)
            if left > wanted.page_size:
                ranked = [
                    Ranked(item_id, score) for item_id, score in zip(candidates.id, candidates.score, strict=True)
                ]
                self._background.start(self._pages.keep(before.request_id, before.fingerprint, ranked))
        with journey.clock.stage("page"):
            rows = self._showable(candidates, wanted, before)
            hits = [_hit(candidates, row, before.offset + i, wanted.explain) for i, row in enumerate(rows)]
            more = hits and left > len(hits)
            token = self._pages.issue(before, [hit.item_id for hit in hits]) if more else ""
        return Answer(hits, token)

    async def _kept(
        self, journey: Journey, wanted: Wanted, before: PageToken
    ) -> tuple[types_pb2.CandidateColumns, int] | None:
        """The next candidates of a kept list, as the catalogue holds them now, and how many were left in the list."""
        ranked = await self._pages.find(before)
        if ranked is None:
            journey.degrade("pages", types_pb2.DEGRADATION_REASON_EXPIRED, "computed again without what was shown")
            return None
        left = [one for one in ranked if not before.has_shown(one.item_id)]
        if not left:
            return types_pb2.CandidateColumns(), 0
        ahead = left[: wanted.page_size * _REFRESH_FACTOR]
        # Scores by rank keep the order of equal scores.
        ids = [types_pb2.ScoredId(item_id=one.item_id, score=1 / (1 + i)) for i, one in enumerate(ahead)]
        leg = retriever_pb2.Leg(name="kept", ids=retriever_pb2.IdsLeg(items=ids))
        request = retriever_pb2.SearchRequest(
            legs=[leg], k=len(ahead), filter=wanted.filter, exclude_item_ids=wanted.excluded
        )
        columns = (await self._read(journey, "retrieve", lambda reader: reader.Search, request)).candidates
        scores = {one.item_id: one.score for one in ahead}
        columns.score[:] = [scores[item_id] for item_id in columns.id]
        return columns, len(left)

    def _showable(self, candidates: types_pb2.CandidateColumns, wanted: Wanted, before: PageToken) -> list[int]:
        """Rows of the page: what must not be shown is left out here, whatever happened before."""
        rows = (
            row
            for row, item_id in enumerate(candidates.id)
            if item_id not in wanted.excluded
            and not before.has_shown(item_id)
            and (self._settings.out_of_stock or candidates.stock[row] != 0)
        )
        return list(islice(rows, wanted.page_size))

    def _wanted(self, request: _Listing, *what: bytes) -> Wanted:
        """Reads what every listing request has in common. Raises Invalid for a page token of another request."""
        filter_bytes = request.filter.SerializeToString(deterministic=True)
        excluded = sorted(request.exclude_item_ids)
        mark = fingerprint(
            *what, request.shopper_id.encode(), filter_bytes, *(item_id.encode() for item_id in excluded)
        )
        return Wanted(
            page_size=request.page_size or DEFAULT_PAGE_SIZE,
            before=self._pages.read(request.page_token, mark) if request.page_token else None,
            fingerprint=mark,
            filter=allowed(request.filter, self._settings.out_of_stock),
            excluded=frozenset(excluded),
            explain=request.explain,
        )


def _words_leg(query: str, weight: float) -> retriever_pb2.Leg:
    return retriever_pb2.Leg(name="words", weight=weight, words=retriever_pb2.WordsLeg(query=query))


def _vector_leg(vector: types_pb2.Vector, weight: float) -> retriever_pb2.Leg:
    leg = retriever_pb2.VectorLeg(space=types_pb2.SPACE_CONTENT, vector=vector)
    return retriever_pb2.Leg(name="meaning", weight=weight, vector=leg)


def _item_leg(name: str, item_id: str) -> retriever_pb2.Leg:
    return retriever_pb2.Leg(name=name, item=retriever_pb2.ItemLeg(space=types_pb2.SPACE_CONTENT, item_id=item_id))


def _popular_leg() -> retriever_pb2.Leg:
    return retriever_pb2.Leg(name="popular", popular=retriever_pb2.PopularLeg())


_REASONS = {"words": "holds your words", "meaning": "close in meaning", "like": "like the item", "popular": "popular"}


def _hit(columns: types_pb2.CandidateColumns, row: int, position: int, explain: bool) -> shop_pb2.Hit:
    price = columns.price[row]
    stock = columns.stock[row]
    hit = shop_pb2.Hit(
        item_id=columns.id[row],
        revision=columns.revision[row],
        title=columns.title[row],
        brand=columns.brands[columns.brand[row]],
        category=columns.categories[columns.category[row]],
        price=None if math.isnan(price) else price,
        currency=columns.currencies[columns.currency[row]],
        stock=None if stock < 0 else stock,
        position=position,
        score=columns.score[row],
    )
    if explain:
        for leg in columns.legs:
            if not math.isnan(leg.score[row]):
                hit.leg_scores[leg.leg] = leg.score[row]
                reason = _REASONS.get(leg.leg.split(" ")[0])
                if reason and reason not in hit.reasons:
                    hit.reasons.append(reason)
    return hit
