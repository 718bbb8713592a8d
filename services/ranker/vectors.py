"""Behaviour vectors of items: memory slab -> one MGET of Redis -> the retriever; without what cannot be had in time."""

import asyncio
import hashlib
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from services.ranker.settings import RankerSettings
from services.runtime import telemetry
from services.runtime.cache import Key, VectorCache
from souk.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from souk.types.v1 import types_pb2
from souk.vectors import Float32, unpack_matrix

# What one GetVectors takes.
_AT_ONCE = 1_000
# After a failure the retriever is left alone for so long, so that it costs no request its time.
_REST_SECONDS = 1.0
# How long an item of a history, whose revision the history does not tell, keeps its vector.
_ANY_SECONDS = 600
ANY = 0
"""Stands for the revision where any will do."""

_GONE = (retriever_pb2.PRESENCE_NOT_FOUND, retriever_pb2.PRESENCE_UNCOVERED)


@dataclass(frozen=True, slots=True)
class Found:
    """Vectors of n items: (n, dim), zeros where not `present` (n,)."""

    vectors: Float32
    present: NDArray[np.bool_]
    unreachable: bool
    """Some may be missing because the retriever did not answer."""


class ItemVectors:
    """Vectors of one version of the behaviour space, of length `dim`; for one event loop.

    A candidate's vector is kept under its revision for good: it never changes. A history does not tell revisions;
    its items are kept under the current ten minutes of the clock (each item's begin at another second, so that they
    do not all run out at once): where an item is rewritten, what a shopper once bought may count for so long by its
    former text. The slab is for both; an item asked for in both ways has two rows.
    """

    def __init__(
        self, retriever: "retriever_pb2_grpc.RetrieverAsyncStub", version: str, dim: int, settings: RankerSettings
    ) -> None:
        self._retriever = retriever
        self.version = version
        self._dim = dim
        self._seconds = settings.vector_seconds
        self._prefix = hashlib.sha256(version.encode()).digest()[:16]
        # The load bounds each of its calls itself, and answers in any case.
        self._cache = VectorCache(
            "behaviour", dim, settings.vector_rows, settings.redis_url, load_timeout=2 * self._seconds
        )
        self._rests_until = 0.0

    async def get(self, ids: Sequence[str], revisions: Sequence[int]) -> Found:
        """The vectors of items, each of its revision or of ANY. Never raises for what cannot be had."""
        keys = self._keys(ids, revisions)

        async def load(missing: list[Key]) -> Mapping[Key, Float32 | None]:
            if time.monotonic() < self._rests_until:
                return {}
            wanted = dict(zip(keys, zip(ids, revisions, strict=True), strict=True))
            parts = [missing[start : start + _AT_ONCE] for start in range(0, len(missing), _AT_ONCE)]
            found: dict[Key, Float32 | None] = {}
            for part in await asyncio.gather(*(self._ask(part, [wanted[key] for key in part]) for part in parts)):
                found |= part
            return found

        answer = await self._cache.get_many(keys, load)
        unreachable = bool(answer.absent) and time.monotonic() < self._rests_until
        telemetry.RANK_MISSING.labels("unreachable" if unreachable else "absent").inc(answer.absent)
        return Found(answer.vectors, answer.present, unreachable)

    async def close(self) -> None:
        """Lets go of the cache."""
        await self._cache.close()

    def _keys(self, ids: Sequence[str], revisions: Sequence[int]) -> list[Key]:
        now = int(time.time())
        of_revision, of_any = self._prefix + b"=", self._prefix + b"~"
        keys: list[Key] = []
        for item_id, revision in zip(ids, revisions, strict=True):
            name = item_id.encode()
            if revision:
                keys.append(of_revision + revision.to_bytes(8, "big") + name)
            else:
                window = (now + zlib.crc32(name) % _ANY_SECONDS) // _ANY_SECONDS
                keys.append(of_any + window.to_bytes(8, "big") + name)
        return keys

    async def _ask(self, keys: Sequence[Key], wanted: Sequence[tuple[str, int]]) -> dict[Key, Float32 | None]:
        """What the retriever holds; a key left out is still to be made, of another revision, or could not be asked."""
        request = retriever_pb2.GetVectorsRequest(
            item_ids=[item_id for item_id, _ in wanted],
            space=types_pb2.SPACE_BEHAVIOUR,
            space_version=self.version,
        )
        try:
            answer = await self._retriever.GetVectors(request, timeout=self._seconds, metadata=telemetry.outgoing())
            vectors = unpack_matrix(answer.vectors)
            if vectors.shape != (len(keys), self._dim) or not len(answer.presence) == len(answer.revisions) == len(
                keys
            ):
                raise ValueError(f"the retriever gave {vectors.shape} for {len(keys)} items of {self._dim} dimensions")
        except (grpc.aio.AioRpcError, ValueError) as error:
            reason = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "MALFORMED"
            telemetry.DEGRADATIONS.labels("vectors", reason).inc()
            telemetry.log.warning("no item vectors", reason=reason, space_version=self.version, items=len(keys))
            self._rests_until = time.monotonic() + _REST_SECONDS
            return {}
        found: dict[Key, Float32 | None] = {}
        for i, (key, (_, revision)) in enumerate(zip(keys, wanted, strict=True)):
            if answer.presence[i] in _GONE:
                found[key] = None
            elif answer.presence[i] == retriever_pb2.PRESENCE_PRESENT and revision in (ANY, answer.revisions[i]):
                found[key] = vectors[i]
        return found
