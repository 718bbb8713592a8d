"""What to look for, by stage and scene: query vectors and scored id lists. Nothing is retrieved here.

What a shopper searched for counts as a look at the items whose titles hold the words (titles.py).

COLD: popular with people like the shopper (country, age band), the best of every category, new items, items in rising
demand. WARM: near the content profile and the topics, items met by the same shoppers, popular in the shopper's
categories, items in rising demand. HOT: the dense profile, items met by the same shoppers, what is bought again, items
in rising demand; the behaviour vector, which decides, comes from the ranker through the gateway. SIMILAR and CART start
from the items they are about. PROMOTION, CAMPAIGN and SPONSORED look for what HOME does: the gateway's filters, under
which all of it is searched, leave what is on promotion, a campaign or paid for. Where the bundle has a blend of
strategies it says whom HOME and what leans on it would show; without a ranker beside it nothing else is looked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from services.coldstart import exploration, profile
from services.coldstart.crowd import Crowd
from services.coldstart.knowledge import Knowledge
from services.coldstart.log import Log, segments_of
from services.coldstart.popularity import Scored, best_first
from services.coldstart.settings import ColdstartSettings
from services.coldstart.shelf import Newcomer, roots
from services.coldstart.state import MAX_SEARCHES
from services.domain.blended import BLEND
from services.domain.checks import Invalid, check_count, check_id, check_vector
from services.domain.features import LIKE, LIKED, PROFILE, TOGETHER, TREND
from services.domain.thompson import MAX_ARMS
from souk.coldstart.v1 import coldstart_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_vector

MAX_ITEM_IDS = 100
_LISTED = 300
# The shopper's latest distinct items that speak for what is met together with them; each counts so much of the newer.
_LATEST = 20
_FADE = 0.9
_CATEGORIES = 5
_NEW_COMPARED = 500
# Weight of the blend where no ranker orders what is found: what the gateway adds fills places and moves none.
_DECIDES = 1_000.0
_STAGES = {types_pb2.STAGE_COLD: "cold", types_pb2.STAGE_WARM: "warm", types_pb2.STAGE_HOT: "hot"}
_ABOUT_ITEMS = (types_pb2.SCENE_SIMILAR, types_pb2.SCENE_CART)
_EXPLORING = (types_pb2.SCENE_HOME, types_pb2.SCENE_NEW_ARRIVALS)


@dataclass(frozen=True)
class Sources:
    """Where candidates come from."""

    log: Log
    crowd: Crowd
    settings: ColdstartSettings
    random: Callable[[], float]
    """Gives the next random number from [0, 1); called from several threads."""


def check_candidates(request: coldstart_pb2.CandidatesRequest) -> None:
    """Raises Invalid."""
    context = request.context
    if context.shopper_id:  # Empty: nobody is known.
        check_id(context.shopper_id, "context.shopper_id")
    if context.stage not in _STAGES:
        raise Invalid("context.stage", f"{context.stage} is not a stage")
    check_count(context.history, "context.history", 0, 256)
    check_count(context.searches, "context.searches", 0, MAX_SEARCHES)
    check_count(context.seen_item_ids, "context.seen_item_ids", 0, 2_000)
    check_count(context.cart_item_ids, "context.cart_item_ids", 0, 100)
    if request.scene not in types_pb2.Scene.values() or request.scene == types_pb2.SCENE_UNSPECIFIED:
        raise Invalid("scene", f"{request.scene} is not a scene")
    least = 1 if request.scene == types_pb2.SCENE_SIMILAR else 0
    check_count(request.item_ids, "item_ids", least, MAX_ITEM_IDS)
    for i, item in enumerate(request.item_ids):
        check_id(item, f"item_ids[{i}]")
    if context.HasField("profile"):
        check_vector(context.profile, "context.profile")


def choose(
    request: coldstart_pb2.CandidatesRequest, knowledge: Knowledge, sources: Sources
) -> coldstart_pb2.CandidatesResponse:
    """The legs for a checked request."""
    return _Choice(request, knowledge, sources).answer()


class _Choice:
    """One request on its way to its legs."""

    def __init__(self, request: coldstart_pb2.CandidatesRequest, knowledge: Knowledge, sources: Sources) -> None:
        self._request = request
        self._context = request.context
        self._knowledge = knowledge
        self._sources = sources
        self._crowd = sources.crowd
        self._charts = sources.crowd.popularity.charts
        self._answer = coldstart_pb2.CandidatesResponse(generation=knowledge.generation)
        signals = profile.signals(self._context)
        self._weights = profile.item_weights(signals, sources.settings.half_life_days)
        self._liked = [item for item, kind, _ in signals if kind in LIKED or kind == types_pb2.EVENT_TYPE_SEARCH]
        self._profile = self._dense()

    def answer(self) -> coldstart_pb2.CandidatesResponse:
        """All legs, and the place kept for exploration."""
        scene, stage, knowledge = self._request.scene, self._context.stage, self._knowledge
        blended = [] if scene in _ABOUT_ITEMS else self._blended()
        self._answer.policy = f"{_STAGES[stage]}-{types_pb2.Scene.Name(scene).removeprefix('SCENE_').lower()}-v1"
        if scene == types_pb2.SCENE_SIMILAR:
            self._similar()
        elif scene == types_pb2.SCENE_CART:
            self._cart()
        elif blended and knowledge.behaviour is None:
            self._list(BLEND, blended, _DECIDES)
        elif scene == types_pb2.SCENE_NEW_ARRIVALS:
            self._list("new", self._new(), 1.0)
        elif stage == types_pb2.STAGE_COLD:
            self._popular(1.0, 0.0)
            self._list("popular_by_category", self._charts.breadth, 0.7)
            self._list("new", self._new(), 0.3)
            self._list(TREND, self._charts.rising, 0.2)
        else:
            self._known(stage == types_pb2.STAGE_HOT)
        if blended and knowledge.behaviour is not None:
            self._list(BLEND, blended, 1.0)
        if scene in _EXPLORING and self._sources.settings.explore:
            self._explore()
        return self._answer

    # Scenes.

    def _known(self, hot: bool) -> None:
        self._vector(
            PROFILE, types_pb2.SPACE_CONTENT, self._knowledge.content_version, self._profile, 0.5 if hot else 1
        )
        topics = self._knowledge.topics
        if not hot and topics is not None and self._context.topics:
            vector = profile.topic_vector(self._context.topics, len(topics.labels))
            self._vector("topic", types_pb2.SPACE_TOPIC, topics.version, vector, 0.5)
        self._list(TOGETHER, self._met(self._latest_liked()), 1.0)
        if self._crowd.repeats:
            self._list("again", self._again(), 1.0)
        self._popular(0.3, 0.0 if hot else 0.5)
        self._list(TREND, self._charts.rising, 0.2)

    def _similar(self) -> None:
        items = list(dict.fromkeys(self._request.item_ids))
        self._like(items, 1.0)
        self._list(TOGETHER, self._near(items), 0.7)
        shelf = self._crowd.shelf
        categories = {facts.category: 1.0 for item in items if (facts := shelf.get(item)) and facts.category}
        self._list("popular_in_categories", self._popular_in(categories), 0.2)

    def _cart(self) -> None:
        items = list(dict.fromkeys([*self._request.item_ids, *self._context.cart_item_ids]))[:MAX_ITEM_IDS]
        self._list(TOGETHER, self._near(items) or self._met(self._latest_liked()), 1.0)
        self._like(items, 0.2)
        self._popular(0.2, 0.2)

    def _blended(self) -> Scored:
        """What the strategies of the bundle say together; of new items alone where the scene is theirs."""
        blended = self._knowledge.blended
        if blended is None:
            return []
        context, shelf = self._context, self._crowd.shelf
        among = [one.item for one in shelf.newcomers] if self._request.scene == types_pb2.SCENE_NEW_ARRIVALS else None
        told = [f"{each.name}={value}" for each in context.attributes for value in each.values]
        events = len(context.history) + len(context.searches)
        return blended.best(self._liked, events, told, _LISTED, among)

    def _popular(self, segment: float, categories: float) -> None:
        if segment:
            self._list("popular_in_segment", self._popular_in_segment(), segment)
        if categories:
            shares = {share.name: share.share for share in self._context.categories[:_CATEGORIES]}
            self._list("popular_in_categories", self._popular_in(shares), categories)

    def _explore(self) -> None:
        seen = {*self._context.seen_item_ids, *self._context.cart_item_ids}
        new = [newcomer for newcomer in self._crowd.shelf.newcomers if newcomer.item not in seen]
        own = {root for share in self._context.categories for root in roots(share.name)[:1]}
        alike = (newcomer for newcomer in new if own.intersection(roots(newcomer.category)[:1])) if own else ()
        arms = list(islice(alike, MAX_ARMS)) or new[:MAX_ARMS]
        expected = exploration.expectations(arms, self._knowledge.blended, self._crowd.shelf.answered)
        drawn = exploration.draw(arms, expected, self._sources.random())
        if drawn is not None:
            self._answer.explorations.add(
                position=self._sources.settings.explore_position, item_id=drawn.item, propensity=drawn.propensity
            )
            self._answer.policy += "+thompson-v2"

    # Vectors.

    def _dense(self) -> Float32 | None:
        """The dense profile: as told, or made anew where that was of another generation's space."""
        context, space = self._context, self._knowledge.content_version
        if context.HasField("profile") and context.profile_space_version == space:
            return check_vector(context.profile, "context.profile", self._knowledge.content_dim)
        return profile.dense(self._weights, self._sources.log.vectors(list(self._weights), space))

    def _like(self, items: Sequence[str], weight: float) -> None:
        """Near the items the scene is about."""
        space = self._knowledge.content_version
        vector = profile.dense(dict.fromkeys(items, 1.0), self._sources.log.vectors(items, space))
        self._vector(LIKE, types_pb2.SPACE_CONTENT, space, vector, weight)

    def _vector(
        self, name: str, space: types_pb2.Space.ValueType, version: str, vector: Float32 | None, weight: float
    ) -> None:
        if vector is not None:
            self._answer.vectors.add(
                name=name, space=space, space_version=version, vector=pack_vector(vector), weight=weight
            )

    # Lists of (item, score), best first.

    def _list(self, name: str, scored: Scored, weight: float) -> None:
        sold = self._crowd.shelf.may_be_sold
        if items := [types_pb2.ScoredId(item_id=item, score=score) for item, score in scored if sold(item)]:
            self._answer.lists.add(name=name, weight=weight, items=items[:_LISTED])

    def _latest_liked(self) -> dict[str, float]:
        """The shopper's latest distinct items that an event spoke for, the newer weighing more."""
        items = dict.fromkeys(reversed(self._liked))
        return {item: _FADE**rank for rank, item in zip(range(_LATEST), items, strict=False)}

    def _near(self, items: Sequence[str]) -> Scored:
        """Bought with the items, or where too little was, met by the same shoppers."""
        if not items:
            return []
        weights = dict.fromkeys(items, 1.0)
        bought = self._crowd.bought.near(weights, _LISTED, self._crowd.shelf.may_be_sold)
        return _sum((bought, 1.0), (self._met(weights), 0.5))

    def _met(self, weights: Mapping[str, float]) -> Scored:
        """Met by the shoppers who met the items."""
        return self._crowd.met.near(weights, _LISTED, self._crowd.shelf.may_be_sold)

    def _again(self) -> Scored:
        """What the shopper bought before, by how often and how lately; not what is in the cart."""
        bought = [
            (entry.item_id, entry.type, entry.time_ms)
            for entry in self._context.history
            if entry.type == types_pb2.EVENT_TYPE_PURCHASE and entry.item_id not in self._context.cart_item_ids
        ]
        return best_first(profile.item_weights(bought, self._sources.settings.half_life_days))[:_LISTED]

    def _popular_in_segment(self) -> Scored:
        segments = segments_of(self._context.attributes)
        charts = [chart for name in segments if (chart := self._charts.segment(name))]
        # What few people did says little: everybody's taste stands behind it.
        return _sum(*((_scaled(chart), 1.0) for chart in charts), (_scaled(self._charts.overall), 0.3))

    def _popular_in(self, categories: Mapping[str, float]) -> Scored:
        """Popular items of category paths, each counting by its share."""
        return _sum(*((_scaled(self._charts.category(name)), share) for name, share in categories.items()))

    def _new(self) -> Scored:
        """New items: nearest to the profile first, without one the newest first."""
        newcomers: Sequence[Newcomer] = self._crowd.shelf.newcomers[:_NEW_COMPARED]
        newest = {newcomer.item: 1.0 / (1 + rank) for rank, newcomer in enumerate(newcomers)}
        if self._profile is None:
            return best_first(newest)[:_LISTED]
        vectors = self._sources.log.vectors(list(newest), self._knowledge.content_version)
        near = {
            item: float(vector @ self._profile) / max(float(np.linalg.norm(vector)), 1e-9)
            for item, vector in vectors.items()
        }
        # Cosines are below 1; what has no vector comes after what has one.
        return best_first({item: near.get(item, -1.0) + 0.01 * newest[item] for item in newest})[:_LISTED]


def _scaled(scored: Scored) -> Scored:
    """Scores divided by the best."""
    best = scored[0][1] if scored else 0.0
    return [(item, score / best) for item, score in scored] if best > 0 else scored


def _sum(*lists: tuple[Scored, float]) -> Scored:
    sums: dict[str, float] = {}
    for scored, weight in lists:
        for item, score in scored:
            sums[item] = sums.get(item, 0.0) + weight * score
    return best_first(sums)[:_LISTED]
