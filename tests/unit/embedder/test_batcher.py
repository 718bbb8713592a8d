"""The batcher against every interleaving: each unit answered once with its own result, none in vain, none starved."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.domain.checks import Invalid
from services.embedder.batcher import Batcher, Budget, Limits
from services.runtime.errors import DeadlineExceeded, Overloaded, Unavailable

LIMITS = Limits(batch_tokens=64, waste=1.5)


class Gone(Exception):
    """The fatal kind."""


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


Build = Callable[..., "Batcher[int, int]"]


@pytest.fixture
def build(threads: ThreadPoolExecutor) -> Build:
    def make(
        compute: Callable[[list[int]], list[int]], workers: int = 1, limits: Limits = LIMITS
    ) -> "Batcher[int, int]":
        return Batcher(stage="test", compute=compute, executor=threads, workers=workers, limits=limits, fatal=Gone)

    return make


class Held:
    """A compute that doubles, records its batches and waits for permission."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, payloads: list[int]) -> list[int]:
        self.batches.append(payloads)
        self.begun.release()
        assert self.go.acquire(timeout=10)
        return [payload * 2 for payload in payloads]

    async def has_begun(self) -> None:
        await asyncio.to_thread(self.begun.acquire, timeout=10)


async def test_a_lone_unit_is_computed_at_once(build: Build) -> None:
    batcher = build(lambda payloads: [payload * 2 for payload in payloads])
    assert (await batcher.submit(21, 3)).value == 42


async def test_while_one_batch_computes_the_next_fills(build: Build) -> None:
    compute = Held()
    batcher = build(compute)
    first = batcher.submit(1, 4)
    await compute.has_begun()
    rest = [batcher.submit(n, 4) for n in (2, 3, 4)]
    compute.go.release(2)
    assert [unit.value for unit in await asyncio.gather(first, *rest)] == [2, 4, 6, 8]
    assert compute.batches == [[1], [2, 3, 4]]


async def test_what_arrives_together_is_computed_together(build: Build) -> None:
    compute = Held()
    compute.go.release()
    batcher = build(compute)
    await asyncio.gather(*(batcher.submit(n, 4) for n in range(8)))
    assert len(compute.batches) == 1


async def test_work_is_shared_between_workers(build: Build) -> None:
    compute = Held()
    compute.go.release(2)
    batcher = build(compute, workers=2)
    await asyncio.gather(*(batcher.submit(n, 4) for n in range(8)))
    assert sorted(map(len, compute.batches)) == [4, 4]


async def test_a_cancelled_unit_is_never_computed_and_takes_no_room(build: Build) -> None:
    compute = Held()
    batcher = build(compute)
    first = batcher.submit(1, 4)
    await compute.has_begun()
    left = batcher.submit(2, 4)
    stays = batcher.submit(3, 4)
    left.cancel()
    compute.go.release(2)
    assert (await first).value == 2
    assert (await stays).value == 6
    assert compute.batches == [[1], [3]]


async def test_a_unit_cancelled_while_it_is_computed_harms_no_one(build: Build) -> None:
    compute = Held()
    batcher = build(compute)
    left, stays = batcher.submit(1, 4), batcher.submit(2, 4)
    await compute.has_begun()
    left.cancel()
    compute.go.release(2)
    assert (await stays).value == 4
    assert (await batcher.submit(3, 4)).value == 6


async def test_an_expired_unit_is_told_and_never_computed(build: Build) -> None:
    compute = Held()
    batcher = build(compute)
    first = batcher.submit(1, 4)
    await compute.has_begun()
    late = batcher.submit(2, 4, deadline=time.monotonic())
    timely = batcher.submit(3, 4, deadline=time.monotonic() + 60)
    compute.go.release(2)
    with pytest.raises(DeadlineExceeded):
        await late
    assert (await timely).value == 6
    await first
    assert compute.batches == [[1], [3]]


