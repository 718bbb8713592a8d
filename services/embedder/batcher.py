"""Continuous batching: while batches compute, the next fill. None starves, none is computed in vain.

Knows nothing of models: a unit is a payload with its size in tokens, a batch is a list of payloads.
"""

import asyncio
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from services.domain.checks import Invalid
from services.runtime import telemetry
from services.runtime.errors import DeadlineExceeded, Overloaded, Unavailable

P = TypeVar("P")
R = TypeVar("R")

# Units among which a batch is chosen by length, oldest first.
WINDOW = 512
# Tokens a second at which the units of one request grow younger: about what two cores compute.
PACE = 10_000.0
# A batch takes milliseconds to seconds; beyond this the device is taken for gone.
STUCK_SECONDS = 60.0


class Budget:
    """Tokens that may wait or run at once; several batchers may share one."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._gauge = telemetry.WORK.labels("embed", "held")

    @property
    def held(self) -> int:
        """Tokens charged now."""
        return self._held

    def charge(self, tokens: int) -> "Charge":
        """Holds the tokens until the block of the charge ends. Raises as Charge.resize."""
        charge = Charge(self)
        charge.resize(tokens)
        return charge

    def exchange(self, old: int, new: int) -> None:
        """Holds `new` tokens in place of `old`. Raises Invalid for more than can ever fit, Overloaded for now."""
        if new > self.limit:
            raise Invalid("inputs", f"{new} tokens; at most {self.limit} may wait or run at once")
        if new > old and self._held + new - old > self.limit:
            telemetry.REFUSED.labels("embed").inc()
            raise Overloaded(
                f"{self._held} tokens wait or run and {new - old} more do not fit; "
                f"the limit is {self.limit}: back off and retry"
            )
        self._held += new - old
        self._gauge.set(self._held)


class Charge:
    """The tokens of one request."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._tokens = 0

    def resize(self, tokens: int) -> None:
        """Charges `tokens` instead. Raises Invalid or Overloaded, and then keeps what was charged."""
        self._budget.exchange(self._tokens, tokens)
        self._tokens = tokens

    def __enter__(self) -> "Charge":
        return self

    def __exit__(self, *_: object) -> None:
        self.resize(0)


@dataclass(frozen=True)
class Limits:
    """What one batch may hold."""

    batch_tokens: int
    """Longest unit x units, at most; a unit longer than that is computed alone."""
    waste: float
    """Longest unit x units over the tokens really in the batch, at most."""


@dataclass(eq=False, slots=True)
class Done(Generic[R]):
    """What became of a unit, and when, in seconds of time.perf_counter()."""

    value: R
    started: float
    ended: float


@dataclass(eq=False, slots=True)
class _Unit(Generic[P, R]):
    due: float
    payload: P
    tokens: int
    deadline: float | None
    future: "asyncio.Future[Done[R]]"

    def expired(self, now: float) -> bool:
        return self.deadline is not None and self.deadline <= now


