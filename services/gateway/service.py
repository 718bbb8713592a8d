"""The shop's API over gRPC: checks, admission and the answer's own account around the pipeline."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
import grpc.aio

from services.domain.checks import check_id
from services.gateway.generations import GatewayGenerations
from services.gateway.lists import Lists
from services.gateway.pages import Pages
from services.gateway.peers import Peers
from services.gateway.pipeline import Pipeline
from services.gateway.requests import (
    check_batch,
    check_brands,
    check_recommend,
    check_search,
    check_similar,
    check_suggest,
)
from services.gateway.review import Reviewed
from services.gateway.review_service import GatewayReview
from services.gateway.settings import GatewaySettings
from services.gateway.stages import Journey
from services.gateway.steps import Steps
from services.gateway.writes import Writes
from services.runtime.admission import Admission
from services.runtime.channels import time_left
from services.runtime.errors import DeadlineExceeded, Unavailable
from services.runtime.tasks import Background
from souk.coldstart.v1 import review_pb2_grpc
from souk.shop.v1 import shop_pb2, shop_pb2_grpc
from souk.types.v1 import generations_pb2_grpc

_Context = grpc.aio.ServicerContext[object, object]

# Kept lists under way after their answers have left.
_BACKGROUND_TASKS = 256


class GatewayService(shop_pb2_grpc.ShopServicer):
    """Serves souk.shop.v1.Shop."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings

    def register(self, server: grpc.aio.Server) -> list[str]:
        """Part of Service."""
        self._peers = Peers(self._settings)
        self._pages = Pages(
            self._settings.page_key.get_secret_value(), self._settings.redis_url, self._settings.page_ttl_seconds
        )
        self._background = Background("background", _BACKGROUND_TASKS)
        steps, self._reviewed = Steps(self._settings, self._peers), Reviewed(self._peers)
        self._lists = Lists(self._peers, self._settings.held_lists, self._settings.held_list_seconds)
        self._pipeline = Pipeline(
            self._settings, self._peers, steps, self._reviewed, self._lists, self._pages, self._background
        )
        self._writes = Writes(self._peers)
        self._admission = Admission("requests", self._settings.running, self._settings.waiting)
        shop_pb2_grpc.add_ShopServicer_to_server(self, server)
        generations_pb2_grpc.add_GenerationsServicer_to_server(
            GatewayGenerations(self._peers, self._settings.max_seconds), server
        )
        review_pb2_grpc.add_ReviewServicer_to_server(
            GatewayReview(self._peers, steps, self._reviewed, self._settings.max_seconds), server
        )
        return ["souk.shop.v1.Shop", "souk.types.v1.Generations", "souk.coldstart.v1.Review"]

    async def start(self) -> None:
        """Part of Service."""
        await self._peers.start()
        self._reviewed.start()
        self._lists.start()

    async def warm_up(self) -> None:
        """Part of Service: one search through every stage; a process that is late shows as a degradation then."""
        with suppress(Unavailable, DeadlineExceeded):
            journey = Journey(self._peers.generation, self._settings.default_seconds)
            await self._pipeline.search(journey, shop_pb2.SearchRequest(query="warm up"))

    async def check(self) -> None:
        """Part of Service: the gateway can answer as long as it runs, if only with an error that says what is gone."""

    def drain(self) -> None:
        """Part of Service: no call of the gateway goes on for ever."""

    async def stop(self) -> None:
        """Part of Service."""
        await self._background.drain(1.0)
        await self._pages.close()
        await self._reviewed.stop()
        await self._lists.stop()
        await self._peers.stop()

    @asynccontextmanager
    async def _journey(self, context: _Context) -> AsyncIterator[Journey]:
        async with self._admission.admit(1):
            yield Journey(self._peers.generation, time_left(context, self._settings.default_seconds))

    async def Search(self, request: shop_pb2.SearchRequest, context: _Context) -> shop_pb2.SearchResponse:
        """Part of the contract."""
        check_search(request)
        async with self._journey(context) as journey:
            answer = await self._pipeline.search(journey, request)
            return shop_pb2.SearchResponse(hits=answer.hits, info=_info(journey, answer.next_page_token))

    async def Recommend(self, request: shop_pb2.RecommendRequest, context: _Context) -> shop_pb2.RecommendResponse:
        """Part of the contract."""
        check_recommend(request)
        async with self._journey(context) as journey:
            answer = await self._pipeline.recommend(journey, request)
            info = _info(journey, answer.next_page_token)
            return shop_pb2.RecommendResponse(hits=answer.hits, info=info, stage=answer.stage)

    async def RecommendBrands(
        self, request: shop_pb2.RecommendBrandsRequest, context: _Context
    ) -> shop_pb2.RecommendBrandsResponse:
        """Part of the contract."""
        check_brands(request)
        async with self._journey(context) as journey:
            brands, stage = await self._pipeline.brands(journey, request)
            return shop_pb2.RecommendBrandsResponse(brands=brands, info=_info(journey, ""), stage=stage)

    async def Similar(self, request: shop_pb2.SimilarRequest, context: _Context) -> shop_pb2.SimilarResponse:
        """Part of the contract."""
        check_similar(request)
        async with self._journey(context) as journey:
            answer = await self._pipeline.similar(journey, request)
            return shop_pb2.SimilarResponse(hits=answer.hits, info=_info(journey, answer.next_page_token))

    async def Suggest(self, request: shop_pb2.SuggestRequest, context: _Context) -> shop_pb2.SuggestResponse:
        """Part of the contract."""
        check_suggest(request)
        async with self._journey(context) as journey:
            suggestions = await self._pipeline.suggest(journey, request.prefix, request.k)
            return shop_pb2.SuggestResponse(suggestions=suggestions, info=_info(journey, ""))

    async def GetItem(self, request: shop_pb2.GetItemRequest, context: _Context) -> shop_pb2.GetItemResponse:
        """Part of the contract."""
        check_id(request.item_id, "item_id")
        async with self._journey(context) as journey:
            item, stage = await self._pipeline.item(journey, request.item_id)
            return shop_pb2.GetItemResponse(item=item, stage=stage)

    async def UpsertItems(
        self, request: shop_pb2.UpsertItemsRequest, context: _Context
    ) -> shop_pb2.UpsertItemsResponse:
        """Part of the contract."""
        check_batch(request.items, "items")
        async with self._admission.admit(1):
            try:
                return await self._writes.upsert(request, time_left(context, self._settings.max_seconds))
            finally:
                self._lists.written()

    async def DeleteItems(
        self, request: shop_pb2.DeleteItemsRequest, context: _Context
    ) -> shop_pb2.DeleteItemsResponse:
        """Part of the contract."""
        check_batch(request.items, "items")
        async with self._admission.admit(1):
            try:
                return await self._writes.delete(request, time_left(context, self._settings.max_seconds))
            finally:
                self._lists.written()

    async def RecordEvents(
        self, request: shop_pb2.RecordEventsRequest, context: _Context
    ) -> shop_pb2.RecordEventsResponse:
        """Part of the contract."""
        check_batch(request.events, "events")
        async with self._admission.admit(1):
            return await self._writes.record(request, time_left(context, self._settings.max_seconds))


def _info(journey: Journey, next_page_token: str) -> shop_pb2.AnswerInfo:
    return shop_pb2.AnswerInfo(
        request_id=journey.request_id,
        generation=journey.generation,
        degradations=journey.degradations,
        timings=journey.clock.timings(),
        next_page_token=next_page_token,
    )
