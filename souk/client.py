"""The client of Souk: async, with a sync face; numpy in and out, a deadline on every call, retries within a budget."""

from __future__ import annotations

import asyncio
import functools
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from souk.coldstart.v1 import coldstart_pb2, coldstart_pb2_grpc, review_pb2, review_pb2_grpc
from souk.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from souk.retriever.v1 import admin_pb2, retriever_pb2, retriever_pb2_grpc
from souk.shop.v1 import shop_pb2, shop_pb2_grpc
from souk.types.v1 import generations_pb2, generations_pb2_grpc, types_pb2
from souk.vectors import Float32, pack_vector, unpack_matrix

P = ParamSpec("P")
R = TypeVar("R")

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
_WORTH_A_RETRY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


@dataclass(frozen=True)
class Embeddings:
    """Vectors of texts or items: float32 of shape (n, dim), one row an input."""

    vectors: Float32
    readings: Sequence[embedder_pb2.Reading]
    space_version: str


@dataclass(frozen=True)
class ItemVectors:
    """Vectors of items: float32 of shape (n, dim), zeros where `present` (bool of shape (n,)) is false."""

    vectors: Float32
    present: NDArray[np.bool_]
    space_version: str


class RetryBudget:
    """Retries as a share of calls, so that clients do not multiply the load of a backend in trouble.

    Every call earns `share` of a retry; at most `most` are saved up.
    """

    def __init__(self, share: float = 0.1, most: float = 10.0) -> None:
        self._share = share
        self._most = most
        self._saved = most

    def earn(self) -> None:
        """A call was made."""
        self._saved = min(self._most, self._saved + self._share)

    def spend(self) -> bool:
        """Whether a retry may be made; if so it is paid for."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True


class Client:
    """Calls a shop's gateway and, for what a shop's operators and data team ask, the processes behind it.

    `timeout` (seconds) is the deadline of every call that names none; retries happen within it. Errors are
    grpc.aio.AioRpcError with the codes that the protos list.
    """

    def __init__(
        self,
        shop: str = "127.0.0.1:7100",
        *,
        embedder: str = "127.0.0.1:7101",
        retriever: str = "127.0.0.1:7102",
        coldstart: str = "127.0.0.1:7104",
        timeout: float = 5.0,
    ) -> None:
        self._channels = [
            grpc.aio.insecure_channel(address, options=_OPTIONS) for address in (shop, embedder, retriever, coldstart)
        ]
        self._shop = shop_pb2_grpc.ShopStub(self._channels[0])
        self._embedder = embedder_pb2_grpc.EmbedderStub(self._channels[1])
        self._retriever = retriever_pb2_grpc.RetrieverStub(self._channels[2])
        self._coldstart = coldstart_pb2_grpc.ColdstartStub(self._channels[3])
        self._generations = generations_pb2_grpc.GenerationsStub(self._channels[0])
        self._review = review_pb2_grpc.ReviewStub(self._channels[0])
        self._timeout = timeout
        self._budget = RetryBudget()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the channels; calls under way are cancelled."""
        for channel in self._channels:
            await channel.close()

    async def search(
        self,
        query: str,
        *,
        shopper_id: str = "",
        page_size: int = 0,
        page_token: str = "",
        filter: retriever_pb2.Filter | None = None,
        exclude: Sequence[str] = (),
        explain: bool = False,
        timeout: float | None = None,
    ) -> shop_pb2.SearchResponse:
        """Items for a query (see Shop.Search)."""
        request = shop_pb2.SearchRequest(
            query=query,
            shopper_id=shopper_id,
            page_size=page_size,
            page_token=page_token,
            filter=filter,
            exclude_item_ids=exclude,
            explain=explain,
        )
        return await self._call(self._shop.Search, request, timeout)

    async def recommend(
        self,
        scene: types_pb2.Scene.ValueType,
        *,
        shopper_id: str = "",
        item_ids: Sequence[str] = (),
        shopper_attributes: Sequence[types_pb2.Attribute] = (),
        page_size: int = 0,
        page_token: str = "",
        filter: retriever_pb2.Filter | None = None,
        exclude: Sequence[str] = (),
        explain: bool = False,
        timeout: float | None = None,
    ) -> shop_pb2.RecommendResponse:
        """Items for a shopper and a scene (see Shop.Recommend)."""
        request = shop_pb2.RecommendRequest(
            shopper_id=shopper_id,
            scene=scene,
            item_ids=item_ids,
            shopper_attributes=shopper_attributes,
            page_size=page_size,
            page_token=page_token,
            filter=filter,
            exclude_item_ids=exclude,
            explain=explain,
        )
        return await self._call(self._shop.Recommend, request, timeout)

    async def recommend_brands(
        self,
        *,
        shopper_id: str = "",
        shopper_attributes: Sequence[types_pb2.Attribute] = (),
        k: int = 0,
        filter: retriever_pb2.Filter | None = None,
        explain: bool = False,
        timeout: float | None = None,
    ) -> shop_pb2.RecommendBrandsResponse:
        """Brands for a shopper (see Shop.RecommendBrands)."""
        request = shop_pb2.RecommendBrandsRequest(
            shopper_id=shopper_id, shopper_attributes=shopper_attributes, k=k, filter=filter, explain=explain
        )
        return await self._call(self._shop.RecommendBrands, request, timeout)

    async def similar(
        self,
        item_id: str,
        *,
        shopper_id: str = "",
        page_size: int = 0,
        page_token: str = "",
        filter: retriever_pb2.Filter | None = None,
        exclude: Sequence[str] = (),
        explain: bool = False,
        timeout: float | None = None,
    ) -> shop_pb2.SimilarResponse:
        """Items like one item (see Shop.Similar)."""
        request = shop_pb2.SimilarRequest(
            item_id=item_id,
            shopper_id=shopper_id,
            page_size=page_size,
            page_token=page_token,
            filter=filter,
            exclude_item_ids=exclude,
            explain=explain,
        )
        return await self._call(self._shop.Similar, request, timeout)

    async def suggest(self, prefix: str, k: int = 0, *, timeout: float | None = None) -> shop_pb2.SuggestResponse:
        """Completions (see Shop.Suggest)."""
        return await self._call(self._shop.Suggest, shop_pb2.SuggestRequest(prefix=prefix, k=k), timeout)

    async def record_events(
        self, events: Sequence[types_pb2.Event], *, timeout: float | None = None
    ) -> shop_pb2.RecordEventsResponse:
        """Writes events; their event ids make a retry harmless (see Shop.RecordEvents)."""
        return await self._call(self._shop.RecordEvents, shop_pb2.RecordEventsRequest(events=events), timeout)

    async def upsert_items(
        self,
        items: Sequence[types_pb2.Item],
        *,
        wait: admin_pb2.Wait.ValueType = admin_pb2.WAIT_COMMITTED,
        timeout: float | None = None,
    ) -> Sequence[admin_pb2.WriteResult]:
        """Writes up to 1,000 items; retried only if every item names its revision (see Shop.UpsertItems)."""
        request = shop_pb2.UpsertItemsRequest(items=items, wait=wait)
        idempotent = all(item.revision for item in items)
        return (await self._call(self._shop.UpsertItems, request, timeout, idempotent)).results

    async def delete_items(
        self, items: Sequence[admin_pb2.ItemRef], *, timeout: float | None = None
    ) -> Sequence[admin_pb2.WriteResult]:
        """Takes items out; retried only if every item names its revision (see Shop.DeleteItems)."""
        request = shop_pb2.DeleteItemsRequest(items=items)
        idempotent = all(item.revision for item in items)
        return (await self._call(self._shop.DeleteItems, request, timeout, idempotent)).results

    async def get_item(self, item_id: str, *, timeout: float | None = None) -> types_pb2.Item:
        """One item (see Shop.GetItem)."""
        return (await self._call(self._shop.GetItem, shop_pb2.GetItemRequest(item_id=item_id), timeout)).item

    async def item_stage(self, item_id: str, *, timeout: float | None = None) -> coldstart_pb2.GetItemStageResponse:
        """How much is known of an item and from what, from coldstart itself."""
        request = coldstart_pb2.GetItemStageRequest(item_id=item_id)
        return await self._call(self._coldstart.GetItemStage, request, timeout)

    async def embed(
        self,
        inputs: Sequence[str | types_pb2.Item],
        *,
        role: embedder_pb2.Role.ValueType = embedder_pb2.ROLE_UNSPECIFIED,
        timeout: float | None = None,
    ) -> Embeddings:
        """Vectors of texts and items in the content space, from the embedder itself."""
        request = embedder_pb2.EmbedRequest(
            inputs=[
                embedder_pb2.Input(text=one) if isinstance(one, str) else embedder_pb2.Input(item=one) for one in inputs
            ],
            options=embedder_pb2.Options(role=role),
        )
        answer = await self._call(self._embedder.Embed, request, timeout)
        return Embeddings(unpack_matrix(answer.vectors), answer.readings, answer.space_version)

    async def vectors(
        self,
        item_ids: Sequence[str],
        space: types_pb2.Space.ValueType = types_pb2.SPACE_CONTENT,
        *,
        timeout: float | None = None,
    ) -> ItemVectors:
        """Vectors of items as the retriever holds them."""
        request = retriever_pb2.GetVectorsRequest(item_ids=item_ids, space=space)
        answer = await self._call(self._retriever.GetVectors, request, timeout)
        present = np.array([p == retriever_pb2.PRESENCE_PRESENT for p in answer.presence], dtype=bool)
        return ItemVectors(unpack_matrix(answer.vectors), present, answer.space_version)

    async def nearest(
        self,
        vector: Float32,
        k: int,
        space: types_pb2.Space.ValueType = types_pb2.SPACE_CONTENT,
        *,
        filter: retriever_pb2.Filter | None = None,
        exact: bool = False,
        timeout: float | None = None,
    ) -> types_pb2.CandidateColumns:
        """Items near a vector of shape (dim,), from the retriever itself."""
        leg = retriever_pb2.Leg(name="vector", vector=retriever_pb2.VectorLeg(space=space, vector=pack_vector(vector)))
        request = retriever_pb2.SearchRequest(legs=[leg], k=k, filter=filter, exact=exact)
        return (await self._call(self._retriever.Search, request, timeout)).candidates

    async def retrieve(
        self, request: retriever_pb2.SearchRequest, *, timeout: float | None = None
    ) -> retriever_pb2.SearchResponse:
        """Candidates of any legs, from the retriever itself (see Retriever.Search)."""
        return await self._call(self._retriever.Search, request, timeout)

    async def encoder_info(self, *, timeout: float | None = None) -> embedder_pb2.GetInfoResponse:
        """What the embedder serves."""
        return await self._call(self._embedder.GetInfo, embedder_pb2.GetInfoRequest(), timeout)

    async def catalogue_info(self, *, timeout: float | None = None) -> retriever_pb2.GetInfoResponse:
        """What the retriever holds and serves."""
        return await self._call(self._retriever.GetInfo, retriever_pb2.GetInfoRequest(), timeout)

    async def shopper(
        self, shopper_id: str, *, timeout: float | None = None
    ) -> Sequence[coldstart_pb2.GetShopperResponse]:
        """All that is held of a shopper, part by part (see Coldstart.GetShopper)."""
        request = coldstart_pb2.GetShopperRequest(shopper_id=shopper_id)
        call = self._coldstart.GetShopper(request, timeout=self._timeout if timeout is None else timeout)
        return [part async for part in call]

    async def forget_shopper(
        self, shopper_id: str, *, timeout: float | None = None
    ) -> coldstart_pb2.ForgetShopperResponse:
        """Erases all that is held of a shopper (see Coldstart.ForgetShopper)."""
        request = coldstart_pb2.ForgetShopperRequest(shopper_id=shopper_id)
        return await self._call(self._coldstart.ForgetShopper, request, timeout)

    async def onboarding_questions(
        self, k: int = 3, *, shopper_id: str = "", timeout: float | None = None
    ) -> Sequence[coldstart_pb2.OnboardingQuestion]:
        """What to ask a shopper nobody knows (see Coldstart.OnboardingQuestions)."""
        request = coldstart_pb2.OnboardingQuestionsRequest(shopper_id=shopper_id, k=k)
        return (await self._call(self._coldstart.OnboardingQuestions, request, timeout)).questions

    async def generations(self, *, timeout: float | None = None) -> Sequence[generations_pb2.Generation]:
        """What is loaded in all processes behind the gateway."""
        request = generations_pb2.ListGenerationsRequest()
        return (await self._call(self._generations.ListGenerations, request, timeout)).generations

    async def prepare(self, bundle: str, *, timeout: float | None = None) -> generations_pb2.Generation:
        """Loads a bundle beside what serves, in all processes behind the gateway (see Generations.Prepare)."""
        request = generations_pb2.PrepareRequest(bundle=bundle)
        return (await self._call(self._generations.Prepare, request, timeout)).generation

    async def switch(self, generation: str, *, timeout: float | None = None) -> generations_pb2.Generation:
        """Makes a prepared generation the one that serves (see Generations.Switch)."""
        request = generations_pb2.SwitchRequest(generation=generation)
        return (await self._call(self._generations.Switch, request, timeout)).generation

    async def retire(self, generation: str, *, timeout: float | None = None) -> None:
        """Lets a generation go (see Generations.Retire)."""
        await self._call(self._generations.Retire, generations_pb2.RetireRequest(generation=generation), timeout)

    async def decide(self, decision: review_pb2.Decision, *, timeout: float | None = None) -> review_pb2.Decision:
        """Approves, suppresses or pins an item, or undoes that (see Review.Decide)."""
        request = review_pb2.DecideRequest(decision=decision)
        return (await self._call(self._review.Decide, request, timeout)).decision

    async def decisions(self, *, timeout: float | None = None) -> Sequence[review_pb2.Decision]:
        """The suppressions and pins in force, the oldest first."""
        return (await self._call(self._review.ListDecisions, review_pb2.ListDecisionsRequest(), timeout)).decisions

    async def proposals(self, k: int = 0, *, timeout: float | None = None) -> Sequence[review_pb2.Proposal]:
        """Items that a person should look at, k of each kind (see Review.ListProposals)."""
        return (await self._call(self._review.ListProposals, review_pb2.ListProposalsRequest(k=k), timeout)).proposals

    async def audit(
        self, item_id: str = "", *, before: int = 0, limit: int = 0, timeout: float | None = None
    ) -> Sequence[review_pb2.Decision]:
        """Who decided what and why, newest first (see Review.ReadAudit)."""
        request = review_pb2.ReadAuditRequest(item_id=item_id, before=before, limit=limit)
        return (await self._call(self._review.ReadAudit, request, timeout)).decisions

    async def _call(
        self, method: Callable[..., Awaitable[R]], request: Any, timeout: float | None, idempotent: bool = True
    ) -> R:
        loop = asyncio.get_running_loop()
        end = loop.time() + (self._timeout if timeout is None else timeout)
        pause = 0.05
        refused: grpc.aio.AioRpcError | None = None
        self._budget.earn()
        while True:
            try:
                return await method(request, timeout=max(0.001, end - loop.time()))
            except grpc.aio.AioRpcError as error:
                if refused is not None and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise refused from None  # What was wrong says more than that the retries ran out of time.
                pause *= random.uniform(1.5, 2.5)
                again = idempotent and error.code() in _WORTH_A_RETRY and loop.time() + pause < end
                if not again or not self._budget.spend():
                    raise
                refused = error
            await asyncio.sleep(pause)


