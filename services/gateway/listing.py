"""A list of candidates in its final order, what of it may be shown, and how a hit looks to the caller."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.domain import thompson
from services.domain.blended import BLEND
from services.gateway import exploration
from services.gateway.pages import Pages, PageToken, fingerprint
from services.gateway.requests import DEFAULT_PAGE_SIZE
from services.gateway.scenes import allowed, standing_in
from services.gateway.settings import GatewaySettings
from souk.coldstart.v1 import coldstart_pb2
from souk.retriever.v1 import retriever_pb2
from souk.shop.v1 import shop_pb2
from souk.types.v1 import types_pb2

Listing = shop_pb2.SearchRequest | shop_pb2.SimilarRequest | shop_pb2.RecommendRequest

_BRAND_HITS = 3
PINNED = "pinned by the shop"
"""The reason of what people gave a place."""

# Reasons of what no ranker gives any for: what the legs of the retrieval stand for.
_REASONS = {
    BLEND: "fits what is known so far",
    "words": "holds your words",
    "meaning": "close in meaning",
    "like": "like the item",
    "behaviour": "fits what you did",
    "profile": "fits your interests",
    "together": "met by others together with what you met",
    "popular": "popular",
    "trend": "more in demand lately",
}


@dataclass(frozen=True)
class Wanted:
    """What every listing request has in common."""

    scene: types_pb2.Scene.ValueType
    shopper_id: str
    page_size: int
    before: PageToken | None
    fingerprint: bytes
    filter: retriever_pb2.Filter
    excluded: frozenset[str]
    explain: bool
    pins: Mapping[str, int] = field(default_factory=dict)
    """Places that people gave to items, in the order in which they are given."""
    stand_in: retriever_pb2.Filter | None = None
    """The filter without what the scene is for; None where nothing may stand in."""

    @classmethod
    def of(
        cls,
        request: Listing,
        scene: types_pb2.Scene.ValueType,
        what: Sequence[str],
        pages: Pages,
        settings: GatewaySettings,
    ) -> Wanted:
        """Reads a request; `what` tells its lists apart. Raises Invalid for the page token of another request."""
        excluded = sorted(request.exclude_item_ids)
        mark = fingerprint(
            type(request).__name__.encode(),
            scene.to_bytes(1, "little"),
            request.shopper_id.encode(),
            request.filter.SerializeToString(deterministic=True),
            *(part.encode() for part in (*what, "", *excluded)),
        )
        return cls(
            scene=scene,
            shopper_id=request.shopper_id,
            page_size=request.page_size or DEFAULT_PAGE_SIZE,
            before=pages.read(request.page_token, mark) if request.page_token else None,
            fingerprint=mark,
            filter=allowed(scene, request.filter, settings.out_of_stock, settings.new_days, time.time()),
            excluded=frozenset(excluded),
            explain=request.explain,
            stand_in=standing_in(scene, request.filter, settings.out_of_stock),
        )


@dataclass(frozen=True)
class Listed:
    """Candidates in their final order: `rows` of the columns, best first, with the score of each."""

    columns: types_pb2.CandidateColumns
    rows: Sequence[int]
    scores: Sequence[float]
    policy: str
    reasons: Mapping[int, Sequence[str]] = field(default_factory=dict)
    """By row; empty where nobody gave any."""
    contributions: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """By row: what each feature of the ranker added."""
    propensities: Mapping[str, float] = field(default_factory=dict)
    """Of items that exploration put where they are; every other stands where it stands with certainty."""
    stood_in: bool = False
    """As in Kept."""
    beliefs: Mapping[int, exploration.Belief] = field(default_factory=dict)
    """By row: what the ranker believes of a click; empty where it was not asked or does not say."""

    @classmethod
    def as_retrieved(cls, columns: types_pb2.CandidateColumns, policy: str = "retrieval") -> Listed:
        """In the order in which the retriever answered."""
        return cls(columns, range(len(columns.id)), columns.score, policy)

    def exploring(self, slots: Sequence[coldstart_pb2.ExplorationSlot]) -> Listed:
        """With the items of the slots in their places; a slot whose item is not among the candidates stays unused."""
        place = {item_id: i for i, item_id in enumerate(self.columns.id)}
        order = list(zip(self.rows, self.scores, strict=True))
        propensities = dict(self.propensities)
        for slot in sorted(slots, key=lambda one: one.position):
            row = place.get(slot.item_id)
            at = next((i for i, one in enumerate(order) if one[0] == row), None)
            if at is not None:
                order.insert(min(slot.position, len(order) - 1), order.pop(at))
                propensities[slot.item_id] = slot.propensity
        rows, scores = zip(*order, strict=True) if order else ((), ())
        return replace(
            self,
            rows=rows,
            scores=scores,
            policy=f"{self.policy}+exploration" if propensities else self.policy,
            propensities=propensities,
        )

    def exploring_by_ranker(self, slots: Sequence[coldstart_pb2.ExplorationSlot], since: float, at: float) -> Listed:
        """With an item in the place of the first slot that is drawn by what the ranker believes, at a random number
        `at` from [0, 1): one of those below the place that were first offered from `since` (seconds since 1970 UTC) on.

        What is here for having been drawn before alone is left out, so that what may be drawn, and the propensity, do
        not depend on that draw. Where nothing is believed of any such item, the slots are used as they are.
        """
        found = {
            row
            for leg in self.columns.legs
            if leg.leg != exploration.EXPLORED
            for row, score in enumerate(leg.score)
            if not math.isnan(score)
        }
        others = [(row, score) for row, score in zip(self.rows, self.scores, strict=True) if row in found]
        arms = [
            row
            for row, _ in others[slots[0].position + 1 if slots else len(others) :]
            if row in self.beliefs and self.columns.created_at[row] >= since
        ][: thompson.MAX_ARMS]
        if not arms:
            return self.exploring(slots)
        ids = [self.columns.id[row] for row in arms]
        drawn = exploration.draw(slots[0].position, ids, [self.beliefs[row] for row in arms], at)
        rows, scores = zip(*others, strict=True)
        return replace(self, rows=rows, scores=scores, policy=f"{self.policy}+by-ranker").exploring([drawn])

    def without_exploration(self) -> Listed:
        """Without the items that exploration put into it."""
        kept = [i for i, row in enumerate(self.rows) if self.columns.id[row] not in self.propensities]
        return replace(
            self,
            rows=[self.rows[i] for i in kept],
            scores=[self.scores[i] for i in kept],
            policy=self.policy.removesuffix("+exploration"),
            propensities={},
        )

    def with_pins(self, pins: Mapping[str, int], found: types_pb2.CandidateColumns | None = None) -> Listed:
        """With pinned items in their places, as far as they are among the candidates or among those `found` for them.

        They stand there with certainty, whatever exploration drew. One that nobody else proposed has the score of what
        it pushes down.
        """
        if not pins:
            return self
        known = set(self.columns.id)
        more = [row for row, item_id in enumerate(found.id) if item_id not in known] if found is not None else []
        columns = _joined(self.columns, found, more) if found is not None and more else self.columns
        at = {item_id: row for row, item_id in enumerate(columns.id)}
        order = [(row, score) for row, score in zip(self.rows, self.scores, strict=True) if columns.id[row] not in pins]
        scores = dict(zip(self.rows, self.scores, strict=True))
        for item_id, place in pins.items():
            if item_id in at:
                row, pushed = at[item_id], order[min(place, len(order) - 1)][1] if order else 0.0
                order.insert(place, (row, scores.get(row, pushed)))
        return replace(
            self,
            columns=columns,
            rows=[row for row, _ in order],
            scores=[score for _, score in order],
            propensities={one: chance for one, chance in self.propensities.items() if one not in pins},
        )

    def ids(self) -> list[str]:
        """In order."""
        return [self.columns.id[row] for row in self.rows]

    def page(self, wanted: Wanted, before: PageToken, out_of_stock: bool) -> list[shop_pb2.Hit]:
        """The next page: what must not be shown is left out here, whatever happened before."""
        hits: list[shop_pb2.Hit] = []
        for i, row in enumerate(self.rows):
            item_id = self.columns.id[row]
            sold_out = self.columns.stock[row] == 0 and not out_of_stock
            if item_id not in wanted.excluded and not before.has_shown(item_id) and not sold_out:
                hits.append(self._hit(i, before.offset + len(hits), wanted))
                if len(hits) == wanted.page_size:
                    break
        return hits

    def brands(self, wanted: Wanted, count: int) -> list[shop_pb2.BrandHit]:
        """The brands of the list, by the sum of the scores of their best three items; the best `count` of them."""
        rows: dict[int, list[int]] = {}
        for i, row in enumerate(self.rows):
            best = rows.setdefault(self.columns.brand[row], [])
            if len(best) < _BRAND_HITS:
                best.append(i)
        named = [
            shop_pb2.BrandHit(
                brand=self.columns.brands[code],
                score=sum(self.scores[i] for i in best),
                hits=[self._hit(i, position, wanted) for position, i in enumerate(best)],
            )
            for code, best in rows.items()
            if self.columns.brands[code]
        ]
        # Of equals the one that the list meets first.
        return sorted(named, key=lambda one: -one.score)[:count]

    def _hit(self, i: int, position: int, wanted: Wanted) -> shop_pb2.Hit:
        columns, row = self.columns, self.rows[i]
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
            score=self.scores[i],
            sponsored=wanted.scene == types_pb2.SCENE_SPONSORED,
        )
        if wanted.explain:
            said = {leg.leg: leg.score[row] for leg in columns.legs if not math.isnan(leg.score[row])}
            hit.leg_scores.update(said)
            hit.contributions.update(self.contributions.get(row, {}))
            known = (_REASONS.get(name.split(" ")[0]) for name in said)
            reasons = self.reasons.get(row) or dict.fromkeys(reason for reason in known if reason)
            hit.reasons.extend([PINNED, *reasons] if hit.item_id in wanted.pins else reasons)
        return hit


def _joined(
    columns: types_pb2.CandidateColumns, others: types_pb2.CandidateColumns, rows: Sequence[int]
) -> types_pb2.CandidateColumns:
    """The columns that a hit is made of, followed by such rows of others."""
    joined = types_pb2.CandidateColumns()
    joined.CopyFrom(columns)
    for name in ("id", "revision", "title", "price", "stock", "created_at", "score"):
        values = getattr(others, name)
        getattr(joined, name).extend(values[row] for row in rows)
    for codes, names in (("currency", "currencies"), ("brand", "brands"), ("category", "categories")):
        values, after = getattr(others, codes), len(getattr(columns, names))
        getattr(joined, codes).extend(after + values[row] for row in rows)
        getattr(joined, names).extend(getattr(others, names))
    for leg in joined.legs:
        leg.score.extend(math.nan for _ in rows)
    return joined


def words_leg(query: str, weight: float | None) -> retriever_pb2.Leg:
    """Items that hold the words; without a weight the retriever knows the generation's."""
    return retriever_pb2.Leg(name="words", weight=weight, words=retriever_pb2.WordsLeg(query=query))


def vector_leg(
    name: str, space: types_pb2.Space.ValueType, vector: types_pb2.Vector, weight: float | None
) -> retriever_pb2.Leg:
    """Items near a vector; without a weight the retriever knows the generation's."""
    return retriever_pb2.Leg(name=name, weight=weight, vector=retriever_pb2.VectorLeg(space=space, vector=vector))


def item_leg(name: str, item_id: str) -> retriever_pb2.Leg:
    """Items near an item in the content space."""
    return retriever_pb2.Leg(name=name, item=retriever_pb2.ItemLeg(space=types_pb2.SPACE_CONTENT, item_id=item_id))


def ids_leg(name: str, items: Sequence[types_pb2.ScoredId], weight: float) -> retriever_pb2.Leg:
    """Items already chosen."""
    return retriever_pb2.Leg(name=name, weight=weight, ids=retriever_pb2.IdsLeg(items=items))


def popular_leg(weight: float = 1.0) -> retriever_pb2.Leg:
    """The most popular items."""
    return retriever_pb2.Leg(name="popular", weight=weight, popular=retriever_pb2.PopularLeg())
