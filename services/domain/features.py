"""What the ranker's heads read of a candidate: numbers from the shopper's context, the retrieval and the item.

Every row is made of its own candidate and the shopper alone: the same candidate has the same features in any company.
Ids and row order are never features.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from services.domain.offers import PROMOTION
from souk.coldstart.v1 import coldstart_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32

# Legs of the retrieval whose scores are features. A leg of another name counts for nothing here.
WORDS = "words"
"""BM25F of the query."""
MEANING = "meaning"
"""Cosine of the query and the item in the content space."""
LIKE = "like"
"""Cosine of the item that the scene is about and this one in the content space."""
PROFILE = "profile"
"""Cosine of the shopper's dense profile and the item in the content space."""
TOGETHER = "together"
"""How often the item was met with those the shopper met: 0 to 1, the weighted mean over the shopper's latest items h
of (shoppers with both) / sqrt(shoppers with h * shoppers with the item)."""
TREND = "trend"
"""How far demand for the item rises: the logarithm of services.domain.demand, above 0, of the items that rise most."""

SCENES: tuple[str, ...] = tuple(name.removeprefix("SCENE_") for name in types_pb2.Scene.keys()[1:])

FEATURES: tuple[str, ...] = (
    "affinity",
    "affinity_missing",
    WORDS,
    MEANING,
    LIKE,
    PROFILE,
    TOGETHER,
    "popularity",
    TREND,
    "few_left",
    "recency",
    "price_closeness",
    "brand_share",
    "category_share",
    "in_history",
    "history_count",
    "history_lately",
    "history_recency",
    "turned_down",
    "in_cart",
    "seen",
    PROMOTION,
    *(f"scene_{scene.lower()}" for scene in SCENES),
)

# Events that speak for an item, and those that speak against it.
LIKED = frozenset(
    (types_pb2.EVENT_TYPE_VIEW, types_pb2.EVENT_TYPE_CLICK, types_pb2.EVENT_TYPE_CART, types_pb2.EVENT_TYPE_PURCHASE)
)
TURNED_DOWN = frozenset((types_pb2.EVENT_TYPE_UNCART, types_pb2.EVENT_TYPE_RETURN, types_pb2.EVENT_TYPE_SKIP))

_SCENE_NUMBERS = np.arange(1, len(SCENES) + 1)
_DAY = 86_400.0
# BM25F score that counts half of the most there can be.
_HALF_WORDS = 5.0
# e^3: twenty times what was to be expected.
_MOST_TREND = 3.0
_FEW = 5.0
_NEW_DAYS = 30.0
_LATELY_DAYS = 60.0


@dataclass(frozen=True)
class Known:
    """n candidates before they become features, one value each; NaN where not known, as in CandidateColumns.

    `history_count`: events of the history that speak for the item; `history_lately`: the sum of `lately` over them;
    `last_met`: seconds from the last of them to now.
    """

    affinity: NDArray[np.floating]
    words: NDArray[np.floating]
    meaning: NDArray[np.floating]
    like: NDArray[np.floating]
    profile: NDArray[np.floating]
    together: NDArray[np.floating]
    popularity: NDArray[np.floating]
    trend: NDArray[np.floating]
    stock: NDArray[np.floating]
    """Units left."""
    age: NDArray[np.floating]
    """Seconds since the item was first offered."""
    price: NDArray[np.floating]
    mean_log_price: NDArray[np.floating]
    """The shopper's: one value or n."""
    brand_share: NDArray[np.floating]
    category_share: NDArray[np.floating]
    history_count: NDArray[np.floating]
    history_lately: NDArray[np.floating]
    last_met: NDArray[np.floating]
    turned_down: NDArray[np.bool_]
    in_cart: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    promotion: NDArray[np.bool_]
    """On promotion at that moment."""

    def features(self, scene: int | NDArray[np.integer]) -> Float32:
        """(n, len(FEATURES)). `scene` is a number of the Scene enum, one or n."""
        columns = (
            self.affinity,
            np.isnan(self.affinity),
            self.words / (np.abs(self.words) + _HALF_WORDS),
            self.meaning,
            self.like,
            self.profile,
            # Counts are spread over powers of ten.
            np.log1p(100 * np.clip(self.together, 0, 1)) / math.log(101),
            np.log1p(self.popularity) / 10,
            np.clip(self.trend, 0, _MOST_TREND) / _MOST_TREND,
            np.exp(-np.clip(self.stock, 0, None) / _FEW),
            np.exp(-np.clip(self.age, 0, None) / (_NEW_DAYS * _DAY)),
            np.exp(-np.abs(np.log1p(self.price) - self.mean_log_price)),
            self.brand_share,
            self.category_share,
            self.history_count > 0,
            np.log1p(self.history_count) / 3,
            np.log1p(self.history_lately),
            lately(self.last_met),
            self.turned_down,
            self.in_cart,
            self.seen,
            self.promotion,
        )
        out = np.empty((len(self.affinity), len(FEATURES)), np.float32)
        for row, column in enumerate(columns):
            out[:, row] = column
        out[:, len(columns) :] = np.equal(np.reshape(scene, (-1, 1)), _SCENE_NUMBERS)
        # What is not known says nothing.
        out[~np.isfinite(out)] = 0
        return out


