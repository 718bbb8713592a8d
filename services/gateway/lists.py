"""Candidates of searches for nobody known, kept while the catalogue stays as it was.

A list is kept under all that it was made from and the catalogue's sequence number that its answer had seen; it is used
while the primary says that this is still its last change, asked ten times a second as long as somebody searches. What
changes without a number, vectors that come after their item and popularity, is seen when a list grows old.
"""

import asyncio
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass

import grpc.aio

from services.gateway.listing import Wanted
from services.gateway.pages import fingerprint
from services.gateway.peers import Peers
from services.gateway.stages import Journey, StageFailed
from services.runtime import telemetry
from services.runtime.channels import sleep_until_stopped
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2

_EVERY_SECONDS, _ANSWERS_WITHIN = 0.1, 0.5
# After so long without a search nobody is asked.
_IDLE_SECONDS = 1.0

# What the same search would meet again as long as no item changes.
_LASTING = (types_pb2.DEGRADATION_REASON_VOCABULARY, types_pb2.DEGRADATION_REASON_NOTHING_FOUND)


@dataclass(frozen=True)
class _Held:
    sequence: int
    until: float
    candidates: types_pb2.CandidateColumns
    degradations: tuple[types_pb2.Degradation, ...]


class Lists:
    """For one event loop. At most `most` lists, the one not used for longest goes first; 0 keeps none."""

    def __init__(self, peers: Peers, most: int, seconds: float) -> None:
        self._peers, self._most, self._seconds = peers, most, seconds
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._sequence: int | None = None
        self._writes = 0
        self._asked = 0.0
        self._stopped = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._hits = telemetry.CACHE_HITS.labels("lists", "memory")
        self._misses = telemetry.CACHE_MISSES.labels("lists", "memory")

    def start(self) -> None:
        """Follows the catalogue."""
        if self._most:
            self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Ends it."""
        self._stopped.set()
        if self._following is not None:
            await self._following

    def key(self, journey: Journey, wanted: Wanted, query: str) -> bytes | None:
        """A hash of all that a search is made from; None where no list is held."""
        if not self._most:
            return None
        asked = wanted.filter.SerializeToString(deterministic=True)
        return fingerprint(
            journey.generation.encode(), query.encode(), asked, *map(str.encode, sorted(wanted.excluded))
        )

    def find(self, key: bytes, journey: Journey) -> types_pb2.CandidateColumns | None:
        """What was found for the same, if it would be found again, and what stood in for what is told again. Not to be
        altered."""
        self._asked = now = time.monotonic()
        held = self._held.get(key)
        if held is None or held.sequence != self._sequence or held.until < now:
            self._misses.inc()
            return None
        self._held.move_to_end(key)
        self._hits.inc()
        for one in held.degradations:
            journey.degrade(one.stage, one.reason, one.substitute)
        return held.candidates

    def keep(self, key: bytes, found: retriever_pb2.SearchResponse, journey: Journey) -> None:
        """What was found, unless something stood in that may be back for the next."""
        told = tuple(journey.degradations)
        if any(one.reason not in _LASTING for one in told):
            return
        self._held[key] = _Held(found.sequence, time.monotonic() + self._seconds, found.candidates, told)
        self._held.move_to_end(key)
        if len(self._held) > self._most:
            self._held.popitem(last=False)

    def written(self) -> None:
        """The catalogue was changed through this gateway: nothing is used until it has told its new number."""
        self._sequence = None
        self._writes += 1

    async def _follow(self) -> None:
        primary, stub = self._peers.readers[0]
        try:
            while not await sleep_until_stopped(self._stopped, _EVERY_SECONDS):
                if time.monotonic() - self._asked > _IDLE_SECONDS:
                    self._sequence = None
                    continue
                writes, told = self._writes, None
                with suppress(grpc.aio.AioRpcError, StageFailed, TimeoutError):
                    told = (await primary.call(stub.GetInfo, retriever_pb2.GetInfoRequest(), _ANSWERS_WITHIN)).sequence
                # A number asked for before a write says nothing of what was written.
                self._sequence = told if writes == self._writes else None
        finally:
            # Who no longer follows uses nothing.
            self._sequence = None