async def test_a_failing_batch_fails_its_own_units_and_the_loop_lives_on(build: Build) -> None:
    def compute(payloads: list[int]) -> list[int]:
        if 13 in payloads:
            raise ZeroDivisionError("13")
        return payloads

    batcher = build(compute, limits=Limits(batch_tokens=8, waste=1.5))
    units = [batcher.submit(n, 4) for n in (1, 2, 13, 4, 5, 6)]
    results = await asyncio.gather(*units, return_exceptions=True)
    assert [isinstance(result, ZeroDivisionError) for result in results] == [False, False, True, True, False, False]
    batcher.check()
    assert (await batcher.submit(7, 4)).value == 7


async def test_as_many_outputs_as_inputs_or_the_batch_fails(build: Build) -> None:
    batcher = build(lambda payloads: payloads[1:])
    with pytest.raises(RuntimeError, match="0 outputs for 1 inputs"):
        await batcher.submit(1, 4)


async def test_a_lost_compute_shows_in_the_check_until_it_answers_again(build: Build) -> None:
    lost = True

    def compute(payloads: list[int]) -> list[int]:
        if lost:
            raise Gone("device")
        return payloads

    batcher = build(compute)
    with pytest.raises(Gone):
        await batcher.submit(1, 4)
    with pytest.raises(Gone):
        batcher.check()
    lost = False
    await batcher.submit(1, 4)
    batcher.check()


