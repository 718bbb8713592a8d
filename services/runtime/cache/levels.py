"""The levels in order: memory slab -> Redis -> source, with single-flight loads and remembered absences."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.runtime import telemetry
from services.runtime.cache.redis_level import RedisLevel
from services.runtime.cache.slab import Key, Slab
from services.runtime.errors import Unavailable

# The source: a vector a key; None for a key it does not hold, which is remembered for a while; a key left out is
# answered as absent and not remembered (its vector is still to be made).
Load = Callable[[list[Key]], Awaitable[Mapping[Key, NDArray[np.float32] | None]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found. `memory + redis + source + absent` is the number of keys asked for."""

    vectors: NDArray[np.float32]  # (n, dim), a row a key, in order; zeros where absent
    present: NDArray[np.bool_]  # (n,)
    memory: int
    redis: int
    source: int
    absent: int
    redis_down: bool  # Redis failed, was too slow or is being left alone: the source answered in its place


@dataclass(slots=True)
class _Loaded:
    vectors: dict[Key, NDArray[np.float32]] = field(default_factory=dict)
    from_redis: set[Key] = field(default_factory=set)
    redis_down: bool = False


@dataclass(eq=False, slots=True)
class _Flight:
    """A load under way and how many calls wait for it."""

    keys: list[Key]
    task: asyncio.Task[_Loaded]
    waiters: int = 0


