"""What the ranker's heads read of a candidate: numbers from the shopper's context, the retrieval and the item.

Every row is made of its own candidate and the shopper alone: the same candidate has the same features in any company.
Ids and row order are never features.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

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

_DAY = 86_400.0
# BM25F score that counts half of the most there can be.
_HALF_WORDS = 5.0
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
        n = len(self.affinity)
        columns = (
            _or_zero(self.affinity),
            np.isnan(self.affinity),
            _or_zero(self.words / (np.abs(self.words) + _HALF_WORDS)),
            _or_zero(self.meaning),
            _or_zero(self.like),
            _or_zero(self.profile),
            # Counts are spread over powers of ten.
            _or_zero(np.log1p(100 * np.clip(self.together, 0, 1)) / math.log(101)),
            np.log1p(_or_zero(self.popularity)) / 10,
            _or_zero(np.exp(-np.clip(self.age, 0, None) / (_NEW_DAYS * _DAY))),
            _or_zero(np.exp(-np.abs(np.log1p(self.price) - self.mean_log_price))),
            self.brand_share,
            self.category_share,
            self.history_count > 0,
            np.log1p(self.history_count) / 3,
            np.log1p(self.history_lately),
            _or_zero(lately(self.last_met)),
            self.turned_down,
            self.in_cart,
            self.seen,
            self.promotion,
            *(np.broadcast_to(np.equal(scene, number + 1), n) for number in range(len(SCENES))),
        )
        out = np.empty((n, len(FEATURES)), np.float32)
        for row, column in enumerate(columns):
            out[:, row] = column
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
    ids = candidates.id
    counts, recent, last, down = _met(context, now)
    cart, seen = frozenset(context.cart_item_ids), frozenset(context.seen_item_ids)
    legs = {leg.leg: np.array(leg.score, np.float64) for leg in candidates.legs}
    nothing = np.full(len(ids), np.nan)
    brands = {share.name: share.share for share in context.brands}
    brand_shares = np.array([brands.get(name, 0.0) if name else 0.0 for name in candidates.brands])
    categories = [(split_category(share.name), share.share) for share in context.categories]
    category_shares = np.array([category_share(split_category(path), categories) for path in candidates.categories])
    known = Known(
        affinity=np.asarray(affinity, np.float64),
        words=legs.get(WORDS, nothing) if query else nothing,
        meaning=legs.get(MEANING, nothing) if query else nothing,
        like=legs.get(LIKE, nothing),
        profile=legs.get(PROFILE, nothing),
        together=legs.get(TOGETHER, nothing),
        popularity=np.array(candidates.popularity, np.float64),
        age=now - np.array(candidates.created_at, np.float64),
        price=np.array(candidates.price, np.float64),
        mean_log_price=np.array([context.mean_log_price if context.HasField("mean_log_price") else np.nan]),
        brand_share=brand_shares[np.array(candidates.brand, np.int64)],
        category_share=category_shares[np.array(candidates.category, np.int64)],
        history_count=np.array([counts[id_] for id_ in ids], np.float64),
        history_lately=np.array([recent[id_] for id_ in ids], np.float64),
        last_met=np.array([now - last[id_] if id_ in last else np.nan for id_ in ids]),
        turned_down=np.array([id_ in down for id_ in ids]),
        in_cart=np.array([id_ in cart for id_ in ids]),
        seen=np.array([id_ in seen for id_ in ids]),
        promotion=np.array([bool(candidates.promotions[code]) for code in candidates.promotion])
        if candidates.promotion
        else np.zeros(len(ids), np.bool_),
    )
    return known.features(scene)


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


def _met(
    context: coldstart_pb2.ShopperContext, now: float
) -> tuple[Counter[str], dict[str, float], dict[str, float], set[str]]:
    """By item: how many events spoke for it, the sum of `lately` over them, seconds since 1970 of the last; and the
    items last turned down."""
    counts: Counter[str] = Counter()
    recent: dict[str, float] = defaultdict(float)
    last: dict[str, float] = {}
    down: set[str] = set()
    for entry in context.history:
        if entry.type in LIKED:
            at = entry.time_ms / 1000
            counts[entry.item_id] += 1
            recent[entry.item_id] += math.exp(-max(now - at, 0) / (_LATELY_DAYS * _DAY))
            last[entry.item_id] = at
            down.discard(entry.item_id)
        elif entry.type in TURNED_DOWN:
            down.add(entry.item_id)
    return counts, recent, last, down


def _or_zero(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.where(np.isfinite(values), values, 0.0)