def _sync(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[SyncClient, P], R]:
    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(method(self._client, *args, **kwargs))

    return call


class SyncClient:
    """The same calls for code without an event loop; may be used from several threads."""

    def __init__(
        self,
        shop: str = "127.0.0.1:7100",
        *,
        embedder: str = "127.0.0.1:7101",
        retriever: str = "127.0.0.1:7102",
        coldstart: str = "127.0.0.1:7104",
        timeout: float = 5.0,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="souk-client", daemon=True)
        self._thread.start()

        async def connect() -> Client:
            return Client(shop, embedder=embedder, retriever=retriever, coldstart=coldstart, timeout=timeout)

        self._client = self._run(connect())

    def _run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the channels and ends the thread."""
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    search = _sync(Client.search)
    recommend = _sync(Client.recommend)
    recommend_brands = _sync(Client.recommend_brands)
    similar = _sync(Client.similar)
    suggest = _sync(Client.suggest)
    record_events = _sync(Client.record_events)
    upsert_items = _sync(Client.upsert_items)
    delete_items = _sync(Client.delete_items)
    get_item = _sync(Client.get_item)
    item_stage = _sync(Client.item_stage)
    embed = _sync(Client.embed)
    vectors = _sync(Client.vectors)
    nearest = _sync(Client.nearest)
    retrieve = _sync(Client.retrieve)
    encoder_info = _sync(Client.encoder_info)
    catalogue_info = _sync(Client.catalogue_info)
    shopper = _sync(Client.shopper)
    forget_shopper = _sync(Client.forget_shopper)
    onboarding_questions = _sync(Client.onboarding_questions)
    generations = _sync(Client.generations)
    prepare = _sync(Client.prepare)
    switch = _sync(Client.switch)
    retire = _sync(Client.retire)
    decide = _sync(Client.decide)
    decisions = _sync(Client.decisions)
    proposals = _sync(Client.proposals)
    audit = _sync(Client.audit)