@dataclass(eq=False)
class Batcher(Generic[P, R]):
    """Runs `compute` over batches of payloads in `workers` threads of `executor`; for one event loop.

    `compute` gives one result a payload, in order. Where it raises, the units of that batch fail with what it raised
    and the others go on; after a `fatal` one, check() raises until a batch succeeds
    again. `stage` labels the metrics.
    """

    stage: str
    compute: Callable[[list[P]], Sequence[R]]
    executor: Executor
    workers: int
    limits: Limits
    fatal: type[Exception]
    _waiting: "list[_Unit[P, R]]" = field(default_factory=list, init=False)  # by `due`
    _idle: int = field(init=False)
    _computing: int = field(default=0, init=False)
    _running: "dict[asyncio.Task[None], float]" = field(default_factory=dict, init=False)
    _lost: Exception | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._idle = self.workers
        self._queued = telemetry.EMBED_QUEUED.labels(self.stage)
        self._batch_size = telemetry.EMBED_BATCH_SIZE.labels(self.stage)
        self._batch_seconds = telemetry.EMBED_BATCH_SECONDS.labels(self.stage)

    def submit(
        self, payload: P, tokens: int, deadline: float | None = None, ahead: int = 0
    ) -> "asyncio.Future[Done[R]]":
        """Queues one unit; cancelling the future takes it out again.

        `deadline` is in seconds of time.monotonic(): a unit whose time is over is not computed and fails with
        DeadlineExceeded. `ahead` is what stands before it in its request, in tokens: the queue is by age, and a unit
        counts as younger the later its request would come to it, so that a large request does not hold up those
        behind it. Raises Unavailable after stop().
        """
        if self._stopping:
            raise Unavailable("the embedder is draining")
        loop = asyncio.get_running_loop()
        unit: _Unit[P, R] = _Unit(time.monotonic() + ahead / PACE, payload, tokens, deadline, loop.create_future())
        insort(self._waiting, unit, key=_due)
        self._queued.inc()
        unit.future.add_done_callback(partial(self._leave, unit))
        if self._idle:
            # After this turn of the loop, so that what arrived together is computed together.
            loop.call_soon(self._dispatch)
        return unit.future

    def check(self) -> None:
        """Raises when the compute said that it can no longer answer, or hangs."""
        if self._lost is not None:
            raise self._lost
        longest = time.monotonic() - min(self._running.values(), default=time.monotonic())
        if longest > STUCK_SECONDS:
            raise Unavailable(f"a batch has been computing for {longest:.0f} s")

    async def stop(self, seconds: float) -> None:
        """Refuses new units and waits for those there are; what is left after the seconds fails with Unavailable."""
        self._stopping = True
        self._dispatch()
        give_up = time.monotonic() + seconds
        while self._running and (left := give_up - time.monotonic()) > 0:
            await asyncio.wait(self._running, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        for unit in list(self._waiting):
            self._drop(unit, Unavailable("the embedder stopped"), "stopped")

    def _leave(self, unit: _Unit[P, R], _: "asyncio.Future[Done[R]]") -> None:
        """Takes a unit out of the queue whose caller gave up, so that abandoned work takes no room."""
        if unit.future.cancelled():
            self._remove(unit, "cancelled")

    def _drop(self, unit: _Unit[P, R], error: Exception, reason: str) -> None:
        self._remove(unit, reason)
        if not unit.future.done():
            unit.future.set_exception(error)

    def _remove(self, unit: _Unit[P, R], reason: str) -> None:
        at = bisect_left(self._waiting, unit.due, key=_due)
        while at < len(self._waiting) and self._waiting[at].due == unit.due:
            if self._waiting[at] is unit:
                del self._waiting[at]
                self._queued.dec()
                telemetry.EMBED_DROPPED.labels(self.stage, reason).inc()
                return
            at += 1

    def _dispatch(self) -> None:
        """Gives every idle worker a batch while there is work."""
        while self._idle and (batch := self._take()):
            self._idle -= 1
            task = asyncio.create_task(self._run(batch))
            self._running[task] = time.monotonic()
            task.add_done_callback(self._running.pop)

    def _take(self) -> list[_Unit[P, R]]:
        """The next batch, oldest unit included, out of the queue; empty when nothing waits."""
        now = time.monotonic()
        while True:
            window = self._waiting[:WINDOW]
            gone = [unit for unit in window if unit.future.done() or unit.expired(now)]
            if not gone:
                break
            for unit in gone:
                # A cancelled one whose callback is still to come in this turn of the loop, or an expired one.
                if unit.future.done():
                    self._remove(unit, "cancelled")
                else:
                    self._drop(unit, DeadlineExceeded("the deadline passed before the compute"), "expired")
        if not window:
            return []
        # An even share of all there is to do: a worker that took everything would leave the next one idle.
        share = -(-(len(self._waiting) + self._computing) // self.workers)
        batch = choose(window, self.limits, share)
        taken = set(map(id, batch))
        self._waiting[: len(window)] = [unit for unit in window if id(unit) not in taken]
        self._computing += len(batch)
        self._queued.dec(len(batch))
        return batch

    async def _run(self, batch: list[_Unit[P, R]]) -> None:
        started = time.perf_counter()
        payloads = [unit.payload for unit in batch]
        try:
            values = await asyncio.get_running_loop().run_in_executor(self.executor, self.compute, payloads)
            if len(values) != len(batch):
                raise RuntimeError(f"{self.stage}: {len(values)} outputs for {len(batch)} inputs")
        except Exception as error:
            self._lost = error if isinstance(error, self.fatal) else self._lost
            telemetry.EMBED_FAILED_BATCHES.labels(self.stage).inc()
            for unit in batch:
                if not unit.future.done():
                    unit.future.set_exception(error)
        else:
            self._lost = None
            ended = time.perf_counter()
            self._batch_size.observe(len(batch))
            self._batch_seconds.observe(ended - started)
            for unit, value in zip(batch, values, strict=True):
                # A caller may have left while its unit was computed.
                if not unit.future.done():
                    unit.future.set_result(Done(value, started, ended))
        finally:
            self._idle += 1
            self._computing -= len(batch)
            self._dispatch()


def _due(unit: _Unit[P, R]) -> float:
    return unit.due


def choose(window: "Sequence[_Unit[P, R]]", limits: Limits, share: int) -> "list[_Unit[P, R]]":
    """The batch: the oldest unit (first of the window) and those nearest to it in length, while the limits hold.

    At most `share` units.
    """
    order = sorted(range(len(window)), key=lambda i: window[i].tokens)
    low = high = order.index(0)
    own = real = longest = window[0].tokens
    while high - low + 1 < share:
        neighbours = [at for at in (low - 1, high + 1) if 0 <= at < len(order)]
        for at in sorted(neighbours, key=lambda at: abs(window[order[at]].tokens - own)):
            tokens = window[order[at]].tokens
            padded = (high - low + 2) * max(longest, tokens)
            if padded <= limits.batch_tokens and padded <= limits.waste * (real + tokens):
                real, longest = real + tokens, max(longest, tokens)
                low, high = min(low, at), max(high, at)
                break
        else:
            break
    return [window[i] for i in order[low : high + 1]]
