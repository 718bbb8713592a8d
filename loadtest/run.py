"""A load test from its first phase to its last: client processes, the search for the knee, and what is written down."""

import multiprocessing
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from loadtest.client import Job, main
from loadtest.plan import Phase, Plan
from loadtest.tally import Tally
from loadtest.traffic import Pools
from loadtest.watch import Watch
from training.evaluate.metrics import condensed_ndcg, ndcg

# A step is past the knee where a larger share of what was due is not answered, where p99 is more than so many times the
# first step's, or where the share of degraded answers is so much above the first step's: overload shows there first.
MOST_MISSING = 0.02
MOST_SLOWER = 5.0
MOST_DEGRADED = 0.05
# Between telling the processes of a phase and its begin.
_HEAD_START_SECONDS = 0.3

Tell = Callable[[str, float, Tally], None]
Grades = dict[str, dict[str, int]]


class ClientDied(RuntimeError):
    """A client process ended before its time; nothing of the phase counts."""


@dataclass
class Result:
    """Of one phase, or one step: what was offered (calls a second; None: closed loop) and what became of it."""

    name: str
    phase: Phase
    seconds: float
    tally: Tally
    use: dict[str, Any]

    @property
    def throughput(self) -> float:
        """Answers a second, until the last one."""
        return self.tally.answered.total() / self.seconds

    @property
    def missing(self) -> float:
        """Share of the calls due that were not answered."""
        return 1 - self.tally.answered.total() / self.tally.due if self.tally.due else 0.0

    def to_json(self, grades: Grades) -> dict[str, Any]:
        """All numbers, times in milliseconds."""
        tally = self.tally
        return {
            "name": self.name,
            "kind": self.phase.kind,
            "offered": self.phase.rate,
            "in_flight": self.phase.in_flight,
            "planned_seconds": self.phase.seconds,
            "seconds": self.seconds,
            "due": tally.due,
            "unsent": tally.unsent.total(),
            "answered": tally.answered.total(),
            "throughput": self.throughput,
            "missing": self.missing,
            "failures": {f"{scenario}: {code}": count for (scenario, code), count in sorted(tally.failed.items())},
            "degradations": {f"{stage}: {why}": count for (stage, why), count in sorted(tally.degradations.items())},
            "latency": {"all": tally.all_latency().to_json()}
            | {name: times.to_json() for name, times in sorted(tally.latency.items())},
            "stages": {name: times.to_json() for name, times in sorted(tally.stages.items())},
            "client_lag": tally.lag.to_json(),
            "quality": quality(tally, grades),
        } | self.use


def quality(tally: Tally, grades: Grades) -> dict[str, float]:
    """How good the answers were: shares of degraded and empty ones and of recommendations for a shopper nobody knows,
    and nDCG@10 of judged queries under both rules, each query once, by its first answer."""
    shown = sum(count for name, count in tally.answered.items() if name not in ("events", "upsert"))
    found: dict[str, float] = {}
    if shown:
        found |= {"degraded": tally.degraded.total() / shown, "empty": tally.empty.total() / shown}
    if tally.shoppers:
        found["cold"] = tally.shoppers["COLD"] / tally.shoppers.total()
    first = {query: ids for query, ids in reversed(tally.samples) if query in grades}
    if first:
        found["judged queries"] = len(first)
        found["nDCG@10, unjudged as not relevant"] = float(np.mean([ndcg(i, grades[q]) for q, i in first.items()]))
        found["nDCG@10, judged items alone"] = float(np.mean([condensed_ndcg(i, grades[q]) for q, i in first.items()]))
    return found


def past_knee(first: Result, step: Result) -> str:
    """Why a step is past the knee, empty where it is not."""
    if step.missing > MOST_MISSING:
        return f"{step.missing:.1%} of the calls were not answered, more than {MOST_MISSING:.0%}"
    slow, usual = (one.tally.all_latency().to_json().get("p99", 0.0) for one in (step, first))
    if slow > MOST_SLOWER * usual:
        return f"p99 {slow:.0f} ms, more than {MOST_SLOWER:g} times the first step's {usual:.0f} ms"
    worse, before = (quality(one.tally, {}).get("degraded", 0.0) for one in (step, first))
    if worse - before > MOST_DEGRADED:
        return f"{worse:.1%} of the answers are degraded, the first step's {before:.1%}"
    return ""