def features(
    context: coldstart_pb2.ShopperContext,
    query: str,
    scene: int,
    candidates: types_pb2.CandidateColumns,
    affinity: NDArray[np.floating],
    now: float,
) -> Float32:
    """The features of n candidates for a shopper: float32 (n, len(FEATURES)), finite.

    `affinity` (n,) is the dot product of shopper and item in the behaviour space, NaN where one of them has no vector;
    `now` in seconds since 1970-01-01 UTC. Without a query, scores of words and meaning are nobody's and count nothing.
    """
    place = {item_id: row for row, item_id in enumerate(candidates.id)}
    n = len(place)
    legs = {leg.leg: np.array(leg.score, np.float64) for leg in candidates.legs}
    nothing = np.full(n, np.nan)
    brands = {share.name: share.share for share in context.brands}
    brand_shares = np.array([brands.get(name, 0.0) if name else 0.0 for name in candidates.brands])
    # A share of another root counts nothing.
    by_root: Mapping[str, list[tuple[Sequence[str], float]]] = defaultdict(list)
    for share in context.categories:
        if path := split_category(share.name):
            by_root[path[0]].append((path, share.share))
    paths = [split_category(name) for name in candidates.categories]
    category_shares = np.array([category_share(path, by_root.get(path[0], ())) if path else 0.0 for path in paths])
    promoted = np.zeros(n, np.bool_)
    if candidates.promotion:
        promoted = np.array([bool(name) for name in candidates.promotions])[np.array(candidates.promotion, np.int64)]
    stock = np.array(candidates.stock, np.float64)
    known = Known(
        affinity=np.asarray(affinity, np.float64),
        words=legs.get(WORDS, nothing) if query else nothing,
        meaning=legs.get(MEANING, nothing) if query else nothing,
        like=legs.get(LIKE, nothing),
        profile=legs.get(PROFILE, nothing),
        together=legs.get(TOGETHER, nothing),
        popularity=np.array(candidates.popularity, np.float64),
        trend=legs.get(TREND, nothing),
        stock=np.where(stock < 0, np.nan, stock),
        age=now - np.array(candidates.created_at, np.float64),
        price=np.array(candidates.price, np.float64),
        mean_log_price=np.array([context.mean_log_price if context.HasField("mean_log_price") else np.nan]),
        brand_share=brand_shares[np.array(candidates.brand, np.int64)],
        category_share=category_shares[np.array(candidates.category, np.int64)],
        in_cart=_among(context.cart_item_ids, place),
        seen=_among(context.seen_item_ids, place),
        promotion=promoted,
        **_met(context.history, place, now),
    )
    return known.features(scene)


@lru_cache(10_000)
def split_category(path: str) -> tuple[str, ...]:
    """The names of a category path joined by " > "; none of an empty one."""
    return tuple(path.split(" > ")) if path else ()


def category_share(path: Sequence[str], shares: Sequence[tuple[Sequence[str], float]]) -> float:
    """How much of the shares lies at a path: each counts by the part of the longer path that both begin with."""
    total = 0.0
    for other, share in shares:
        common = 0
        for one, two in zip(path, other, strict=False):
            if one != two:
                break
            common += 1
        if common:
            total += share * common / max(len(path), len(other))
    return total


def lately(seconds: NDArray[np.floating]) -> NDArray[np.floating]:
    """1 for now, less by a factor of e every 60 days; a time in the future is now."""
    weight: NDArray[np.floating] = np.exp(-np.clip(seconds, 0, None) / (_LATELY_DAYS * _DAY))
    return weight


class _Met(TypedDict):
    """Fields of Known that the history tells."""

    history_count: NDArray[np.float64]
    history_lately: NDArray[np.float64]
    last_met: NDArray[np.float64]
    turned_down: NDArray[np.bool_]


def _met(history: Iterable[coldstart_pb2.HistoryEntry], place: Mapping[str, int], now: float) -> _Met:
    """Of the candidates at their places; an item that was turned down is so until an event speaks for it again."""
    n = len(place)
    counts, recent, last, down = np.zeros(n), np.zeros(n), np.full(n, np.nan), np.zeros(n, np.bool_)
    for entry in history:
        row = place.get(entry.item_id)
        if row is None:
            continue
        if entry.type in LIKED:
            since = now - entry.time_ms / 1000
            counts[row] += 1
            recent[row] += math.exp(-max(since, 0) / (_LATELY_DAYS * _DAY))
            last[row] = since
            down[row] = False
        elif entry.type in TURNED_DOWN:
            down[row] = True
    return _Met(history_count=counts, history_lately=recent, last_met=last, turned_down=down)


def _among(ids: Iterable[str], place: Mapping[str, int]) -> NDArray[np.bool_]:
    """Which candidates, at their places, are among the ids."""
    found = np.zeros(len(place), np.bool_)
    found[[row for row in map(place.get, ids) if row is not None]] = True
    return found
