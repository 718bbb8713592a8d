"""Work is admitted within its bounds, in order, and given back whatever happens."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.domain.checks import Invalid
from services.runtime import telemetry
from services.runtime.admission import Admission
from services.runtime.errors import Overloaded


async def test_work_that_never_fits_is_invalid() -> None:
    gate = Admission("t", running=5, waiting=100)
    with pytest.raises(Invalid, match="costs 6 units of work; the limit is 5"):
        async with gate.admit(6):
            pass


async def test_a_full_waiting_room_refuses_by_work() -> None:
    gate = Admission("t", running=4, waiting=3)
    release = asyncio.Event()

    async def hold(work: int) -> None:
        async with gate.admit(work):
            await release.wait()

    inside = asyncio.create_task(hold(4))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(hold(2))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await hold(2)
    small = asyncio.create_task(hold(1))
    await asyncio.sleep(0)
    assert not small.done()
    release.set()
    await asyncio.gather(inside, waiting, small)
    async with gate.admit(4):
        pass


async def test_who_stops_waiting_is_no_longer_counted() -> None:
    gate = Admission("left", running=1, waiting=5)

    async def enter() -> None:
        async with gate.admit(1):
            pass

    async with gate.admit(1):
        waiting = asyncio.create_task(enter())
        await asyncio.sleep(0)
        assert telemetry.WORK.labels("left", "waiting")._value.get() == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert telemetry.WORK.labels("left", "waiting")._value.get() == 0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3), st.sampled_from(["end", "fail", "cancel"])), max_size=25)
)
def test_nothing_is_ever_exceeded_or_lost(jobs: list[tuple[int, int, str]]) -> None:
    async def play() -> None:
        gate = Admission("t", running=6, waiting=10)
        inside = 0

        async def job(work: int, turns: int, end: str) -> None:
            nonlocal inside
            async with gate.admit(work):
                inside += work
                assert inside <= 6
                try:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    if end == "fail":
                        raise RuntimeError
                finally:
                    inside -= work

        tasks = []
        for work, turns, end in jobs:
            task = asyncio.create_task(job(work, turns, end))
            tasks.append(task)
            await asyncio.sleep(0)
            if end == "cancel":
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert inside == 0
        async with asyncio.timeout(1), gate.admit(6):  # All of it was given back.
            pass

    asyncio.run(play())
