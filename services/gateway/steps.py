"""The single stages of an answer: each asks one process within its share of the time, and knows what stands in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from google.protobuf.message import Message

from services.gateway.exploration import Belief
from services.gateway.listing import Listed, Wanted, ids_leg, popular_leg
from services.gateway.peers import Peers
from services.gateway.scenes import STANDS_IN
from services.gateway.settings import GatewaySettings
from services.gateway.stages import Journey, StageFailed
from services.gateway.told_back import told_back
from services.runtime.errors import NotFound
from souk.coldstart.v1 import coldstart_pb2
from souk.embedder.v1 import embedder_pb2
from souk.ranker.v1 import ranker_pb2
from souk.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from souk.types.v1 import types_pb2

R = TypeVar("R")

# Shares of the time left that a stage may take; what follows it has the rest.
_CONTEXT_SHARE = 0.25
_EMBED_SHARE = 0.4
_CANDIDATES_SHARE = 0.3
_PRIMARY_SHARE = 0.6
_RANK_SHARE = 0.8
_IMPRESSION_SHARE = 0.8


class Steps:
    """One method a stage."""

    def __init__(self, settings: GatewaySettings, peers: Peers) -> None:
        self._settings = settings
        self._peers = peers

    async def query_vector(self, journey: Journey, query: str) -> types_pb2.Vector | None:
        """The query in the content space; None, and a degradation, where words must do."""
        request = embedder_pb2.EmbedRequest(
            inputs=[embedder_pb2.Input(text=query)],
            options=embedder_pb2.Options(role=embedder_pb2.ROLE_QUERY, generation=journey.generation),
        )
        peers = self._peers
        try:
            call = partial(peers.embedder.call, peers.embed.Embed, request)
            answer = await journey.stage("embed", _EMBED_SHARE, call)
        except StageFailed as failure:
            journey.degrade("embed", failure.reason, "words only")
            return None
        if not answer.readings[0].covered:
            journey.degrade("embed", types_pb2.DEGRADATION_REASON_VOCABULARY, "words only")
            return None
        vectors = answer.vectors
        return types_pb2.Vector(data=vectors.data, dim=vectors.dim, dtype=vectors.dtype)

    async def context(
        self, journey: Journey, shopper_id: str, attributes: Sequence[types_pb2.Attribute], substitute: str
    ) -> coldstart_pb2.ShopperContext | None:
        """What is known of the shopper; None, and a degradation, where coldstart does not say."""
        peers = self._peers
        if peers.coldstart is None:
            journey.degrade("context", types_pb2.DEGRADATION_REASON_UNAVAILABLE, substitute)
            return None
        if not shopper_id:
            return coldstart_pb2.ShopperContext(stage=types_pb2.STAGE_COLD, attributes=attributes)
        request = coldstart_pb2.GetShopperContextRequest(shopper_id=shopper_id, attributes=attributes)
        try:
            call = partial(peers.coldstart.call, peers.coldstart_stub.GetShopperContext, request)
            return (await journey.stage("context", _CONTEXT_SHARE, call)).context
        except StageFailed as failure:
            journey.degrade("context", failure.reason, substitute)
            return None

    async def shopper_vector(
        self, journey: Journey, context: coldstart_pb2.ShopperContext | None
    ) -> types_pb2.Vector | None:
        """The shopper in the behaviour space; None for those of whom too little is known."""
        peers = self._peers
        if peers.ranker is None or context is None or context.stage != types_pb2.STAGE_HOT:
            return None
        request = ranker_pb2.EncodeShopperRequest(context=context, generation=journey.generation)
        try:
            call = partial(peers.ranker.call, peers.ranker_stub.EncodeShopper, request)
            return (await journey.stage("encode shopper", _CANDIDATES_SHARE, call)).vector
        except StageFailed as failure:
            journey.degrade("encode shopper", failure.reason, "profile and lists")
            return None

    async def candidates(
        self,
        journey: Journey,
        context: coldstart_pb2.ShopperContext | None,
        scene: types_pb2.Scene.ValueType,
        item_ids: Sequence[str],
    ) -> coldstart_pb2.CandidatesResponse:
        """What to look for; nothing, and a degradation, where coldstart does not say."""
        peers = self._peers
        if peers.coldstart is None or context is None:
            return coldstart_pb2.CandidatesResponse()
        request = coldstart_pb2.CandidatesRequest(
            context=context, scene=scene, item_ids=item_ids, generation=journey.generation
        )
        try:
            call = partial(peers.coldstart.call, peers.coldstart_stub.Candidates, request)
            return await journey.stage("candidates", _CANDIDATES_SHARE, call)
        except StageFailed as failure:
            journey.degrade("candidates", failure.reason, "popularity")
            return coldstart_pb2.CandidatesResponse()

    async def find(
        self, journey: Journey, wanted: Wanted, legs: Sequence[retriever_pb2.Leg], excluded: frozenset[str]
    ) -> retriever_pb2.SearchResponse:
        """Candidates of the legs. Raises NotFound where an item leg names an unknown item."""
        request = retriever_pb2.SearchRequest(
            legs=legs,
            k=self._settings.candidates,
            filter=wanted.filter,
            exclude_item_ids=excluded,
            generation=journey.generation,
        )
        return await self.read(journey, "retrieve", lambda reader: reader.Search, request)

    async def find_something(
        self, journey: Journey, wanted: Wanted, legs: Sequence[retriever_pb2.Leg], excluded: frozenset[str]
    ) -> retriever_pb2.SearchResponse:
        """Candidates of the legs; popular items where the legs find nothing and something can be shown."""
        found = await self.find(journey, wanted, legs, excluded)
        self._tell_missing(journey, found)
        if found.candidates.id:
            return found
        popular = await self.find(journey, wanted, [popular_leg()], excluded)
        if popular.candidates.id:
            journey.degrade("retrieve", types_pb2.DEGRADATION_REASON_NOTHING_FOUND, "popularity")
        return popular

    async def find_of_scene(
        self, journey: Journey, wanted: Wanted, legs: Sequence[retriever_pb2.Leg], seen: frozenset[str]
    ) -> tuple[types_pb2.CandidateColumns, bool]:
        """Candidates of legs that find whatever passes, without those the shopper has seen; where that leaves nothing
        these, then what may stand in for the scene's own, which the second value tells."""
        attempts = [(wanted, seen, "")]
        if seen:
            attempts.append((wanted, frozenset(), "items met before"))
        if wanted.stand_in is not None:
            attempts.append((replace(wanted, filter=wanted.stand_in), seen, STANDS_IN[wanted.scene]))
        for asked, left_out, substitute in attempts:
            found = await self.find(journey, asked, legs, wanted.excluded | left_out)
            if found.candidates.id:
                self._tell_missing(journey, found)
                if substitute:
                    journey.degrade("retrieve", types_pb2.DEGRADATION_REASON_NOTHING_FOUND, substitute)
                return found.candidates, asked is not wanted
        journey.degrade("retrieve", types_pb2.DEGRADATION_REASON_NOTHING_FOUND, "an empty page")
        return types_pb2.CandidateColumns(), False

    async def find_pinned(self, journey: Journey, wanted: Wanted) -> types_pb2.CandidateColumns | None:
        """Of the items that are pinned those that pass the filter; asks nobody where none are."""
        if not wanted.pins:
            return None
        ids = [types_pb2.ScoredId(item_id=item_id, score=1.0) for item_id in wanted.pins]
        request = retriever_pb2.SearchRequest(
            legs=[ids_leg("pinned", ids, 1.0)], k=len(ids), filter=wanted.filter, exclude_item_ids=wanted.excluded
        )
        return (await self.read(journey, "pinned", lambda reader: reader.Search, request)).candidates

    def _tell_missing(self, journey: Journey, found: retriever_pb2.SearchResponse) -> None:
        missing = [report for report in found.reports if report.vector_missing]
        if missing:
            never = all(report.vector_uncovered for report in missing)
            pending, unread = types_pb2.DEGRADATION_REASON_PENDING, types_pb2.DEGRADATION_REASON_VOCABULARY
            journey.degrade("retrieve", unread if never else pending, "words of the item's title")

    async def rank(
        self,
        journey: Journey,
        context: coldstart_pb2.ShopperContext | None,
        columns: types_pb2.CandidateColumns,
        wanted: Wanted,
        query: str = "",
        item_ids: Sequence[str] = (),
        explores: bool = False,
    ) -> Listed:
        """The candidates in the ranker's order; in that of the retrieval where it does not answer or is not there.
        Where it `explores`, with what is believed of each if that is to draw."""
        peers = self._peers
        if peers.ranker is None and self._settings.rerank and wanted.scene == types_pb2.SCENE_SEARCH:
            journey.degrade("rerank", types_pb2.DEGRADATION_REASON_UNAVAILABLE, "retrieval order")
        if peers.ranker is None and wanted.scene == types_pb2.SCENE_SPONSORED:
            # Nobody weighs bids and holds the limits of brands.
            journey.degrade("rank", types_pb2.DEGRADATION_REASON_UNAVAILABLE, "retrieval order")
        if peers.ranker is None or not columns.id:
            return Listed.as_retrieved(columns)
        request = ranker_pb2.RankRequest(
            context=context,
            query=query,
            scene=wanted.scene,
            item_ids=item_ids,
            candidates=columns,
            explain=wanted.explain,
            generation=journey.generation,
            rerank=self._settings.rerank if wanted.scene == types_pb2.SCENE_SEARCH else 0,
            deviations=explores and self._settings.explore_by == "ranker",
        )
        try:
            answer = await journey.stage(
                "rank", _RANK_SHARE, partial(peers.ranker.call, peers.ranker_stub.Rank, request)
            )
        except StageFailed as failure:
            journey.degrade("rank", failure.reason, "retrieval order")
            return Listed.as_retrieved(columns)
        if answer.reranked < min(request.rerank, len(columns.id)):
            reason = answer.reranked_fewer or types_pb2.DEGRADATION_REASON_UNAVAILABLE
            journey.degrade("rerank", reason, f"the order without it but for {answer.reranked}")
        reasons = {
            row: [f"{one.text} {one.subject}".strip() for one in each.reasons]
            for row, each in zip(answer.order, answer.reasons, strict=False)
        }
        contributions = {
            row: {column.feature: column.scene_log_odds[i] for column in answer.features if column.scene_log_odds[i]}
            for i, row in enumerate(answer.order)
        }
        policy = "reranker" if context is None and request.rerank else "ranker"
        beliefs = {
            row: Belief.of(probability, deviation)
            for column in answer.objectives
            if column.objective == ranker_pb2.OBJECTIVE_CLICK
            for row, probability, deviation in zip(
                answer.order, column.probability, column.log_odds_deviation, strict=False
            )
        }
        return Listed(columns, answer.order, answer.score, policy, reasons, contributions, beliefs=beliefs)

    async def record(self, journey: Journey, impression: types_pb2.Impression) -> None:
        """Writes what was shown. Raises StageFailed where that failed."""
        peers = self._peers
        assert peers.coldstart is not None  # Nobody asks without one.
        request = coldstart_pb2.RecordImpressionsRequest(impressions=[impression])
        call = partial(peers.coldstart.call, peers.coldstart_stub.RecordImpressions, request)
        await journey.stage("impression", _IMPRESSION_SHARE, call)

    async def item(self, journey: Journey, item_id: str) -> types_pb2.Item:
        """One item as the catalogue holds it. Raises NotFound."""
        request = retriever_pb2.GetItemsRequest(item_ids=[item_id])
        result = (await self.read(journey, "get item", lambda reader: reader.GetItems, request)).results[0]
        if result.presence == retriever_pb2.PRESENCE_NOT_FOUND:
            raise NotFound(f"item_id: the catalogue holds no item {item_id!r}")
        return result.item

    async def item_stage(self, journey: Journey, item_id: str) -> types_pb2.Stage.ValueType:
        """How much is known of an item; not said, and a degradation, where coldstart does not answer."""
        peers = self._peers
        if peers.coldstart is None:
            return types_pb2.STAGE_UNSPECIFIED
        request = coldstart_pb2.GetItemStageRequest(item_id=item_id)
        try:
            call = partial(peers.coldstart.call, peers.coldstart_stub.GetItemStage, request)
            return (await journey.stage("item stage", _CONTEXT_SHARE, call)).stage
        except StageFailed as failure:
            journey.degrade("item stage", failure.reason, "no stage")
            return types_pb2.STAGE_UNSPECIFIED

    async def read(
        self,
        journey: Journey,
        stage: str,
        method: Callable[[retriever_pb2_grpc.RetrieverAsyncStub], Callable[..., Awaitable[R]]],
        request: Message,
    ) -> R:
        """Asks the catalogue's primary and, when it fails, its followers in turn."""
        readers = self._peers.readers
        for peer, stub in readers[:-1]:
            try:
                with told_back(peer.name):
                    call = partial(peer.call, method(stub), request)
                    return await journey.stage(stage, _PRIMARY_SHARE, call, callers_words=True)
            except StageFailed as failure:
                journey.degrade(stage, failure.reason, "follower")
        peer, stub = readers[-1]
        try:
            with told_back(peer.name):
                call = partial(peer.call, method(stub), request)
                return await journey.stage(stage, 1.0, call, callers_words=True)
        except StageFailed as failure:
            raise journey.give_up(failure) from None
