"""A shopper's derived state, the context: computed from the log in bounded work, kept in memory and Redis for later.

Neither is trusted: an entry counts only under the version that the log has of the shopper at that moment, so an
acknowledged event is in every context that follows. A Redis that is dead, slow or full costs a computation.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError

from services.coldstart import profile, stages
from services.coldstart.crowd import Crowd
from services.coldstart.kept import Kept
from services.coldstart.knowledge import Knowledge
from services.coldstart.log import Entry, Facts, Held, Log
from services.coldstart.settings import ColdstartSettings
from services.domain.strategies import confidence
from services.runtime.cache.redis_level import RedisLevel
from services.runtime.telemetry import CONTEXTS
from souk.coldstart.v1 import coldstart_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_vector

MAX_HISTORY = 256
MAX_SEEN = 2_000
MAX_CART = 100
MAX_SEARCHES = 8
_MAX_SHARES = 16
_REDIS_SECONDS = 0.05
_PREFIX = b"souk:shopper:"
# Shoppers forgotten whose entry could not be blanked yet; beyond it the oldest is left to its time to live.
_MAX_UNBLANKED = 10_000

T = TypeVar("T")
InThread = Callable[[Callable[[], T]], Awaitable[T]]


class States:
    """Contexts of shoppers. For one event loop; what blocks runs through `in_thread`."""

    def __init__(self, log: Log, crowd: Crowd, settings: ColdstartSettings) -> None:
        self._log = log
        self._crowd = crowd
        self._settings = settings
        self._redis: RedisLevel | None = None
        if settings.redis_url:
            self._redis = RedisLevel(
                "shoppers", settings.redis_url, _PREFIX, timeout=_REDIS_SECONDS, ttl=settings.state_ttl
            )
        self._kept = Kept(settings.state_memory_mb * 2**20, settings.state_ttl)
        self._forgotten = 0
        self._unblanked: dict[bytes, None] = {}

    async def context(
        self, shopper_id: str, knowledge: Knowledge, in_thread: "InThread[coldstart_pb2.ShopperContext]"
    ) -> coldstart_pb2.ShopperContext:
        """The context of a shopper; empty and COLD where nothing is held."""
        key, forgotten = self._key(shopper_id), self._forgotten
        in_memory = self._kept.get(key)
        held: list[Held | None] = []
        kept: list[coldstart_pb2.ShopperContext] = []

        def look() -> coldstart_pb2.ShopperContext:
            shopper = self._log.shopper(shopper_id)
            held.append(shopper)
            if shopper is not None and (context := _read(in_memory, _header(shopper.version, knowledge))) is not None:
                CONTEXTS.labels("memory").inc()
                kept.append(context)
                return context
            if shopper is None or self._redis is None:
                return self.compute(shopper_id, shopper, knowledge)
            return coldstart_pb2.ShopperContext()

        context = await in_thread(look)
        shopper = held[0]
        if shopper is None or kept:
            return context
        header, values = _header(shopper.version, knowledge), None
        if self._redis is not None:
            values = await self._redis.read([key])
            if values is not None and (found := _read(values[0], header)) is not None:
                CONTEXTS.labels("redis").inc()
                self._keep(key, header, found, forgotten)
                return found
            context = await in_thread(lambda: self.compute(shopper_id, shopper, knowledge))
        if self._keep(key, header, context, forgotten) and self._redis is not None and values is not None:
            self._redis.write([(key, header + context.SerializeToString())])
        return context

    def _keep(self, key: bytes, header: bytes, context: coldstart_pb2.ShopperContext, forgotten: int) -> bool:
        """Keeps it in memory; not where somebody was forgotten since: nothing of them may come back."""
        if forgotten != self._forgotten:
            return False
        self._kept.put(key, header + context.SerializeToString())
        return True

    def compute(self, shopper_id: str, held: Held | None, knowledge: Knowledge) -> coldstart_pb2.ShopperContext:
        """The context from the log: at most 2,000 index rows and 256 vectors, however long the shopper's history."""
        if held is None:
            return coldstart_pb2.ShopperContext(shopper_id=shopper_id, stage=types_pb2.STAGE_COLD)
        CONTEXTS.labels("log").inc()
        latest = self._log.latest(held.key, MAX_SEEN)
        searches = [
            coldstart_pb2.SearchEntry(query=event.query, time_ms=event.time.ToMilliseconds(), item_ids=found)
            for event in self._log.searches(held.key, MAX_SEARCHES)
            if (found := self._crowd.titles.find(event.query))
        ]
        ids = list({entry.item for entry in latest[:MAX_HISTORY]} | {one for each in searches for one in each.item_ids})
        vectors = self._log.vectors(ids, knowledge.content_version)
        shelf = self._crowd.shelf
        facts = {item: known for item in ids if (known := shelf.get(item)) is not None}
        context = derive(shopper_id, latest, searches, facts, vectors, knowledge, self._settings, self._crowd.repeats)
        context.version = held.version
        context.attributes.extend(held.attributes)
        return context

    async def forget(self, shopper_id: str) -> None:
        """Blanks the shopper's entry in Redis; where Redis is away, `blank` does it once it is back."""
        self._forgotten += 1
        self._kept.drop(self._key(shopper_id))
        if self._redis is None:
            return
        self._unblanked[self._key(shopper_id)] = None
        while len(self._unblanked) > _MAX_UNBLANKED:
            del self._unblanked[next(iter(self._unblanked))]
        await self.blank()

    async def blank(self) -> None:
        """Overwrites the entries of forgotten shoppers that are not yet known to be blank.

        Entries go through the writer in order, so a context handed to it before is overwritten as well. What this
        process does not live to blank ends with its time to live.
        """
        if self._redis is None or not self._unblanked:
            return
        keys = list(self._unblanked)[:500]
        values = await self._redis.read(keys)
        if values is None:
            return
        self._redis.write([(key, b"") for key in keys])
        await self._redis.flush()
        values = await self._redis.read(keys)
        for key, value in zip(keys, values or (), strict=False):
            if not value:
                self._unblanked.pop(key, None)

    def _key(self, shopper_id: str) -> bytes:
        """Tells no one who it is; of this log alone, since another one's versions say nothing here."""
        return hashlib.sha256(f"{self._log.identity} {shopper_id}".encode()).hexdigest()[:32].encode()

    async def close(self) -> None:
        """Closes the connections."""
        if self._redis is not None:
            await self.blank()
            await self._redis.flush()
            await self._redis.close()