async def test_a_hanging_compute_shows_in_the_check(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.embedder.batcher.STUCK_SECONDS", 0.0)
    compute = Held()
    batcher = build(compute)
    unit = batcher.submit(1, 4)
    await compute.has_begun()
    with pytest.raises(Unavailable, match="computing for"):
        batcher.check()
    compute.go.release()
    await unit
    await batcher.stop(5)
    batcher.check()


async def test_stop_computes_what_waits_and_refuses_what_comes(build: Build) -> None:
    compute = Held()
    batcher = build(compute)
    units = [batcher.submit(1, 4)]
    await compute.has_begun()
    units += [batcher.submit(n, 4) for n in (2, 3)]
    stopping = asyncio.create_task(batcher.stop(10))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        batcher.submit(4, 4)
    compute.go.release(2)
    await stopping
    assert [unit.result().value for unit in units] == [2, 4, 6]


async def test_stop_computes_what_came_in_the_same_turn(build: Build) -> None:
    batcher = build(lambda payloads: [payload * 2 for payload in payloads])
    unit = batcher.submit(21, 4)
    await batcher.stop(10)
    assert unit.result().value == 42


async def test_stop_fails_what_it_has_no_time_for(build: Build) -> None:
    compute = Held()
    batcher = build(compute)
    running = batcher.submit(1, 4)
    await compute.has_begun()
    waiting = batcher.submit(2, 4)
    await batcher.stop(0.01)
    with pytest.raises(Unavailable):
        await waiting
    compute.go.release()
    assert (await running).value == 2


async def test_a_batch_holds_few_tokens_and_little_padding(build: Build) -> None:
    compute = Held()
    compute.go.release(1000)
    batcher = build(compute, limits=Limits(batch_tokens=100, waste=1.25))
    lengths = [(n * 37) % 90 + 1 for n in range(200)] + [400]
    await asyncio.gather(*(batcher.submit(n, n) for n in lengths))
    assert sorted(n for batch in compute.batches for n in batch) == sorted(lengths)
    for batch in compute.batches:
        padded = max(batch) * len(batch)
        assert len(batch) == 1 or (padded <= 100 and padded <= 1.25 * sum(batch))
    assert len(compute.batches) < len(lengths)


async def test_the_oldest_is_always_in_the_next_batch(build: Build) -> None:
    # One long text among an endless stream of short ones, which alone would make the better batches.
    compute = Held()
    batcher = build(compute)
    first = batcher.submit(0, 4)
    await compute.has_begun()
    long = batcher.submit(1, 60)
    short = [batcher.submit(n, 4) for n in range(2, 100)]
    compute.go.release(1000)
    await asyncio.gather(first, long, *short)
    assert compute.batches[1] == [1]


async def test_a_large_request_does_not_hold_up_the_small_one_behind_it(build: Build) -> None:
    compute = Held()
    batcher = build(compute, limits=Limits(batch_tokens=200, waste=1.5))
    first = batcher.submit(-1, 50)
    await compute.has_begun()
    large = [batcher.submit(n, 50, ahead=50 * n) for n in range(40)]
    small = batcher.submit(99, 50)
    compute.go.release(100)
    await asyncio.gather(first, small, *large)
    assert any(99 in batch for batch in compute.batches[:4])
    # And the large one is computed in its order.
    in_order = [n for batch in compute.batches for n in batch if 0 <= n < 40]
    assert in_order == sorted(in_order)


@dataclass(frozen=True)
class Plan:
    tokens: int
    cancel: str
    expires: bool
    ahead: int
    turns: int


plans = st.lists(
    st.builds(
        Plan,
        tokens=st.integers(1, 80),
        cancel=st.sampled_from(["no", "no", "at once", "later"]),
        expires=st.sampled_from([False, False, False, True]),
        ahead=st.sampled_from([0, 0, 100, 100_000]),
        turns=st.integers(0, 3),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=150)
@given(plans=plans, workers=st.integers(1, 3), poison=st.sets(st.integers(0, 59), max_size=3))
def test_every_unit_ends_exactly_once_with_its_own_result(plans: list[Plan], workers: int, poison: set[int]) -> None:
    computed: list[int] = []
    together: list[list[int]] = []
    lock = threading.Lock()

    def compute(payloads: list[int]) -> list[int]:
        with lock:
            computed.extend(payloads)
            together.append(payloads)
        if poison & set(payloads):
            raise ZeroDivisionError
        return [payload * 2 for payload in payloads]

    async def scenario() -> None:
        with ThreadPoolExecutor(workers) as executor:
            batcher: Batcher[int, int] = Batcher(
                stage="test", compute=compute, executor=executor, workers=workers, limits=LIMITS, fatal=Gone
            )
            units = []
            dropped: set[int] = set()
            for n, plan in enumerate(plans):
                deadline = time.monotonic() if plan.expires else None
                unit = batcher.submit(n, plan.tokens, deadline, plan.ahead)
                units.append(unit)
                if plan.cancel == "at once":
                    unit.cancel()
                    dropped.add(n)
                for _ in range(plan.turns):
                    await asyncio.sleep(0)
                if plan.cancel == "later":
                    unit.cancel()
            ends = await asyncio.wait_for(asyncio.gather(*units, return_exceptions=True), 20)
            await batcher.stop(5)
        assert len(computed) == len(set(computed)), "computed twice"
        poisoned = {n for batch in together if poison & set(batch) for n in batch}
        for n, (plan, end) in enumerate(zip(plans, ends, strict=True)):
            if isinstance(end, asyncio.CancelledError):
                assert plan.cancel != "no"
            elif isinstance(end, DeadlineExceeded):
                assert plan.expires
            elif isinstance(end, ZeroDivisionError):
                assert n in poisoned
            else:
                assert not isinstance(end, BaseException)
                assert end.value == n * 2
            if n in dropped or plan.expires:
                assert n not in computed, "computed in vain"

    asyncio.run(scenario())


def test_a_budget_is_charged_by_tokens() -> None:
    budget = Budget(100)
    with budget.charge(64) as charge:
        with pytest.raises(Overloaded, match="64 tokens wait or run and 40 more do not fit; the limit is 100"):
            budget.charge(40)
        with budget.charge(30), pytest.raises(Overloaded):
            charge.resize(80)
        charge.resize(10)
        assert budget.held == 10
        with pytest.raises(Invalid, match="inputs: 101 tokens; at most 100"):
            charge.resize(101)
    assert budget.held == 0
