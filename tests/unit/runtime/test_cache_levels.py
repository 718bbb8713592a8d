"""The levels without Redis: answers, single-flight, remembered absences."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from services.runtime.cache import Key, VectorCache
from services.runtime.errors import Unavailable

Vectors = Mapping[Key, NDArray[np.float32] | None]


def vector_of(key: Key) -> NDArray[np.float32]:
    seed = int.from_bytes(key.encode() if isinstance(key, str) else key, "little") % 2**32
    return np.random.default_rng(seed).random(4, np.float32)


class Source:
    """A source that counts what it is asked for and waits at a gate; it does not hold keys that begin with "no"."""

    def __init__(self) -> None:
        self.asked: list[list[Key]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0

    async def __call__(self, keys: list[Key]) -> Vectors:
        self.asked.append(keys)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return {key: None if str(key).startswith("no") else vector_of(key) for key in keys}


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("did not come to pass in a thousand turns of the loop")


def sample(metric: str, cache: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, {"cache": cache, **labels}) or 0.0


async def test_answers_in_order_with_duplicates_and_absences() -> None:
    cache, source = VectorCache("unit", 4, 100), Source()
    keys: list[Key] = ["a", b"\xff\x00", "none", "a", "b", "none"]
    for level in ("source", "memory"):
        answer = await cache.get_many(keys, source)
        assert answer.vectors.dtype == np.float32
        assert answer.present.tolist() == [True, True, False, True, True, False]
        for key, vector, present in zip(keys, answer.vectors, answer.present, strict=True):
            assert vector.tolist() == (vector_of(key).tolist() if present else [0] * 4)
        assert getattr(answer, level) == 4
        assert (answer.memory + answer.source, answer.redis, answer.absent) == (4, 0, 2)
        assert not answer.redis_down
    assert source.asked == [["a", b"\xff\x00", "none", "b"]]


async def test_no_keys_no_work() -> None:
    source = Source()
    answer = await VectorCache("unit", 4, 100).get_many([], source)
    assert answer.vectors.shape == (0, 4)
    assert source.asked == []


async def test_a_batch_larger_than_the_slab_is_answered_whole() -> None:
    cache, source = VectorCache("unit", 4, 3), Source()
    keys: list[Key] = [str(i) for i in range(20)]
    for _ in range(2):
        answer = await cache.get_many(keys, source)
        assert np.array_equal(answer.vectors, np.stack([vector_of(key) for key in keys]))
    assert answer.memory == 3


async def test_counts_what_each_level_did() -> None:
    cache, source = VectorCache("counted", 4, 2), Source()
    await cache.get_many(["a", "b", "none"], source)
    await cache.get_many(["a", "none", "c"], source)
    assert sample("souk_cache_hits_total", "counted", level="memory") == 1
    assert sample("souk_cache_misses_total", "counted", level="memory") == 5
    assert sample("souk_cache_hits_total", "counted", level="absent") == 1
    assert sample("souk_cache_hits_total", "counted", level="source") == 3
    assert sample("souk_cache_misses_total", "counted", level="source") == 1
    assert sample("souk_cache_evictions_total", "counted") == 1
    assert sample("souk_cache_bytes", "counted") == 2 * 4 * 4


async def test_calls_that_miss_the_same_key_share_one_load() -> None:
    cache, source = VectorCache("unit", 4, 100), Source()
    source.gate.clear()
    calls = [asyncio.create_task(cache.get_many(["a", str(i % 2)], source)) for i in range(50)]
    await until(lambda: len(source.asked) == 2)
    source.gate.set()
    for i, answer in enumerate(await asyncio.gather(*calls)):
        assert np.array_equal(answer.vectors, [vector_of("a"), vector_of(str(i % 2))])
    assert source.asked == [["a", "0"], ["1"]]


async def test_a_cancelled_leader_does_not_fail_its_followers() -> None:
    cache, source = VectorCache("unit", 4, 100), Source()
    source.gate.clear()
    leader = asyncio.create_task(cache.get_many(["a"], source))
    await until(lambda: len(source.asked) == 1)
    follower = asyncio.create_task(cache.get_many(["a"], source))
    await asyncio.sleep(0)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    source.gate.set()
    assert np.array_equal((await follower).vectors, [vector_of("a")])
    assert (len(source.asked), source.cancelled) == (1, 0)


async def test_a_load_no_one_waits_for_is_cancelled_and_asked_again() -> None:
    cache, source = VectorCache("unit", 4, 100), Source()
    source.gate.clear()
    calls = [asyncio.create_task(cache.get_many(["a"], source)) for _ in range(3)]
    await until(lambda: len(source.asked) == 1)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    newcomer = asyncio.create_task(cache.get_many(["a"], source))
    await until(lambda: len(source.asked) == 2)
    source.gate.set()
    assert (await newcomer).source == 1
    assert source.cancelled == 1


async def test_a_call_that_comes_while_an_abandoned_load_ends_loads_for_itself() -> None:
    cache, source = VectorCache("unit", 4, 100), Source()
    source.gate.clear()

    async def leaves_and_returns() -> int:
        try:
            await cache.get_many(["a"], source)
        except asyncio.CancelledError:
            source.gate.set()
            return (await cache.get_many(["a"], source)).source
        raise AssertionError("was not cancelled")

    call = asyncio.create_task(leaves_and_returns())
    await until(lambda: len(source.asked) == 1)
    call.cancel()
    assert await call == 1


async def test_a_failing_load_fails_its_caller_and_the_others_load_for_themselves() -> None:
    cache, source = VectorCache("unit", 4, 100), Source()
    gate = asyncio.Event()

    async def fails(keys: list[Key]) -> Vectors:
        await gate.wait()
        raise Unavailable("the retriever is gone")

    leader = asyncio.create_task(cache.get_many(["a", "b"], fails))
    await asyncio.sleep(0)
    followers = [asyncio.create_task(cache.get_many(["b", "c"], source)) for _ in range(5)]
    await until(lambda: len(source.asked) == 1)
    gate.set()
    with pytest.raises(Unavailable, match="the retriever is gone"):
        await leader
    for answer in await asyncio.gather(*followers):
        assert np.array_equal(answer.vectors, [vector_of("b"), vector_of("c")])
    assert source.asked == [["c"], ["b"]]
    assert (await cache.get_many(["a"], source)).source == 1  # the failure was not kept


async def test_a_source_that_stays_away_is_asked_twice_however_many_wait() -> None:
    cache = VectorCache("unit", 4, 100)
    loads = 0

    async def fails(keys: list[Key]) -> Vectors:
        nonlocal loads
        loads += 1
        await asyncio.sleep(0)
        raise Unavailable("the retriever is gone")

    outcomes = await asyncio.gather(*(cache.get_many(["a"], fails) for _ in range(30)), return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert loads == 2


async def test_a_load_that_is_cut_off_says_so() -> None:
    async def cut_off(keys: list[Key]) -> Vectors:
        raise asyncio.CancelledError

    with pytest.raises(Unavailable, match="cancelled"):
        await VectorCache("unit", 4, 100).get_many(["a"], cut_off)


async def test_a_load_that_never_ends_is_ended() -> None:
    source = Source()
    source.gate.clear()
    with pytest.raises(TimeoutError):
        await VectorCache("unit", 4, 100, load_timeout=0.01).get_many(["a"], source)
    assert source.cancelled == 1


async def test_a_vector_of_another_length_is_refused() -> None:
    async def wrong(keys: list[Key]) -> Vectors:
        return {key: np.zeros(3, np.float32) for key in keys}

    with pytest.raises(ValueError, match=r"'a' has shape \(3,\), not \(4,\)"):
        await VectorCache("unit", 4, 100).get_many(["a"], wrong)


async def test_closing_ends_loads_under_way() -> None:
    cache, source = VectorCache("unit", 4, 100), Source()
    source.gate.clear()
    call = asyncio.create_task(cache.get_many(["a"], source))
    await until(lambda: len(source.asked) == 1)
    await cache.close()
    with pytest.raises(Unavailable):
        await call


async def test_absences_are_remembered_for_their_time_only() -> None:
    now = 0.0
    cache, source = VectorCache("unit", 4, 100, absent_ttl=5, clock=lambda: now), Source()
    for at, loads in ((100.0, 1), (104.9, 1), (105.1, 2), (109.0, 2), (111.0, 3)):
        now = at
        assert (await cache.get_many(["none"], source)).absent == 1
        assert len(source.asked) == loads


async def test_remembered_absences_are_bounded() -> None:
    cache, source = VectorCache("unit", 4, 10), Source()
    await cache.get_many([f"no{i}" for i in range(30)], source)
    await cache.get_many([f"no{i}" for i in range(20, 30)], source)
    assert len(source.asked) == 1
    await cache.get_many([f"no{i}" for i in range(20)], source)
    assert len(source.asked[1]) == 20


async def test_what_the_source_leaves_out_is_absent_now_and_asked_again() -> None:
    loads = 0

    async def later(keys: list[Key]) -> Vectors:
        nonlocal loads
        loads += 1
        return {key: vector_of(key) for key in keys} if loads == 2 else {}

    cache = VectorCache("unit", 4, 10)
    assert (await cache.get_many(["pending"], later)).absent == 1
    assert (await cache.get_many(["pending"], later)).source == 1


async def test_a_redis_that_is_not_there_is_told_and_left_alone() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{unused.getsockname()[1]}/0"
        now = 100.0
        cache, source = VectorCache("nobody", 4, 2, url, redis_timeout=5, clock=lambda: now), Source()
        for i in range(10):
            answer = await cache.get_many([f"a{i}"], source)
            assert np.array_equal(answer.vectors, [vector_of(f"a{i}")])
            assert (answer.source, answer.redis_down) == (1, True)
        assert sample("souk_cache_redis_errors_total", "nobody", kind="connection") == 1
        assert sample("souk_cache_redis_errors_total", "nobody", kind="skipped") == 9
        assert sample("souk_cache_writes_dropped_total", "nobody") == 10
        now += 1.1
        await asyncio.gather(*(cache.get_many([f"b{i}"], source) for i in range(10)))
        assert sample("souk_cache_redis_errors_total", "nobody", kind="connection") == 2
        await cache.close()


Caller = tuple[list[int], bool, int]  # keys, whether it is cancelled, after how many turns of the loop


@settings(max_examples=150, deadline=None)
@given(
    callers=st.lists(
        st.tuples(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.booleans(), st.integers(0, 6)), max_size=8
    ),
    failing=st.sets(st.integers(0, 20)),
    seed=st.integers(0, 1000),
)
def test_whoever_is_cancelled_and_whatever_fails_the_rest_get_their_own(
    callers: list[Caller], failing: set[int], seed: int
) -> None:
    asyncio.run(_play(callers, failing, seed))


async def _play(callers: list[Caller], failing: set[int], seed: int) -> None:
    cache = VectorCache("unit", 4, 3)
    chance = random.Random(seed)
    loads = 0

    async def load(keys: list[Key]) -> Vectors:
        nonlocal loads
        number, loads = loads, loads + 1
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        if number in failing:
            raise Unavailable(f"load {number}")
        return {key: vector_of(key) for key in keys}

    async def call(keys: list[Key], turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        answer = await cache.get_many(keys, load)
        assert answer.present.all()
        assert np.array_equal(answer.vectors, np.stack([vector_of(key) for key in keys]))

    async def cancel(task: asyncio.Task[None], turns: int) -> None:
        for _ in range(turns + 2):
            await asyncio.sleep(0)
        task.cancel()

    tasks = [
        asyncio.create_task(call([str(number) for number in keys], turns % 3)) for keys, _cancelled, turns in callers
    ]
    cancels: list[Awaitable[None]] = [
        cancel(task, turns) for task, (_, cancelled, turns) in zip(tasks, callers, strict=True) if cancelled
    ]
    async with asyncio.timeout(10):
        await asyncio.gather(*cancels)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome, (_, cancelled, _) in zip(outcomes, callers, strict=True):
        if isinstance(outcome, asyncio.CancelledError):
            assert cancelled
        elif isinstance(outcome, Unavailable):
            assert failing
        else:
            assert outcome is None
    # Nothing stays under way: later calls load anew and are right.
    failing.clear()
    await call([str(number) for number in range(7)], 0)
    assert len(asyncio.all_tasks()) == 1