class VectorCache:
    """Vectors of `dim` float32 by opaque key, for one event loop.

    A key must name its content for good (space version + item id + revision, or a content hash): nothing is ever
    invalidated. Works without Redis (`redis_url` None) and goes on without it when it dies.

    `name` labels the metrics and separates the keys in Redis; `capacity` is in vectors and should be below what the
    source holds. Seconds: `load_timeout` bounds one load, `redis_timeout` one call of Redis, `redis_ttl` and
    `absent_ttl` the life of an entry and of a remembered absence (at most `capacity` of those).
    """

    def __init__(
        self,
        name: str,
        dim: int,
        capacity: int,
        redis_url: str | None = None,
        *,
        load_timeout: float = 5.0,
        redis_timeout: float = 0.05,
        redis_ttl: int = 86_400,
        absent_ttl: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slab = Slab(capacity, dim)
        self._redis: RedisLevel | None = None
        if redis_url is not None:
            prefix = f"souk:{name}:".encode()
            self._redis = RedisLevel(name, redis_url, prefix, timeout=redis_timeout, ttl=redis_ttl, clock=clock)
        self._load_timeout = load_timeout
        self._absent_ttl = absent_ttl
        self._clock = clock
        self._absent_until: OrderedDict[Key, float] = OrderedDict()
        self._flights: dict[Key, _Flight] = {}
        self._memory_hits = telemetry.CACHE_HITS.labels(name, "memory")
        self._memory_misses = telemetry.CACHE_MISSES.labels(name, "memory")
        self._absent_hits = telemetry.CACHE_HITS.labels(name, "absent")
        self._redis_hits = telemetry.CACHE_HITS.labels(name, "redis")
        self._redis_misses = telemetry.CACHE_MISSES.labels(name, "redis")
        self._source_hits = telemetry.CACHE_HITS.labels(name, "source")
        self._source_misses = telemetry.CACHE_MISSES.labels(name, "source")
        self._evictions = telemetry.CACHE_EVICTIONS.labels(name)
        self._bytes = telemetry.CACHE_BYTES.labels(name)

    async def get_many(self, keys: Sequence[Key], load: Load) -> Answer:
        """The vectors of n keys (duplicates allowed): at most one MGET, and one load for what no level holds.

        Calls that miss the same key at once share one load. A call that is cancelled leaves the load to the others;
        when no one waits any more it is cancelled too. Where a load fails, so does the call that made it; calls that
        only shared it load for themselves, once, since the failure may have been the other caller's deadline.

        Raises what `load` raises; TimeoutError beyond `load_timeout`; ValueError where a loaded vector is not (dim,).
        """
        vectors, present = self._slab.gather(keys)
        memory = int(np.count_nonzero(present))
        self._memory_hits.inc(memory)
        if memory == len(keys):
            return Answer(vectors, present, memory, 0, 0, 0, False)
        self._memory_misses.inc(len(keys) - memory)
        places: dict[Key, list[int]] = {}
        for place in np.flatnonzero(~present).tolist():
            places.setdefault(keys[place], []).append(place)
        loaded = await self._fetch([key for key in places if not self._is_absent(key)], load)
        redis = source = 0
        for key, vector in loaded.vectors.items():
            for place in places[key]:
                vectors[place] = vector
                present[place] = True
            if key in loaded.from_redis:
                redis += len(places[key])
            else:
                source += len(places[key])
        absent = len(keys) - memory - redis - source
        return Answer(vectors, present, memory, redis, source, absent, loaded.redis_down)

    async def flush(self) -> None:
        """Waits until back-fill of Redis is done."""
        if self._redis is not None:
            await self._redis.flush()

    async def close(self) -> None:
        """Cancels loads under way and closes Redis."""
        tasks = {flight.task for flight in self._flights.values()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        if self._redis is not None:
            await self._redis.close()

    async def _fetch(self, keys: list[Key], load: Load, *, again: bool = False) -> _Loaded:
        shared: dict[_Flight, list[Key]] = {}
        mine: list[Key] = []
        for key in keys:
            if flight := self._flights.get(key):
                shared.setdefault(flight, []).append(key)
            else:
                mine.append(key)
        flights = dict(shared)
        if mine:
            flights[self._take_off(mine, load, ask_redis=not again)] = mine
        loaded = _Loaded()
        if not flights:
            return loaded
        await self._wait(list(flights))
        failed: list[Key] = []
        for flight, wanted in flights.items():
            error = _error_of(flight.task)
            if error is None:
                result = flight.task.result()
                loaded.vectors |= {key: result.vectors[key] for key in wanted if key in result.vectors}
                loaded.from_redis |= result.from_redis
                loaded.redis_down |= result.redis_down
            elif flight in shared and not again:
                failed += wanted
            else:
                raise error
        if failed:
            loaded.vectors |= (await self._fetch(failed, load, again=True)).vectors
        return loaded

    def _take_off(self, keys: list[Key], load: Load, *, ask_redis: bool) -> _Flight:
        # A task of its own, so that the call that started it can be cancelled without failing those that joined.
        flight = _Flight(keys, asyncio.create_task(self._load(keys, load, ask_redis)))
        self._flights |= dict.fromkeys(keys, flight)
        flight.task.add_done_callback(lambda task: self._land(flight))
        return flight

    def _land(self, flight: _Flight) -> None:
        for key in flight.keys:
            del self._flights[key]
        _error_of(flight.task)  # asked for, lest asyncio complains of a failure that no one waited for

    async def _wait(self, flights: list[_Flight]) -> None:
        for flight in flights:
            flight.waiters += 1
        try:
            await asyncio.wait([flight.task for flight in flights])
        finally:
            for flight in flights:
                flight.waiters -= 1
                if not flight.waiters and not flight.task.done():
                    flight.task.cancel()  # a call that joins before it has ended loads for itself

    async def _load(self, keys: list[Key], load: Load, ask_redis: bool) -> _Loaded:
        loaded = _Loaded()
        if self._redis is not None and ask_redis:
            values = await self._redis.read(keys)
            if values is None:
                loaded.redis_down = True
            else:
                self._take_redis(keys, values, loaded)
        if missing := [key for key in keys if key not in loaded.vectors]:
            async with asyncio.timeout(self._load_timeout):
                found = await load(missing)
            self._take_source(missing, found, loaded)
        return loaded

    def _take_redis(self, keys: list[Key], values: list[bytes | None], loaded: _Loaded) -> None:
        size = self._slab.dim * 4
        held = [(key, value) for key, value in zip(keys, values, strict=True) if value and len(value) == size]
        self._redis_hits.inc(len(held))
        self._redis_misses.inc(len(keys) - len(held))
        if not held:
            return
        joined = np.frombuffer(b"".join(value for _, value in held), "<f4").reshape(len(held), -1)
        matrix = joined.astype(np.float32, copy=False)
        names = [key for key, _ in held]
        self._keep(names, matrix)
        loaded.vectors.update(zip(names, matrix, strict=True))
        loaded.from_redis.update(names)

    def _take_source(self, keys: list[Key], found: Mapping[Key, NDArray[np.float32] | None], loaded: _Loaded) -> None:
        fresh: dict[Key, NDArray[np.float32]] = {}
        absent: list[Key] = []
        for key in keys:
            vector = found.get(key)
            if vector is not None:
                fresh[key] = np.asarray(vector, np.float32)
                if fresh[key].shape != (self._slab.dim,):
                    raise ValueError(f"load: vector of {key!r} has shape {fresh[key].shape}, not ({self._slab.dim},)")
            elif key in found:
                absent.append(key)
        self._source_hits.inc(len(fresh))
        self._source_misses.inc(len(keys) - len(fresh))
        for key in absent:
            self._remember_absent(key)
        if not fresh:
            return
        self._keep(list(fresh), np.stack(list(fresh.values())))
        loaded.vectors |= fresh
        if self._redis is not None:
            self._redis.write([(key, vector.astype("<f4", copy=False).tobytes()) for key, vector in fresh.items()])

    def _keep(self, keys: list[Key], matrix: NDArray[np.float32]) -> None:
        before = self._slab.evictions
        self._slab.put(keys, matrix)
        self._evictions.inc(self._slab.evictions - before)
        self._bytes.set(len(self._slab) * self._slab.dim * 4)

    def _is_absent(self, key: Key) -> bool:
        until = self._absent_until.get(key)
        if until is None:
            return False
        if self._clock() < until:
            self._absent_hits.inc()
            return True
        del self._absent_until[key]
        return False

    def _remember_absent(self, key: Key) -> None:
        # All live equally long, so the first is the first to end.
        self._absent_until[key] = self._clock() + self._absent_ttl
        self._absent_until.move_to_end(key)
        if len(self._absent_until) > self._slab.capacity:
            self._absent_until.popitem(last=False)


def _error_of(task: asyncio.Task[_Loaded]) -> BaseException | None:
    """What a finished load failed with. A load may cancel itself, as a gRPC call does that is cut off."""
    return Unavailable("the load of vectors was cancelled") if task.cancelled() else task.exception()
