"""What serving will know at a moment of the log, for the heads: the columns of features, as retrieval gives them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from services.domain.demand import LATELY_DAYS, WEIGHTS, rising, trend
from services.domain.features import LIKED, TREND, TURNED_DOWN, Known, category_share, lately, split_category
from services.domain.neighbours import Neighbours, latest
from services.domain.offers import promoted
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.ranker.log import Bools, Floats, Ints, Log

# As coldstart keeps a context.
_HISTORY = 256
_SHARES = 16
_TOGETHER_ITEMS, _TOGETHER_DECAY = 20, 0.9
_PROFILE_HALF_LIFE = 30 * 86_400.0
_USUAL_DAYS = 30.0
_DAY = 86_400.0
_SAYS = np.zeros(max(types_pb2.EventType.values()) + 1)
_SAYS[[types_pb2.EVENT_TYPE_VIEW, types_pb2.EVENT_TYPE_CLICK]] = 1.0
_SAYS[types_pb2.EVENT_TYPE_CART] = 2.0
_SAYS[types_pb2.EVENT_TYPE_PURCHASE] = 3.0
_SAYS[types_pb2.EVENT_TYPE_UNCART] = -0.5
_SAYS[[types_pb2.EVENT_TYPE_RETURN, types_pb2.EVENT_TYPE_SKIP]] = -1.0
_CART, _UNCART, _PURCHASE = types_pb2.EVENT_TYPE_CART, types_pb2.EVENT_TYPE_UNCART, types_pb2.EVENT_TYPE_PURCHASE


@dataclass(frozen=True)
class Facts:
    """What the catalogue says of n items, in the numbers of a log. NaN where it says nothing."""

    price: Floats
    created: Floats
    brand: Ints
    """0 for none."""
    brands: int
    category: Ints
    categories: list[str]
    promoted: Floats
    """From when to when each is on promotion, in seconds since 1970: (n, 2)."""
    content: Float32
    """Normalised, zeros where the encoder could not read the item: (n, content_dim)."""

    @classmethod
    def of(cls, items: Sequence[types_pb2.Item], content: Float32) -> "Facts":
        """Of items in the order of their numbers."""
        brands = {"": 0}
        categories = {"": 0}
        for item in items:
            brands.setdefault(item.brand, len(brands))
            categories.setdefault(" > ".join(item.category_path), len(categories))
        return cls(
            np.array([item.price if item.HasField("price") else math.nan for item in items]),
            np.array([item.created_at.seconds if item.HasField("created_at") else math.nan for item in items]),
            np.array([brands[item.brand] for item in items], np.int64),
            len(brands),
            np.array([categories[" > ".join(item.category_path)] for item in items], np.int64),
            list(categories),
            np.array([promoted(item) for item in items]).reshape(-1, 2),
            content,
        )

    @cached_property
    def alike(self) -> Float32:
        """How much of a share at one category counts at another: (categories, categories)."""
        paths = [split_category(path) for path in self.categories]
        return np.array([[category_share(one, [(two, 1.0)]) for two in paths] for one in paths], np.float32)


class Trends:
    """Whose demand rises, as coldstart would have said it at the beginning of each day from the rows `seen` of a log.

    After the last of them nothing more is known: later days are as the one after it. Without time nothing rises.
    """

    def __init__(self, log: Log, seen: Bools) -> None:
        weights = np.zeros(max(types_pb2.EventType.values()) + 1)
        weights[list(WEIGHTS)] = list(WEIGHTS.values())
        rows = np.flatnonzero(seen & (weights[log.type] != 0)) if log.has_time else np.empty(0, np.int64)
        rows = rows[np.argsort(log.time[rows], kind="stable")]
        self._n = len(log.item_ids)
        self._days, self._item, self._weight = log.time[rows] / _DAY, log.item[rows], weights[log.type[rows]]
        self._of_day = lru_cache(4)(self._find)

    def at(self, now: float) -> Float32:
        """Score of the leg "trend" of each item at `now` (seconds since 1970), NaN where demand does not rise: (n,)."""
        if not len(self._days):
            return np.full(self._n, np.nan, np.float32)
        return self._of_day(math.floor(min(now / _DAY, self._days[-1] + 1)))

    def _find(self, day: int) -> Float32:
        known = slice(int(np.searchsorted(self._days, day)))
        ages = day - self._days[known]

        def decayed(half_life: float) -> Floats:
            weights = self._weight[known] * 0.5 ** (ages / half_life)
            return np.bincount(self._item[known], weights, self._n).astype(np.float64)

        trends = trend(decayed(LATELY_DAYS), decayed(_USUAL_DAYS))
        found = np.full(self._n, np.nan, np.float32)
        places = rising(trends)
        found[places] = trends[places]
        return found


@dataclass(frozen=True)
class Situations:
    """The moments of a log with everything that retrieval and context would say of any item."""

    log: Log
    facts: Facts
    popularity: Floats
    trends: Trends
    neighbours: Neighbours

    def history(self, begin: int, end: int) -> slice:
        """The rows of a history that a context keeps."""
        return slice(max(begin, end - _HISTORY), end)

    def together(self, rows: slice) -> Float32:
        """Score of the leg "together" for each item, (n,)."""
        liked = self.log.item[rows][self.log.liked[rows]]
        return self.neighbours.of(*latest(liked, _TOGETHER_ITEMS, _TOGETHER_DECAY))

    def profile(self, rows: slice) -> Float32:
        """Score of the leg "profile" for each item, (n,); NaN where there is no profile or no vector."""
        log = self.log
        weights = _SAYS[log.type[rows]]
        if log.has_time and len(weights):
            weights = weights * 0.5 ** ((log.time[rows].max() - log.time[rows]) / _PROFILE_HALF_LIFE)
        total = weights.astype(np.float32) @ self.facts.content[log.item[rows]]
        length = float(np.linalg.norm(total))
        if length < 1e-6:
            return np.full(len(self.facts.price), np.nan, np.float32)
        return self.near(total / length)

    def near(self, vector: Float32) -> Float32:
        """Cosine of a normalised content vector with each item, NaN where it has no vector: (n,)."""
        cosines = self.facts.content @ vector
        return np.where(self._readable, cosines, np.nan).astype(np.float32)

    @cached_property
    def _readable(self) -> Bools:
        return np.asarray(self.facts.content.any(axis=1), np.bool_)

    def known(
        self, rows: slice, now: float, chosen: Ints, legs: dict[str, Float32], stock: Floats | None = None
    ) -> Known:
        """What is known of the chosen items. `legs`: by field of Known, scores of all n items; NaN where left out.

        Without time, ages are not known. `stock` (len(chosen),): units left at that moment, NaN where not known; the
        catalogue's own is that of another day, and what became of the moment is in it.
        """
        log, facts, n = self.log, self.facts, len(self.facts.price)
        items, types, times = log.item[rows], log.type[rows], log.time[rows]
        liked = np.isin(types, list(LIKED))
        counts = np.bincount(items[liked], minlength=n)
        last = np.full(n, np.nan)
        last[items[liked]] = times[liked]
        down = np.zeros(n, bool)
        carted = np.zeros(n, bool)
        for item, kind in zip(items.tolist(), types.tolist(), strict=True):
            if kind in TURNED_DOWN:
                down[item] = True
            elif kind in LIKED:
                down[item] = False
            if kind == _CART:
                carted[item] = True
            elif kind in (_UNCART, _PURCHASE):
                carted[item] = False
        decayed: Floats = np.zeros(n)
        if log.has_time:
            decayed = np.bincount(items[liked], lately(now - times[liked]), n).astype(np.float64)
        prices = np.log1p(facts.price[items])
        prices = prices[np.isfinite(prices)]
        nothing = np.full(n, np.nan, np.float32)

        def leg(name: str) -> Floats:
            return legs.get(name, nothing)[chosen].astype(np.float64)

        return Known(
            affinity=leg("affinity"),
            words=leg("words"),
            meaning=leg("meaning"),
            like=leg("like"),
            profile=leg("profile"),
            together=leg("together"),
            popularity=self.popularity[chosen],
            trend=leg(TREND),
            stock=np.full(len(chosen), np.nan) if stock is None else stock,
            age=now - facts.created[chosen] if log.has_time else np.full(len(chosen), np.nan),
            price=facts.price[chosen],
            mean_log_price=np.array([prices.mean() if len(prices) else np.nan]),
            brand_share=_shares(facts.brand[items], facts.brands)[facts.brand[chosen]],
            category_share=(facts.alike @ _shares(facts.category[items], len(facts.categories)))[
                facts.category[chosen]
            ],
            history_count=counts[chosen].astype(np.float64),
            history_lately=decayed[chosen],
            last_met=now - last[chosen] if log.has_time else np.full(len(chosen), np.nan),
            turned_down=down[chosen],
            in_cart=carted[chosen],
            seen=(np.bincount(items, minlength=n) > 0)[chosen],
            promotion=self._promoted(now, chosen),
        )

    def _promoted(self, now: float, chosen: Ints) -> Bools:
        if not self.log.has_time:
            return np.zeros(len(chosen), np.bool_)
        first, last = self.facts.promoted[chosen].T
        running: Bools = (first <= now) & (now <= last)
        return running


def _shares(codes: Ints, size: int) -> Floats:
    """Share of each code among a shopper's events, the largest alone; 0 for code 0, which is none."""
    counts = np.bincount(codes, minlength=size).astype(np.float64)
    counts[0] = 0
    if size > _SHARES:
        counts[np.argsort(-counts, kind="stable")[_SHARES:]] = 0
    return counts / max(len(codes), 1)


def popularity(log: Log, seen: Bools, until: float, half_life_days: float) -> Floats:
    """Events that speak for each item among the rows `seen`, each counting half as much for every half-life before
    `until`; without time all alike: (n,)."""
    rows = log.liked & seen
    weights = np.ones(int(rows.sum()))
    if log.has_time:
        weights = 0.5 ** ((until - log.time[rows]) / (86_400 * half_life_days))
    counts: Floats = np.bincount(log.item[rows], weights, len(log.item_ids)).astype(np.float64)
    return counts
