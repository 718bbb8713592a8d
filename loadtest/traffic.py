"""The calls of a load test, drawn from the log of a dataset: what is popular there is popular here."""

import itertools
import random
import time
from bisect import bisect
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.plan import Plan
from souk.dataset import find_table, read_events, read_items, read_judgements
from souk.shop.v1 import shop_pb2
from souk.types.v1 import types_pb2

# More would only make the client processes larger; the tail beyond is hardly ever drawn.
_MOST_ITEMS = 50_000


@dataclass(frozen=True)
class Pools:
    """What calls are drawn from, each by falling popularity in the log: ids, queries, and items as serialised bytes."""

    shoppers: list[str]
    queries: list[str]
    items: list[bytes]


@dataclass(frozen=True)
class Call:
    """One call: the scenario, the method of Shop, the request."""

    scenario: str
    method: str
    request: Any


def read_pools(dataset: Path) -> Pools:
    """Shoppers, queries and items of a dataset directory. Without an events table shoppers are invented; without
    queries those of the judgements serve, else titles. Raises souk.dataset.DatasetError."""
    items = {item.id: item for item in itertools.islice(read_items(dataset), _MOST_ITEMS)}
    shoppers: Counter[str] = Counter()
    queries: Counter[str] = Counter()
    popular: Counter[str] = Counter()
    if find_table(dataset, "events"):
        for event in read_events(dataset):
            shoppers[event.shopper_id] += 1
            if event.item_id in items:
                popular[event.item_id] += 1
            if event.query.strip():
                queries[event.query] += 1
    if not queries and find_table(dataset, "judgements"):
        queries = Counter(one.query for one in read_judgements(dataset))
    return Pools(
        _by_count(shoppers) or [f"shopper-{number}" for number in range(1000)],
        _by_count(queries) or [item.title for item in itertools.islice(items.values(), 1000)],
        [items[one].SerializeToString() for one in [*_by_count(popular), *(set(items) - set(popular))]],
    )


def _by_count(counted: Counter[str]) -> list[str]:
    return [one for one, _ in counted.most_common()]


class _Zipf:
    """Draws from a list: place r with a probability in proportion to 1 / r ** exponent."""

    def __init__(self, values: Iterable[Any], exponent: float) -> None:
        self._values = list(values)
        self._weights = list(itertools.accumulate(rank**-exponent for rank in range(1, len(self._values) + 1)))

    def draw(self, dice: random.Random) -> Any:
        return self._values[bisect(self._weights, dice.random() * self._weights[-1], hi=len(self._values) - 1)]


class Caller:
    """Draws one call after the other; the same seed draws the same, but for new ids, which begin with `run`."""

    def __init__(self, pools: Pools, plan: Plan, seed: int, run: str) -> None:
        self._dice = random.Random(seed)
        self._shoppers = _Zipf(pools.shoppers, plan.traffic.zipf)
        self._queries = _Zipf(pools.queries, plan.traffic.zipf)
        items = [types_pb2.Item.FromString(item) for item in pools.items]
        self._items = _Zipf(items, plan.traffic.zipf)
        self._names = list(plan.scenarios)
        self._weights = list(itertools.accumulate(plan.scenarios.values()))
        self._size = plan.traffic.page_size
        self._run = run
        self._fresh = itertools.count()

    def draw(self) -> Call:
        """The next call."""
        scenario = self._names[bisect(self._weights, self._dice.random() * self._weights[-1], hi=len(self._names) - 1)]
        if scenario in ("search", "search-known"):
            known = self._shoppers.draw(self._dice) if scenario == "search-known" else ""
            query = self._queries.draw(self._dice)
            request = shop_pb2.SearchRequest(query=query, shopper_id=known, page_size=self._size)
            return Call(scenario, "Search", request)
        if scenario == "similar":
            similar = shop_pb2.SimilarRequest(item_id=self._items.draw(self._dice).id, page_size=self._size)
            return Call(scenario, "Similar", similar)
        if scenario == "events":
            return Call(scenario, "RecordEvents", self._view())
        if scenario == "upsert":
            item = types_pb2.Item()
            item.CopyFrom(self._items.draw(self._dice))
            item.revision, item.stock = 0, self._dice.randrange(1, 500)
            return Call(scenario, "UpsertItems", shop_pb2.UpsertItemsRequest(items=[item]))
        return Call(scenario, "Recommend", self._recommend(scenario))

    def _recommend(self, scenario: str) -> shop_pb2.RecommendRequest:
        if scenario == "cold":
            shopper = f"{self._run}-{next(self._fresh)}"
            return shop_pb2.RecommendRequest(shopper_id=shopper, scene=types_pb2.SCENE_HOME, page_size=self._size)
        shopper = self._shoppers.draw(self._dice)
        if scenario == "home":
            return shop_pb2.RecommendRequest(shopper_id=shopper, scene=types_pb2.SCENE_HOME, page_size=self._size)
        cart = list({self._items.draw(self._dice).id, self._items.draw(self._dice).id})
        return shop_pb2.RecommendRequest(
            shopper_id=shopper, scene=types_pb2.SCENE_CART, item_ids=cart, page_size=self._size
        )

    def _view(self) -> shop_pb2.RecordEventsRequest:
        event = types_pb2.Event(
            event_id=f"{self._run}-{next(self._fresh)}",
            shopper_id=self._shoppers.draw(self._dice),
            type=types_pb2.EVENT_TYPE_VIEW,
            item_id=self._items.draw(self._dice).id,
        )
        event.time.FromMilliseconds(int(1000 * time.time()))
        return shop_pb2.RecordEventsRequest(events=[event])
