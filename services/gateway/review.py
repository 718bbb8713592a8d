"""What people decided of items, as answers obey it: suppressed items are left out, pinned ones have their places.

Coldstart keeps the decisions; here is a copy, asked for anew every second and after each decision that came this way.
With coldstart gone the copy stays; a gateway that never had one says so in its answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress

import grpc
import grpc.aio

from services.domain.offers import PROMOTION
from services.gateway.peers import Peers
from services.gateway.stages import Journey, StageFailed
from services.runtime.channels import sleep_until_stopped
from souk.coldstart.v1 import review_pb2, review_pb2_grpc
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2

_LOOK_EVERY_SECONDS = 1.0
_SHARE = 0.2


class Reviewed:
    """The copy, for one event loop."""

    def __init__(self, peers: Peers) -> None:
        self._coldstart = peers.coldstart
        if self._coldstart is not None:
            self.stub = review_pb2_grpc.ReviewStub(self._coldstart.channel)
        self._decisions: Sequence[review_pb2.Decision] = ()
        self._version = ""
        # Without coldstart nothing can be decided.
        self._known = self._coldstart is None
        self._stopped = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follows what is decided."""
        if self._coldstart is not None:
            self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Ends that."""
        self._stopped.set()
        if self._watching is not None:
            await self._watching

    async def learn(self, seconds: float = _LOOK_EVERY_SECONDS) -> None:
        """Asks coldstart. Raises AioRpcError, StageFailed."""
        assert self._coldstart is not None  # Nobody asks without one.
        request = review_pb2.ListDecisionsRequest(version=self._version)
        answer = await self._coldstart.call(self.stub.ListDecisions, request, seconds)
        if not answer.unchanged:
            self._decisions, self._version = answer.decisions, answer.version
        self._known = True

    async def known(self, journey: Journey) -> None:
        """Sees to it that decisions are known; a degradation where they cannot be."""
        if self._known:
            return
        try:
            await journey.stage("review", _SHARE, self.learn)
        except StageFailed as failure:
            journey.degrade("review", failure.reason, "as if nothing were suppressed or pinned")

    def suppressed(self, scene: int, now: float) -> frozenset[str]:
        """Items that the scene must not show at `now`, in seconds since 1970 UTC."""
        return frozenset(
            one.item_id
            for one in self._in_force(review_pb2.VERDICT_SUPPRESS, now)
            if one.scene in (scene, types_pb2.SCENE_UNSPECIFIED)
        )

    def pins(self, scene: int, query: str, root: retriever_pb2.Filter, now: float) -> dict[str, int]:
        """Places by item, in a scene at `now`, for a query and a caller's filter; the first place first, and of one
        place the latest pin last. Of several pins of an item the latest holds."""
        found = [
            one
            for one in self._in_force(review_pb2.VERDICT_PIN, now)
            if one.scene == scene
            and one.query in ("", " ".join(query.casefold().split()))
            and (not one.category_path or _asks_for_category(root, one.category_path))
            and (not one.promotion or _asks_for_promotion(root, one.promotion))
        ]
        latest = {one.item_id: one.place for one in found}
        order = {one.item_id: i for i, one in enumerate(found)}
        return dict(sorted(latest.items(), key=lambda pin: (pin[1], order[pin[0]])))

    def _in_force(self, verdict: int, now: float) -> Iterator[review_pb2.Decision]:
        for one in self._decisions:
            if one.verdict == verdict and (not one.HasField("until") or one.until.seconds > now):
                yield one

    async def _watch(self) -> None:
        while not await sleep_until_stopped(self._stopped, _LOOK_EVERY_SECONDS):
            with suppress(grpc.aio.AioRpcError, StageFailed):  # What is known stays.
                await self.learn()


def _asks_for_category(root: retriever_pb2.Filter, path: Sequence[str]) -> bool:
    wanted = [name.casefold() for name in path]
    return any(
        [name.casefold() for name in one.names] == wanted for node in _must_hold(root) for one in node.category.paths
    )


def _asks_for_promotion(root: retriever_pb2.Filter, promotion: str) -> bool:
    return any(
        node.attribute.name.casefold() == PROMOTION
        and promotion.casefold() in map(str.casefold, node.attribute.any_of.values)
        for node in _must_hold(root)
    )


def _must_hold(root: retriever_pb2.Filter) -> Iterator[retriever_pb2.Filter]:
    """The nodes that hold of whatever passes the filter."""
    yield root
    for child in root.all.filters:
        yield from _must_hold(child)
