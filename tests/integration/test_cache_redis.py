"""The cache over a real Redis-protocol server, also while that server dies, stalls and comes back."""

import asyncio
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from loadtest.cache_policies import Random, zipf
from services.runtime.cache import Answer, Key, VectorCache
from tests.conftest import OwnRedis

DIM = 32
CATALOGUE = np.random.default_rng(11).random((2_000, DIM), np.float32)
_names = (f"test{number}" for number in itertools.count())


async def source(keys: list[Key]) -> Mapping[Key, NDArray[np.float32]]:
    return {key: CATALOGUE[int(key)] for key in keys}


async def nothing(keys: list[Key]) -> Mapping[Key, NDArray[np.float32]]:
    raise AssertionError(f"the source was asked for {keys}")


@asynccontextmanager
async def cache_on(
    url: str,
    name: str,
    *,
    capacity: int = 200,
    redis_timeout: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[VectorCache]:
    cache = VectorCache(name, DIM, capacity, url, redis_timeout=redis_timeout, redis_ttl=600, clock=clock)
    try:
        yield cache
    finally:
        await cache.close()


async def ask(cache: VectorCache, numbers: list[int]) -> Answer:
    """Asks within a bound no healthy wait comes near, and checks every vector."""
    async with asyncio.timeout(10):
        answer = await cache.get_many([str(number) for number in numbers], source)
    assert answer.present.all()
    assert np.array_equal(answer.vectors, CATALOGUE[numbers])
    return answer


def errors(name: str, kind: str) -> float:
    return REGISTRY.get_sample_value("souk_cache_redis_errors_total", {"cache": name, "kind": kind}) or 0.0


async def test_what_one_process_loaded_another_reads_from_redis_with_one_mget(redis_url: str) -> None:
    name = next(_names)
    numbers = list(range(100))
    async with (
        cache_on(redis_url, name) as first,
        cache_on(redis_url, name) as second,
        Redis.from_url(redis_url) as redis,
    ):
        assert (await ask(first, numbers)).source == 100
        await first.flush()
        before = (await redis.info("commandstats")).get("cmdstat_mget", {"calls": 0})["calls"]
        answer = await second.get_many([str(number) for number in numbers], nothing)
        assert np.array_equal(answer.vectors, CATALOGUE[numbers])
        assert (answer.redis, answer.source, answer.redis_down) == (100, 0, False)
        assert (await ask(second, numbers)).memory == 100
        assert (await redis.info("commandstats"))["cmdstat_mget"]["calls"] == before + 1
        key = f"souk:{name}:7"
        assert await redis.get(key) == CATALOGUE[7].astype("<f4").tobytes()
        assert 0 < await redis.ttl(key) <= 600


async def test_a_value_of_another_length_is_a_miss_and_is_mended(redis_url: str) -> None:
    name = next(_names)
    async with cache_on(redis_url, name) as cache, Redis.from_url(redis_url) as redis:
        await redis.mset(
            {f"souk:{name}:0": b"", f"souk:{name}:1": b"\0" * (DIM * 4 - 1), f"souk:{name}:2": b"x" * 4096}
        )
        await redis.lpush(f"souk:{name}:3", "not even a string")
        assert (await ask(cache, [0, 1, 2, 3])).source == 4
        await cache.flush()
        assert await redis.get(f"souk:{name}:1") == CATALOGUE[1].astype("<f4").tobytes()


async def test_a_full_redis_refuses_writes_and_is_still_read(own_redis: OwnRedis) -> None:
    name = next(_names)
    async with cache_on(own_redis.url, name, capacity=1) as cache, Redis.from_url(own_redis.url) as redis:
        await ask(cache, [1, 2])
        await cache.flush()
        await redis.config_set("maxmemory", "1mb")
        await redis.config_set("maxmemory-policy", "noeviction")
        assert (await ask(cache, [3, 4])).source == 2
        await cache.flush()
        assert errors(name, "refused") == 1
        answer = await ask(cache, [1, 2])
        assert (answer.memory + answer.redis, answer.redis_down) == (2, False)


async def traffic(cache: VectorCache, stop: asyncio.Event, seed: int) -> list[Answer]:
    rng = np.random.default_rng(seed)
    answers = []
    while not stop.is_set():
        answers.append(await ask(cache, rng.integers(len(CATALOGUE), size=20).tolist()))
        await asyncio.sleep(0)
    return answers


async def see(cache: VectorCache, condition: Callable[[Answer], bool]) -> None:
    """Asks for what memory cannot hold until an answer satisfies, for 20 seconds at most."""
    rng = np.random.default_rng(99)
    async with asyncio.timeout(20):
        answer = await ask(cache, [0])
        while not condition(answer):
            await asyncio.sleep(0.01)
            answer = await ask(cache, rng.integers(len(CATALOGUE), size=20).tolist())


async def test_answers_stay_right_while_redis_dies_and_an_empty_one_takes_its_place(own_redis: OwnRedis) -> None:
    async with cache_on(own_redis.url, next(_names), capacity=20, redis_timeout=0.25) as cache:
        stop = asyncio.Event()
        callers = [asyncio.create_task(traffic(cache, stop, seed)) for seed in range(4)]
        await see(cache, lambda answer: answer.redis > 0)
        own_redis.kill()
        await see(cache, lambda answer: answer.redis_down and answer.source > 0)
        own_redis.revive()
        await see(cache, lambda answer: not answer.redis_down and answer.redis > 0)
        stop.set()
        assert all(await asyncio.gather(*callers))


async def test_answers_stay_right_while_redis_stalls_and_goes_on(own_redis: OwnRedis) -> None:
    # A read cut off by its timeout must not leave its late answer to the next: `ask` compares every vector.
    async with cache_on(own_redis.url, next(_names), capacity=20, redis_timeout=0.25) as cache:
        stop = asyncio.Event()
        callers = [asyncio.create_task(traffic(cache, stop, seed)) for seed in range(4)]
        await see(cache, lambda answer: answer.redis > 0)
        with own_redis.stop_cont():
            await see(cache, lambda answer: answer.redis_down and answer.source > 0)
        await see(cache, lambda answer: not answer.redis_down and answer.redis > 0)
        stop.set()
        assert all(await asyncio.gather(*callers))


async def test_a_stalled_redis_is_waited_for_once_and_then_probed_once_a_second(own_redis: OwnRedis) -> None:
    name = next(_names)
    now = 100.0
    async with cache_on(own_redis.url, name, capacity=1, redis_timeout=0.25, clock=lambda: now) as cache:
        await ask(cache, [0])
        await cache.flush()
        with own_redis.stop_cont():
            for number in range(1, 20):
                assert (await ask(cache, [number])).redis_down
            assert (errors(name, "timeout"), errors(name, "skipped")) == (1, 18)
            now += 1.1
            answers = await asyncio.gather(*(ask(cache, [number]) for number in range(20, 40)))
            assert all(answer.redis_down for answer in answers)
            assert (errors(name, "timeout"), errors(name, "skipped")) == (2, 37)
        now += 1.1
        assert not (await ask(cache, [40])).redis_down


async def test_a_caller_that_leaves_mid_read_leaves_the_connection_fit(redis_url: str) -> None:
    async with cache_on(redis_url, next(_names), capacity=1) as cache:
        await ask(cache, list(range(400)))
        await cache.flush()
        for turns in range(60):
            call = asyncio.create_task(ask(cache, list(range(turns, turns + 200))))
            for _ in range(turns % 30):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            answer = await ask(cache, [399 - turns, turns])
            assert not answer.redis_down


async def test_with_a_catalogue_ten_times_the_slab_memory_beats_random_eviction(redis_url: str) -> None:
    stream = zipf(np.random.default_rng(4), 1.0, 60_000, len(CATALOGUE)).reshape(-1, 100)
    warm = len(stream) // 4
    async with cache_on(redis_url, next(_names), capacity=len(CATALOGUE) // 10) as cache:
        answers = [await ask(cache, numbers) for numbers in stream.tolist()]
    counted = answers[warm:]
    asked = 100 * len(counted)
    memory, redis, loaded = (sum(getattr(a, level) for a in counted) / asked for level in ("memory", "redis", "source"))
    policy = Random(len(CATALOGUE) // 10)
    by_chance = [[policy.access(number) for number in numbers] for numbers in stream.tolist()][warm:]
    floor = sum(map(sum, by_chance)) / asked
    print(f"memory {memory:.1%}, Redis {redis:.1%}, source {loaded:.1%}; random eviction {floor:.1%}")
    assert memory > floor + 0.03
    assert loaded < 0.05


async def test_the_benchmark_tells_every_setup(redis_url: str) -> None:
    command = "loadtest.cache_bench", "--items", "1000", "--dim", "8", "--rounds", "1", "--length", "5"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, env={**os.environ, "SOUK_REDIS_URL": redis_url}, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0
    assert all(setup in output for setup in ("all levels", "memory only", "Redis only", "no cache"))