class Clients:
    """Client processes that run the same phase at the same time, each its share of it."""

    def __init__(self, gateway: str, pools: Pools, plan: Plan, seed: int, count: int) -> None:
        run = uuid.uuid4().hex[:12]
        processes = multiprocessing.get_context("spawn")
        self._seed, self._phases = seed, 0
        self._pipes: list[Connection] = []
        self._children = []
        for number in range(count):
            ours, theirs = processes.Pipe()
            arguments = (theirs, gateway, pools, plan, seed + 1000 * number, f"load-{run}-{number}")
            child = processes.Process(target=main, args=arguments, daemon=True)
            child.start()
            theirs.close()
            self._pipes.append(ours)
            self._children.append(child)
        for pipe in self._pipes:
            _next(pipe)

    @property
    def pids(self) -> list[int]:
        """Of the processes."""
        return [child.pid for child in self._children if child.pid is not None]

    def run(self, phase: Phase, tell: Callable[[Tally], None]) -> tuple[float, Tally]:
        """Seconds until the last answer, and all that was counted. Raises ClientDied."""
        self._phases += 1
        begin = time.monotonic() + _HEAD_START_SECONDS
        for number, pipe in enumerate(self._pipes):
            seed = self._seed + 1000 * number + self._phases
            pipe.send(Job(phase, 1 / len(self._pipes), begin, seed))
        found, busy = Tally(), list(self._pipes)
        while busy:
            for pipe in [one for one in wait(busy) if isinstance(one, Connection)]:
                if (tally := _next(pipe)) is None:
                    busy.remove(pipe)
                else:
                    found.add(tally)
                    tell(tally)
        return max(phase.seconds, time.monotonic() - begin), found

    def close(self) -> None:
        """Ends the processes."""
        for pipe, child in zip(self._pipes, self._children, strict=True):
            if child.is_alive():
                pipe.send(None)
            child.join(10)
            if child.is_alive():
                child.kill()


def _next(pipe: Connection) -> Tally | None:
    try:
        tally: Tally | None = pipe.recv()
    except EOFError:
        raise ClientDied("a client process ended; its error stands above") from None
    return tally


@contextmanager
def clients(gateway: str, pools: Pools, plan: Plan, seed: int, count: int) -> Iterator[Clients]:
    """Client processes for as long as they are used."""
    opened = Clients(gateway, pools, plan, seed, count)
    try:
        yield opened
    finally:
        opened.close()


class Recorder:
    """Runs the phases of a plan; keeps results and what happened second by second."""

    def __init__(self, senders: Clients, watch: Watch | None, tell: Tell) -> None:
        self._senders, self._watch, self._tell = senders, watch, tell
        self._began = time.monotonic()
        self.results: list[Result] = []
        self.seconds: list[dict[str, float | str]] = []
        self.knees: list[dict[str, float | str]] = []

    def run(self, phases: list[Phase]) -> None:
        """All phases in turn. Raises ClientDied."""
        for phase in phases:
            if phase.kind == "steps":
                self._steps(phase)
            else:
                self.results.append(self._one(phase.name, phase))

    def _steps(self, phase: Phase) -> None:
        """Steps of growing rate, ended by the first past the knee; the step before is the knee."""
        assert phase.rate is not None
        steps: list[Result] = []
        for number in range(phase.most_steps):
            rate = round(phase.rate * phase.factor**number, 1)
            step = self._one(f"{phase.name}, {rate:g}/s", phase.model_copy(update={"kind": "steady", "rate": rate}))
            steps.append(step)
            self.results.append(step)
            if why := past_knee(steps[0], step):
                break
        else:
            why = ""
        last = steps[-2 if why and len(steps) > 1 else -1]
        self.knees.append(
            {
                "phase": phase.name,
                "rate": 0.0 if why and len(steps) == 1 else float(last.phase.rate or 0),
                "why": why or "not reached: every step kept up",
            }
        )

    def _one(self, name: str, phase: Phase) -> Result:
        began = time.monotonic()

        def tell(tally: Tally) -> None:
            if self._watch:
                self._watch.look()
            times = tally.all_latency().to_json()
            self.seconds.append(
                {
                    "at": time.monotonic() - self._began,
                    "phase": name,
                    "answered": tally.answered.total(),
                    "failed": tally.failed.total(),
                    "unsent": tally.unsent.total(),
                    "p50": times.get("p50", 0.0),
                    "p99": times.get("p99", 0.0),
                    "max": times.get("max", 0.0),
                }
            )
            self._tell(name, min(1.0, (time.monotonic() - began) / phase.seconds), tally)

        if self._watch:
            self._watch.begin()
        seconds, tally = self._senders.run(phase, tell)
        return Result(name, phase, seconds, tally, self._watch.end() if self._watch else {})
