"""The map of a request: which stages an answer passes, in what order, and what stands in for each.

    Search:     embed ‖ context ─> retrieve ─> rank ─> page      Similar:  retrieve ─> page
    Recommend:  context ─> encode shopper ‖ candidates ─> retrieve ─> rank ─> page
    next page:  kept list ─> retrieve ─> page               Brands:   as Recommend, without pages
    Search for nobody known, again: held list ─> page (services/gateway/lists.py)
    and before the page: what people suppressed is left out, what they pinned has its place (services/gateway/review.py)

    gone or late    stands in                          gone or late        stands in
    embed           words only                         context, candidates popularity
    encode shopper  profile and lists                  rank                the order of the retrieval
    retrieve        a follower                         kept list           computed again without what was shown

Each stage is a method of Steps; degradations tell the caller which substitutes ran.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from services.gateway.exploration import EXPLORED
from services.gateway.listing import Listed, Wanted, ids_leg, item_leg, popular_leg, vector_leg, words_leg
from services.gateway.lists import Lists
from services.gateway.pages import Kept, Pages, PageToken
from services.gateway.peers import Peers
from services.gateway.requests import DEFAULT_BRANDS
from services.gateway.review import Reviewed
from services.gateway.scenes import STANDS_IN
from services.gateway.settings import GatewaySettings
from services.gateway.stages import Journey, StageFailed
from services.gateway.steps import Steps
from services.runtime import telemetry
from services.runtime.errors import NotFound
from services.runtime.tasks import Background
from souk.coldstart.v1 import coldstart_pb2
from souk.retriever.v1 import retriever_pb2
from souk.shop.v1 import shop_pb2
from souk.types.v1 import types_pb2

# A page refreshed from a kept list asks for so many times its size, since some of it may no longer be shown.
_REFRESH_FACTOR = 3
_ITEMS_OF_A_SCENE = 4
_MAX_LEGS = 16
# Popular items stand behind whatever was found for this shopper.
_POPULAR_WEIGHT = 0.1


@dataclass(frozen=True)
class Answer:
    """A page, and how much is known of the shopper."""

    hits: list[shop_pb2.Hit]
    next_page_token: str
    stage: types_pb2.Stage.ValueType


class Pipeline:
    """Composes the processes into answers."""

    def __init__(
        self,
        settings: GatewaySettings,
        peers: Peers,
        steps: Steps,
        reviewed: Reviewed,
        lists: Lists,
        pages: Pages,
        background: Background,
    ) -> None:
        self._settings = settings
        self._peers = peers
        self._steps = steps
        self._reviewed = reviewed
        self._lists = lists
        self._pages = pages
        self._background = background
        self._random = random.Random(settings.explore_seed).random

    async def search(self, journey: Journey, request: shop_pb2.SearchRequest) -> Answer:
        """Items for a query; for a shopper of whom something is known, in their order."""
        wanted = await self._wanted(journey, request, types_pb2.SCENE_SEARCH, query=request.query)

        # What nobody in particular is shown is the same for all of them.
        key = None if request.shopper_id or self._settings.rerank else self._lists.key(journey, wanted, request.query)

        async def compute() -> Listed:
            if key is not None and (held := self._lists.find(key, journey)) is not None:
                return Listed.as_retrieved(held)
            vector, context = await asyncio.gather(
                self._steps.query_vector(journey, request.query), self._known(journey, request.shopper_id)
            )
            share = self._settings.words_weight
            legs = [words_leg(request.query, share)]
            if vector is not None:
                rest = None if share is None else 1 - share
                legs.append(vector_leg("meaning", types_pb2.SPACE_CONTENT, vector, rest))
            found = await self._steps.find_something(journey, wanted, legs, wanted.excluded)
            columns = found.candidates
            if key is not None:
                self._lists.keep(key, found, journey)
            personal = context is not None and len(context.history) > 0
            if not personal and not self._settings.rerank:
                return Listed.as_retrieved(columns)
            return await self._steps.rank(journey, context if personal else None, columns, wanted, query=request.query)

        return await self._page(journey, wanted, compute)

    async def similar(self, journey: Journey, request: shop_pb2.SimilarRequest) -> Answer:
        """Items like one item."""
        wanted = await self._wanted(journey, request, types_pb2.SCENE_SIMILAR, [request.item_id])

        async def compute() -> Listed:
            legs = [item_leg("like", request.item_id)]
            without = wanted.excluded | {request.item_id}
            found = await self._steps.find_something(journey, wanted, legs, without)
            return Listed.as_retrieved(found.candidates)

        return await self._page(journey, wanted, compute)

    async def recommend(self, journey: Journey, request: shop_pb2.RecommendRequest) -> Answer:
        """Items for a shopper and a scene."""
        wanted = await self._wanted(journey, request, request.scene, request.item_ids)
        known = coldstart_pb2.ShopperContext(stage=types_pb2.STAGE_COLD)

        async def compute() -> Listed:
            listed, slots = await self._recommended(journey, request, wanted, known)
            if not listed.beliefs:
                return listed.exploring(slots)
            return listed.exploring_by_ranker(slots, time.time() - 86_400 * self._settings.new_days, self._random())

        answer = await self._page(journey, wanted, compute)
        return Answer(answer.hits, answer.next_page_token, known.stage)

    async def brands(
        self, journey: Journey, request: shop_pb2.RecommendBrandsRequest
    ) -> tuple[list[shop_pb2.BrandHit], types_pb2.Stage.ValueType]:
        """Brands for a shopper, of what HOME would choose from, and how much is known of the shopper."""
        home = shop_pb2.RecommendRequest(
            shopper_id=request.shopper_id,
            scene=types_pb2.SCENE_HOME,
            shopper_attributes=request.shopper_attributes,
            filter=request.filter,
            explain=request.explain,
        )
        wanted = replace(await self._wanted(journey, home, home.scene), pins={})
        known = coldstart_pb2.ShopperContext(stage=types_pb2.STAGE_COLD)
        listed, _ = await self._recommended(journey, home, wanted, known)
        return listed.brands(wanted, request.k or DEFAULT_BRANDS), known.stage

    async def suggest(self, journey: Journey, prefix: str, k: int) -> Sequence[retriever_pb2.Suggestion]:
        """Completions of what is being typed."""
        request = retriever_pb2.SuggestRequest(prefix=prefix, k=k or 10)
        return (await self._steps.read(journey, "suggest", lambda reader: reader.Suggest, request)).suggestions

    async def item(self, journey: Journey, item_id: str) -> tuple[types_pb2.Item, types_pb2.Stage.ValueType]:
        """One item as the catalogue holds it, and how much is known of it. Raises NotFound."""
        return await asyncio.gather(self._steps.item(journey, item_id), self._steps.item_stage(journey, item_id))

    async def _recommended(
        self,
        journey: Journey,
        request: shop_pb2.RecommendRequest,
        wanted: Wanted,
        known: coldstart_pb2.ShopperContext,
    ) -> tuple[Listed, Sequence[coldstart_pb2.ExplorationSlot]]:
        """The whole list for a shopper and a scene, and the places kept for exploration; `known` is filled with what is
        known of the shopper."""
        context = await self._steps.context(
            journey, request.shopper_id, request.shopper_attributes, substitute="popularity"
        )
        if context is not None:
            known.CopyFrom(context)
        vector, proposed = await asyncio.gather(
            self._steps.shopper_vector(journey, context),
            self._steps.candidates(journey, context, request.scene, request.item_ids),
        )
        legs = _legs(request.item_ids, vector, proposed)
        others = replace(wanted, excluded=wanted.excluded | set(request.item_ids))
        seen = frozenset(known.seen_item_ids)
        try:
            columns, stood_in = await self._steps.find_of_scene(journey, others, legs, seen)
        except NotFound:  # An item of the scene is unknown; the others and the shopper still say enough.
            legs = [leg for leg in legs if not leg.HasField("item")]
            columns, stood_in = await self._steps.find_of_scene(journey, others, legs, seen)
        explores = bool(proposed.explorations)
        listed = await self._steps.rank(journey, context, columns, wanted, item_ids=request.item_ids, explores=explores)
        policy = f"{listed.policy}/{proposed.policy}" if proposed.policy else listed.policy
        return replace(listed, policy=policy, stood_in=stood_in), proposed.explorations

    # ---- pages ----

    async def _page(self, journey: Journey, wanted: Wanted, compute: Callable[[], Awaitable[Listed]]) -> Answer:
        """The page after those that the token remembers, or the first."""
        before = wanted.before or PageToken(journey.request_id, wanted.fingerprint, 0, frozenset())
        refreshed = await self._refreshed(journey, wanted, wanted.before) if wanted.before else None
        if refreshed is not None:
            listed, left = refreshed
        else:
            computed, pinned = await asyncio.gather(compute(), self._steps.find_pinned(journey, wanted))
            listed = computed.with_pins(wanted.pins, pinned)
            ids = listed.ids()
            left = sum(not before.has_shown(item_id) for item_id in ids) if before.shown else len(ids)
            if left > wanted.page_size:
                ranked = list(zip(ids, listed.scores, strict=True))
                kept = Kept(listed.policy, ranked, listed.stood_in, dict(listed.propensities))
                self._background.start(self._pages.keep(before.request_id, before.fingerprint, kept))
        with journey.clock.stage("page"):
            hits = listed.page(wanted, before, self._settings.out_of_stock)
        if hits and wanted.shopper_id and self._peers.coldstart is not None:
            hits = await self._shown(journey, wanted, before, listed, hits)
        more = hits and left > len(hits)
        token = self._pages.issue(before, [hit.item_id for hit in hits]) if more else ""
        return Answer(hits, token, types_pb2.STAGE_UNSPECIFIED)

    async def _refreshed(self, journey: Journey, wanted: Wanted, before: PageToken) -> tuple[Listed, int] | None:
        """What follows in a kept list, as the catalogue holds it now, and how much of the list was left."""
        kept = await self._pages.find(before)
        if kept is None:
            journey.degrade("pages", types_pb2.DEGRADATION_REASON_EXPIRED, "computed again without what was shown")
            return None
        left = [(item_id, score) for item_id, score in kept.ranked if not before.has_shown(item_id)]
        some = wanted.page_size * _REFRESH_FACTOR
        ahead, left = left[:some], left[some:]
        listed = await self._as_it_is_now(journey, wanted, kept, ahead)
        if left and not listed.rows:
            # What may no longer be shown stays at the head of the list, however much that is.
            ahead, left = left, []
            listed = await self._as_it_is_now(journey, wanted, kept, ahead)
        if kept.stood_in and listed.rows:
            journey.degrade("retrieve", types_pb2.DEGRADATION_REASON_NOTHING_FOUND, STANDS_IN[wanted.scene])
        return listed, len(listed.rows) + len(left)

    async def _as_it_is_now(
        self, journey: Journey, wanted: Wanted, kept: Kept, ahead: Sequence[tuple[str, float]]
    ) -> Listed:
        """Of a piece of a kept list what may be shown, in its order."""
        if not ahead:
            return Listed.as_retrieved(types_pb2.CandidateColumns(), kept.policy)
        # Scores by rank keep the order of equal scores.
        ids = [types_pb2.ScoredId(item_id=item_id, score=1 / (1 + i)) for i, (item_id, _) in enumerate(ahead)]
        request = retriever_pb2.SearchRequest(
            legs=[ids_leg("kept", ids, 1.0)],
            k=len(ahead),
            filter=wanted.stand_in if kept.stood_in else wanted.filter,
            exclude_item_ids=wanted.excluded,
        )
        columns = (await self._steps.read(journey, "retrieve", lambda reader: reader.Search, request)).candidates
        scores = dict(ahead)
        return Listed(
            columns,
            range(len(columns.id)),
            [scores[one] for one in columns.id],
            kept.policy,
            propensities={one: kept.propensities[one] for one in columns.id if one in kept.propensities},
        )

    async def _shown(
        self, journey: Journey, wanted: Wanted, before: PageToken, listed: Listed, hits: list[shop_pb2.Hit]
    ) -> list[shop_pb2.Hit]:
        """Has the page written down. A page that explores waits for it, since its propensities must not be lost."""
        if not any(hit.item_id in listed.propensities for hit in hits):
            self._background.start(self._record_quietly(journey, wanted, listed, hits))
            return hits
        try:
            await self._steps.record(journey, _impression(journey, wanted, listed, hits))
        except StageFailed as failure:
            journey.degrade("impression", failure.reason, "a page without exploration")
            rest = listed.without_exploration().with_pins(wanted.pins)
            return rest.page(wanted, before, self._settings.out_of_stock)
        return hits

    async def _record_quietly(self, journey: Journey, wanted: Wanted, listed: Listed, hits: list[shop_pb2.Hit]) -> None:
        later = Journey(journey.generation, self._settings.default_seconds)
        try:
            await self._steps.record(later, _impression(journey, wanted, listed, hits))
        except StageFailed as failure:
            telemetry.log.warning("impression not written", problem=str(failure))

    async def _wanted(
        self,
        journey: Journey,
        request: shop_pb2.SearchRequest | shop_pb2.SimilarRequest | shop_pb2.RecommendRequest,
        scene: types_pb2.Scene.ValueType,
        about: Sequence[str] = (),
        query: str = "",
    ) -> Wanted:
        """What is wanted, as far as people let it be shown; the items that it is `about` are not pinned."""
        wanted = Wanted.of(request, scene, [query] if query else about, self._pages, self._settings)
        await self._reviewed.known(journey)
        now = time.time()
        pins = self._reviewed.pins(scene, query, request.filter, now)
        return replace(
            wanted,
            excluded=wanted.excluded | self._reviewed.suppressed(scene, now),
            pins={item_id: place for item_id, place in pins.items() if item_id not in about},
        )

    async def _known(self, journey: Journey, shopper_id: str) -> coldstart_pb2.ShopperContext | None:
        """The context of a search: nobody is asked where it would change nothing."""
        if not shopper_id or self._peers.ranker is None:
            return None
        return await self._steps.context(journey, shopper_id, (), substitute="the same order for everyone")


def _legs(
    item_ids: Sequence[str], vector: types_pb2.Vector | None, proposed: coldstart_pb2.CandidatesResponse
) -> list[retriever_pb2.Leg]:
    """The ways in which candidates of a recommendation are found: what is proposed, and what the gateway can add."""
    legs = [
        vector_leg(one.name, one.space, one.vector, one.weight)
        for one in proposed.vectors
        if one.space
        != types_pb2.SPACE_TOPIC  # Topics are compared where profiles are kept; nothing is searched by them.
    ]
    legs += [ids_leg(one.name, one.items, one.weight) for one in proposed.lists if one.items]
    if not any(leg.name == "like" for leg in legs):
        about = item_ids[:_ITEMS_OF_A_SCENE]
        legs += [item_leg(f"like {i}" if i else "like", item_id) for i, item_id in enumerate(about)]
    if vector is not None:
        legs.insert(0, vector_leg("behaviour", types_pb2.SPACE_BEHAVIOUR, vector, 1.0))
    explored = [types_pb2.ScoredId(item_id=slot.item_id, score=1.0) for slot in proposed.explorations]
    if explored:
        # Only to be known and filtered; their places are given at the end.
        legs.insert(0, ids_leg(EXPLORED, explored, _POPULAR_WEIGHT))
    return [*legs[: _MAX_LEGS - 1], popular_leg(_POPULAR_WEIGHT)]


def _impression(journey: Journey, wanted: Wanted, listed: Listed, hits: Sequence[shop_pb2.Hit]) -> types_pb2.Impression:
    impression = types_pb2.Impression(
        request_id=journey.request_id,
        shopper_id=wanted.shopper_id,
        scene=wanted.scene,
        policy=listed.policy,
        generation=journey.generation,
        items=[
            types_pb2.ImpressionItem(
                item_id=hit.item_id,
                position=hit.position,
                score=hit.score,
                propensity=listed.propensities.get(hit.item_id, 1.0),
                stock=hit.stock if hit.HasField("stock") else None,
            )
            for hit in hits
        ],
    )
    impression.time.GetCurrentTime()
    return impression