def derive(
    shopper_id: str,
    latest: Sequence[Entry],
    searches: Sequence[coldstart_pb2.SearchEntry],
    facts: Mapping[str, Facts],
    vectors: Mapping[str, Float32],
    knowledge: Knowledge,
    settings: ColdstartSettings,
    repeats: bool,
) -> coldstart_pb2.ShopperContext:
    """The context that follows from the latest events with items, newest first, and the latest searches with the items
    they are about, oldest first, without version and attributes.

    `repeats`: in this shop things are bought again, so that what was bought need not be hidden. A price the event did
    not tell is the item's.
    """
    recent = latest[:MAX_HISTORY]
    context = coldstart_pb2.ShopperContext(
        shopper_id=shopper_id,
        stage=stages.of_shopper(len(recent), len(searches), settings.hot_events),
        confidence=confidence(len(recent)),
        searches=searches,
    )
    for entry in reversed(recent):
        context.history.add(
            item_id=entry.item, type=_EVENT_TYPE(entry.type), time_ms=entry.time_ms, quantity=entry.quantity
        )
    weights = profile.item_weights(profile.signals(context), settings.half_life_days)
    if knowledge.topics is not None:
        interests = profile.interests(weights, vectors, knowledge.topics)
        if interests is not None:
            context.topics.extend(profile.topic_shares(interests, knowledge.topics))
    dense = profile.dense(weights, vectors)
    if dense is not None:
        context.profile.CopyFrom(pack_vector(dense))
        context.profile_space_version = knowledge.content_version
    context.seen_item_ids.extend(_seen(latest, repeats))
    context.cart_item_ids.extend(_cart(latest))
    met = [known for entry in recent if (known := facts.get(entry.item)) is not None]
    context.brands.extend(_shares([known.brand for known in met if known.brand]))
    context.categories.extend(_shares([known.category for known in met if known.category]))
    prices = [
        price
        for entry in recent
        if (price := entry.price if entry.price is not None else _price(facts.get(entry.item))) is not None
    ]
    if prices:
        context.mean_log_price = sum(map(math.log1p, prices)) / len(prices)
    return context


_EVENT_TYPE = types_pb2.EventType.ValueType


def _seen(latest: Sequence[Entry], repeats: bool) -> list[str]:
    """Distinct items, last met first; without those ever bought where things are bought again."""
    bought = {entry.item for entry in latest if repeats and entry.type == types_pb2.EVENT_TYPE_PURCHASE}
    return [item for item in dict.fromkeys(entry.item for entry in latest) if item not in bought]


def _cart(latest: Sequence[Entry]) -> list[str]:
    """Items whose units put in are not yet taken out or bought, last touched first."""
    units: dict[str, int] = {}
    for entry in reversed(latest):
        if entry.type == types_pb2.EVENT_TYPE_CART:
            units[entry.item] = units.pop(entry.item, 0) + entry.quantity
        elif entry.type == types_pb2.EVENT_TYPE_UNCART and entry.item in units:
            units[entry.item] -= entry.quantity
            if units[entry.item] <= 0:
                del units[entry.item]
        elif entry.type == types_pb2.EVENT_TYPE_PURCHASE:
            units.pop(entry.item, None)
    return list(reversed(units))[:MAX_CART]


def _price(facts: Facts | None) -> float | None:
    return facts.price if facts is not None else None


def _shares(names: Sequence[str]) -> list[coldstart_pb2.NamedShare]:
    counts = Counter(names)
    best = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:_MAX_SHARES]
    return [coldstart_pb2.NamedShare(name=name, share=count / len(names)) for name, count in best]


def _header(version: int, knowledge: Knowledge) -> bytes:
    spaces = f"{knowledge.content_version} {knowledge.topics.version if knowledge.topics else ''}"
    return version.to_bytes(8, "big") + hashlib.sha256(spaces.encode()).digest()[:8]


def _read(value: bytes | None, header: bytes) -> coldstart_pb2.ShopperContext | None:
    if value is None or not value.startswith(header):
        return None
    try:
        return coldstart_pb2.ShopperContext.FromString(value[len(header) :])
    except DecodeError:
        return None
