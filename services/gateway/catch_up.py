"""Brings a process that came back with an older bundle up to the generation that the catalogue serves."""

import asyncio
import time
from collections.abc import Sequence

import grpc
import grpc.aio

from services.gateway.peer import Peer
from services.gateway.stages import StageFailed
from services.runtime.telemetry import log
from souk.types.v1 import generations_pb2

_LOOK_EVERY_SECONDS = 5.0
_ASK_SECONDS = 2.0
# Loading goes on when this is over, and the next look waits for it again.
_PREPARE_SECONDS = 300.0


class CatchUp:
    """Looks at the processes now and then; one task for each that is being brought up. For one event loop."""

    def __init__(self) -> None:
        self._looked = 0.0
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._told: set[tuple[str, str]] = set()

    def look(
        self, peers: Sequence[Peer], serving: generations_pb2.Generation, held: Sequence[generations_pb2.Generation]
    ) -> None:
        """`serving` and `held`: of the process whose catalogue answers. Returns at once."""
        if time.monotonic() - self._looked < _LOOK_EVERY_SECONDS:
            return
        self._looked = time.monotonic()
        kept = {one.generation for one in held}
        for peer in peers:
            task = self._tasks.get(peer.name)
            if task is None or task.done():
                self._tasks[peer.name] = asyncio.create_task(self._bring(peer, serving, kept))

    async def stop(self) -> None:
        """Ends what is under way."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _bring(self, peer: Peer, serving: generations_pb2.Generation, kept: set[str]) -> None:
        stub, name = peer.generations, serving.generation
        try:
            request = generations_pb2.ListGenerationsRequest()
            held = (await peer.call(stub.ListGenerations, request, _ASK_SECONDS)).generations
            if any(one.generation == name and one.state != generations_pb2.GENERATION_STATE_FAILED for one in held):
                return
            prepare = generations_pb2.PrepareRequest(bundle=serving.bundle, generation=name)
            await peer.call(stub.Prepare, prepare, _PREPARE_SECONDS)
            await peer.call(stub.Switch, generations_pb2.SwitchRequest(generation=name), _ASK_SECONDS)
            for one in held:
                if one.generation not in kept:
                    retire = generations_pb2.RetireRequest(generation=one.generation)
                    await peer.call(stub.Retire, retire, _PREPARE_SECONDS)
            log.info("the process serves what the others serve", peer=peer.name, generation=name)
        except (grpc.aio.AioRpcError, StageFailed) as error:
            # Asked again at the next look; told of once.
            if (peer.name, name) not in self._told:
                self._told = {(peer.name, name)} | {one for one in self._told if one[1] == name}
                problem = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
                log.warning("a process cannot be brought up", peer=peer.name, generation=name, problem=problem)
