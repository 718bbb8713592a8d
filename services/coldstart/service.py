"""Coldstart's RPCs: checks what comes in, hands it to the engine, says what became of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import grpc.aio

from services.coldstart import candidates, onboarding, profile, stages
from services.coldstart.engine import Engine
from services.coldstart.knowledge import Knowledge
from services.coldstart.log import Held, merged_attributes
from services.coldstart.requests import check_shopper_attributes
from services.coldstart.review import ReviewServicer
from services.coldstart.settings import ColdstartSettings
from services.domain.checks import Invalid, check_count, check_id, check_item, check_range, check_text, check_vector
from services.domain.offers import ABOUT, is_campaign, values_of
from services.runtime.errors import FailedPrecondition, NotFound, Unavailable
from services.runtime.generations import GenerationsServicer
from services.runtime.telemetry import LOG_EVENTS
from souk.coldstart.v1 import coldstart_pb2, coldstart_pb2_grpc, review_pb2, review_pb2_grpc
from souk.types.v1 import generations_pb2, generations_pb2_grpc, types_pb2
from souk.vectors import Float32, pack_vector

_Context = grpc.aio.ServicerContext[Any, Any]

# An item with its content vector, if the encoder can read it.
_Told = tuple[types_pb2.Item, Float32 | None]

_PARTS_AT_ONCE = 500
_PROFILED_AT_ONCE = 256


class ColdstartServicer(coldstart_pb2_grpc.ColdstartServicer):
    """souk.coldstart.v1.Coldstart."""

    def __init__(self, engine: Engine, draining: asyncio.Event) -> None:
        self._engine = engine
        self._draining = draining

    async def GetShopperContext(
        self, request: coldstart_pb2.GetShopperContextRequest, context: _Context
    ) -> coldstart_pb2.GetShopperContextResponse:
        """What a request needs to know of a shopper; attributes told on the way are kept first."""
        check_id(request.shopper_id, "shopper_id")
        check_shopper_attributes(request.attributes, "attributes")
        engine = self._engine
        if request.attributes:
            held = await engine.read(lambda: engine.log.shopper(request.shopper_id))
            known = list(held.attributes) if held is not None else []
            if merged_attributes(known, request.attributes) != known:
                await engine.write(lambda: engine.log.put_attributes(request.shopper_id, request.attributes))
        with engine.generations.use("") as knowledge:
            answer = await engine.states.context(request.shopper_id, knowledge, engine.read)
        return coldstart_pb2.GetShopperContextResponse(context=answer)

    async def Candidates(
        self, request: coldstart_pb2.CandidatesRequest, context: _Context
    ) -> coldstart_pb2.CandidatesResponse:
        """What to look for."""
        candidates.check_candidates(request)
        engine = self._engine
        with engine.generations.use(request.generation) as knowledge:
            return await engine.read(lambda: candidates.choose(request, knowledge, engine.sources))

    async def ProfileItem(
        self, request: coldstart_pb2.ProfileItemRequest, context: _Context
    ) -> coldstart_pb2.ProfileItemResponse:
        """Topics and behaviour vector of an item, which is remembered; without a vector where none can be made."""
        check_item(request.item, "item")
        engine = self._engine
        with engine.generations.use(request.generation) as knowledge:
            content = _content(request, request.content_space_version, knowledge)
            await engine.write(lambda: engine.log.put_item(request.item, knowledge.content_version, content))
            vector = await engine.read(partial(self._behaviour, request.item, content, knowledge))
            return _profiled(content, vector, knowledge)

    async def ProfileItems(
        self, request: coldstart_pb2.ProfileItemsRequest, context: _Context
    ) -> coldstart_pb2.ProfileItemsResponse:
        """The same of many items; what is wrong with one is said in its place."""
        check_count(request.items, "items", 1, _PROFILED_AT_ONCE)
        check_text(request.catalogue, "catalogue", 128, allow_empty=True)
        engine = self._engine
        with engine.generations.use(request.generation) as knowledge:
            checked = await engine.read(partial(_checked, request, knowledge))
            told = [each for each in checked if not isinstance(each, Invalid)]
            await engine.write(lambda: engine.log.put_items(told, knowledge.content_version, request.catalogue))
            return await engine.read(partial(self._profiles, checked, knowledge))

    async def RemoveItems(
        self, request: coldstart_pb2.RemoveItemsRequest, context: _Context
    ) -> coldstart_pb2.RemoveItemsResponse:
        """Takes items out of all that is offered; answered after the commit."""
        check_count(request.items, "items", 1, _PROFILED_AT_ONCE)
        check_text(request.catalogue, "catalogue", 128, allow_empty=True)
        for i, item in enumerate(request.items):
            check_id(item.item_id, f"items[{i}].item_id")
        removed = [(item.item_id, item.revision) for item in request.items]
        return coldstart_pb2.RemoveItemsResponse(
            removed=await self._engine.write(lambda: self._engine.log.remove_items(removed, request.catalogue))
        )

    async def GetItemStage(
        self, request: coldstart_pb2.GetItemStageRequest, context: _Context
    ) -> coldstart_pb2.GetItemStageResponse:
        """How much is known of an item."""
        check_id(request.item_id, "item_id")
        shelf = self._engine.crowd.shelf
        evidence = shelf.evidence(request.item_id)
        return coldstart_pb2.GetItemStageResponse(
            stage=stages.of_item(evidence, self._engine.settings.hot_events),
            events_for=evidence.events_for,
            events_against=evidence.events_against,
            shown=evidence.shown,
            unanswered=evidence.unanswered,
            is_new=shelf.is_new(request.item_id),
        )

    async def RecordEvents(
        self, request: coldstart_pb2.RecordEventsRequest, context: _Context
    ) -> coldstart_pb2.RecordEventsResponse:
        """Events to the log; answered after the commit."""
        answer = await self._engine.write(lambda: self._engine.log.record(request.events))
        for outcome in ("accepted", "duplicates", "unknown_items"):
            LOG_EVENTS.labels(outcome).inc(getattr(answer, outcome))
        return answer

    async def RecordImpressions(
        self, request: coldstart_pb2.RecordImpressionsRequest, context: _Context
    ) -> coldstart_pb2.RecordImpressionsResponse:
        """Impressions to the log; answered after the commit."""
        return await self._engine.write(lambda: self._engine.log.impress(request.impressions))

    async def OnboardingQuestions(
        self, request: coldstart_pb2.OnboardingQuestionsRequest, context: _Context
    ) -> coldstart_pb2.OnboardingQuestionsResponse:
        """The most telling questions."""
        if request.shopper_id:
            check_id(request.shopper_id, "shopper_id")
        check_range(request.k, "k", 1, 10)
        engine = self._engine
        with engine.generations.use("") as knowledge:
            seen: frozenset[str] = frozenset()
            if request.shopper_id:
                known = await engine.states.context(request.shopper_id, knowledge, engine.read)
                seen = frozenset(known.seen_item_ids)
            questions = await engine.read(partial(self._questions, knowledge, seen, request.k))
        return coldstart_pb2.OnboardingQuestionsResponse(questions=questions)

    async def GetShopper(
        self, request: coldstart_pb2.GetShopperRequest, context: _Context
    ) -> AsyncIterator[coldstart_pb2.GetShopperResponse]:
        """All that is held of a shopper, part by part."""
        check_id(request.shopper_id, "shopper_id")
        engine, shopper_id = self._engine, request.shopper_id
        held = await engine.page(lambda: engine.log.shopper(shopper_id))
        if held is None:
            raise NotFound(f"nothing is held of shopper {shopper_id}")
        yield coldstart_pb2.GetShopperResponse(shopper=types_pb2.Shopper(id=shopper_id, attributes=held.attributes))
        with engine.generations.use("") as knowledge:
            derived = await engine.page(partial(engine.states.compute, shopper_id, held, knowledge))
        yield coldstart_pb2.GetShopperResponse(context=derived)
        async for part in self._parts(held):
            yield part

    async def ForgetShopper(
        self, request: coldstart_pb2.ForgetShopperRequest, context: _Context
    ) -> coldstart_pb2.ForgetShopperResponse:
        """Erases a shopper; answered after the commit."""
        check_id(request.shopper_id, "shopper_id")
        answer = await self._engine.write(lambda: self._engine.log.forget(request.shopper_id))
        await self._engine.states.forget(request.shopper_id)
        return answer

    async def StreamLog(
        self, request: coldstart_pb2.StreamLogRequest, context: _Context
    ) -> AsyncIterator[coldstart_pb2.StreamLogResponse]:
        """The log from a sequence number to its end."""
        after = request.from_sequence
        while entries := await self._engine.page(partial(self._engine.log.entries, after)):
            yield coldstart_pb2.StreamLogResponse(entries=entries)
            after = entries[-1].sequence
            self._refuse_when_draining()

    async def GetInfo(self, request: coldstart_pb2.GetInfoRequest, context: _Context) -> coldstart_pb2.GetInfoResponse:
        """What is held and served."""
        counts = self._engine.log.counts
        with self._engine.generations.use("") as knowledge:
            info = coldstart_pb2.GetInfoResponse(
                generation=knowledge.generation,
                events=counts.events,
                impressions=counts.impressions,
                shoppers=counts.shoppers,
                unknown_item_events=counts.waiting,
                log_id=self._engine.log.identity,
            )
            if knowledge.topics is not None:
                topics = knowledge.topics
                info.topics.space, info.topics.version = types_pb2.SPACE_TOPIC, topics.version
                info.topics.dim = len(topics.labels)
        if counts.latest_ms is not None:
            info.latest_event.FromMilliseconds(counts.latest_ms)
        return info

    async def _parts(self, held: Held) -> AsyncIterator[coldstart_pb2.GetShopperResponse]:
        log, after = self._engine.log, 0
        while True:
            events, after = await self._engine.page(partial(log.events_of, held.key, after, _PARTS_AT_ONCE))
            for event in events:
                yield coldstart_pb2.GetShopperResponse(event=event)
            self._refuse_when_draining()
            if len(events) < _PARTS_AT_ONCE:
                break
        after = 0
        while True:
            shown, after = await self._engine.page(partial(log.impressions_of, held.key, after, _PARTS_AT_ONCE))
            for impression in shown:
                yield coldstart_pb2.GetShopperResponse(impression=impression)
            self._refuse_when_draining()
            if len(shown) < _PARTS_AT_ONCE:
                break

    def _behaviour(self, item: types_pb2.Item, content: Float32 | None, knowledge: Knowledge) -> Float32 | None:
        """The item's behaviour vector, if there is one; a campaign's is that of the items it is about."""
        if knowledge.behaviour is None:
            return None
        about = values_of(item, ABOUT) if is_campaign(item) else ()
        contents = self._engine.log.vectors(about, knowledge.content_version) if about else {}
        return knowledge.behaviour.of(item.id, content, {one: contents.get(one) for one in about})

    def _profiles(self, checked: Sequence[_Told | Invalid], knowledge: Knowledge) -> coldstart_pb2.ProfileItemsResponse:
        answer = coldstart_pb2.ProfileItemsResponse()
        for each in checked:
            if isinstance(each, Invalid):
                answer.items.add(refused=str(each))
                continue
            one = _profiled(each[1], self._behaviour(*each, knowledge), knowledge)
            answer.items.add(
                topics=one.topics,
                topic=one.topic if one.HasField("topic") else None,
                behaviour=one.behaviour if one.HasField("behaviour") else None,
            )
            answer.topic_space_version = one.topic_space_version or answer.topic_space_version
            answer.behaviour_space_version = one.behaviour_space_version or answer.behaviour_space_version
        return answer

    def _questions(self, knowledge: Knowledge, seen: frozenset[str], k: int) -> list[coldstart_pb2.OnboardingQuestion]:
        engine = self._engine
        popular = engine.crowd.popularity.charts.overall
        facts = {item: known for item, _ in popular if (known := engine.crowd.shelf.get(item)) is not None}
        topics: dict[str, Float32] = {}
        if knowledge.topics is not None:
            vectors = engine.log.vectors(list(facts), knowledge.content_version)
            topics = {item: knowledge.topics.of(vector[None])[0] for item, vector in vectors.items()}
        return onboarding.questions(popular, facts, topics, seen, k)

    def _refuse_when_draining(self) -> None:
        if self._draining.is_set():
            raise Unavailable("the process is draining: go on from the last sequence received")


class ColdstartService:
    """Coldstart as a process runs it; see services.runtime.server.Service."""

    name = "coldstart"

    def __init__(self, settings: ColdstartSettings) -> None:
        self._engine = Engine(settings)
        self._draining = asyncio.Event()
        self._coldstart = ColdstartServicer(self._engine, self._draining)

    def register(self, server: grpc.aio.Server) -> list[str]:
        """Adds its servicers."""
        coldstart_pb2_grpc.add_ColdstartServicer_to_server(self._coldstart, server)
        review_pb2_grpc.add_ReviewServicer_to_server(ReviewServicer(self._engine), server)
        generations_pb2_grpc.add_GenerationsServicer_to_server(GenerationsServicer(self._engine.generations), server)
        return [
            coldstart_pb2.DESCRIPTOR.services_by_name["Coldstart"].full_name,
            review_pb2.DESCRIPTOR.services_by_name["Review"].full_name,
            generations_pb2.DESCRIPTOR.services_by_name["Generations"].full_name,
        ]

    async def start(self) -> None:
        """Opens the log and loads the bundle of the settings."""
        await self._engine.start()

    async def warm_up(self) -> None:
        """Asks along the path of a request, for a shopper nobody is."""
        engine = self._engine
        with engine.generations.use("") as knowledge:
            context = await engine.states.context("warm-up", knowledge, engine.read)
            request = coldstart_pb2.CandidatesRequest(context=context, scene=types_pb2.SCENE_HOME)
            await engine.read(lambda: candidates.choose(request, knowledge, engine.sources))

    async def check(self) -> None:
        """Raises when events can no longer be kept."""
        self._engine.check()

    def drain(self) -> None:
        """Ends the streams, which would else go on as long as their callers like."""
        self._draining.set()

    async def stop(self) -> None:
        """Answers what is queued and closes all."""
        await self._engine.stop()


def _checked(request: coldstart_pb2.ProfileItemsRequest, knowledge: Knowledge) -> list[_Told | Invalid]:
    """The items with their content vectors, or what is wrong with one. Raises FailedPrecondition."""
    checked: list[_Told | Invalid] = []
    for each in request.items:
        try:
            check_item(each.item, "item")
            checked.append((each.item, _content(each, request.content_space_version, knowledge)))
        except Invalid as problem:
            checked.append(problem)
    return checked


def _content(
    told: coldstart_pb2.ProfileItemRequest | coldstart_pb2.ToProfile, space_version: str, knowledge: Knowledge
) -> Float32 | None:
    """The item's content vector; None where the encoder cannot read the item. Raises Invalid, FailedPrecondition."""
    if not told.HasField("content"):
        return None
    if space_version != knowledge.content_version:
        raise FailedPrecondition(
            f"content_space_version: {space_version}; generation {knowledge.generation} speaks "
            f"{knowledge.content_version}"
        )
    return check_vector(told.content, "content", knowledge.content_dim)


def _profiled(
    content: Float32 | None, behaviour: Float32 | None, knowledge: Knowledge
) -> coldstart_pb2.ProfileItemResponse:
    answer = coldstart_pb2.ProfileItemResponse()
    if knowledge.topics is not None and content is not None:
        topic = knowledge.topics.of(content[None])[0]
        answer.topics.extend(profile.topic_shares(topic, knowledge.topics))
        answer.topic.CopyFrom(pack_vector(topic))
        answer.topic_space_version = knowledge.topics.version
    if knowledge.behaviour is not None and behaviour is not None:
        answer.behaviour.CopyFrom(pack_vector(behaviour))
        answer.behaviour_space_version = knowledge.behaviour.version
    return answer
