"""The generations a process holds, one model object each: loading beside what serves, switching, letting go."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import grpc.aio

from services.domain.bundle import MANIFEST, Bundle, BundleError, read_bundle
from services.domain.checks import Invalid, check_text
from services.runtime.errors import FailedPrecondition, NotFound, Overloaded, SoukError
from souk.types.v1 import generations_pb2, generations_pb2_grpc

# One to serve and one to change to.
MAX_HELD = 2
_GENERATION = re.compile(r"[0-9a-f]{64}")


class Model(Protocol):
    """What a process makes of a bundle."""

    def check(self) -> None:
        """Raises when it can no longer answer."""

    async def close(self) -> None:
        """Lets go of it; no request uses it any more."""


M = TypeVar("M", bound=Model)


@dataclass(eq=False)
class _Held(Generic[M]):
    model: M
    path: Path
    uses: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.unused.set()


class Generations(Generic[M]):
    """At most two generations, of which one serves requests that name none. For one event loop.

    `load` makes a model of a bundle that was read and verified; what it raises is told as FailedPrecondition.
    """

    def __init__(self, load: Callable[[Bundle], Awaitable[M]]) -> None:
        self._make = load
        self._ready: dict[str, _Held[M]] = {}
        self._loading: dict[str, asyncio.Task[_Held[M]]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._failed: tuple[str, str] | None = None
        self.serving = ""

    @contextmanager
    def use(self, generation: str) -> Iterator[M]:
        """The model of a generation, empty: the one that serves; it is not let go of while the block runs.

        Raises Invalid for what is no generation, FailedPrecondition where it is not loaded.
        """
        if generation:
            check_generation(generation, "generation")
        held = self._ready.get(generation or self.serving)
        if held is None:
            raise FailedPrecondition(f"generation {generation} is not loaded; {self.serving} serves")
        held.uses += 1
        held.unused.clear()
        try:
            yield held.model
        finally:
            held.uses -= 1
            if not held.uses:
                held.unused.set()

    async def prepare(self, path: Path, expected: str = "") -> generations_pb2.Generation:
        """Loads a bundle, or waits for it where it is being loaded. The first one serves.

        A caller that gives up leaves the loading under way. Raises NotFound, FailedPrecondition, Overloaded.
        """
        generation = await asyncio.to_thread(_generation_of, path)
        if expected and generation != expected:
            raise FailedPrecondition(f"{path}: holds generation {generation}, not {expected}")
        if generation not in self._ready:
            task = self._loading.get(generation)
            if task is None:
                if len(self._ready) + len(self._loading) >= MAX_HELD:
                    raise Overloaded(f"{MAX_HELD} generations are held, the most there may be: retire one")
                task = asyncio.create_task(self._load(path, generation))
                self._loading[generation] = task
                task.add_done_callback(lambda task: self._loaded(generation, task))
            await asyncio.shield(task)
        return self._describe(generation)

    def switch(self, generation: str) -> generations_pb2.Generation:
        """Makes a generation the one that serves. Raises FailedPrecondition where it is not loaded."""
        if generation not in self._ready:
            raise FailedPrecondition(f"generation {generation} is not loaded and ready: Prepare it first")
        self.serving = generation
        return self._describe(generation)

    async def retire(self, generation: str) -> None:
        """Lets a generation go once its requests have ended. Raises FailedPrecondition for the one that serves."""
        if generation == self.serving:
            raise FailedPrecondition(f"generation {generation} serves: Prepare another and Switch first")
        if held := self._ready.pop(generation, None):
            # Goes on when the caller gives up: the model has left the list and must be let go of.
            task = asyncio.create_task(_let_go(held))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
            await asyncio.shield(task)

    def list(self) -> list[generations_pb2.Generation]:
        """Every generation held, being loaded, or last failed."""
        held = [self._describe(generation) for generation in self._ready]
        held += [
            generations_pb2.Generation(generation=generation, state=generations_pb2.GENERATION_STATE_LOADING)
            for generation in self._loading
        ]
        if self._failed is not None:
            generation, message = self._failed
            failed = generations_pb2.GENERATION_STATE_FAILED
            held.append(generations_pb2.Generation(generation=generation, state=failed, message=message))
        return held

    def check(self) -> None:
        """Raises when a model can no longer answer."""
        for held in self._ready.values():
            held.model.check()

    async def close(self) -> None:
        """Lets go of all of them."""
        for task in (*self._loading.values(), *self._leaving):
            task.cancel()
        for held in self._ready.values():
            await held.model.close()

    def _describe(self, generation: str) -> generations_pb2.Generation:
        return generations_pb2.Generation(
            generation=generation,
            state=generations_pb2.GENERATION_STATE_READY,
            serving=generation == self.serving,
            bundle=str(self._ready[generation].path),
        )

    async def _load(self, path: Path, generation: str) -> _Held[M]:
        try:
            bundle = await asyncio.to_thread(read_bundle, path)
            if bundle.generation != generation:
                raise FailedPrecondition(f"{path}: was replaced while it was read")
            return _Held(await self._make(bundle), path)
        except BundleError as error:
            raise FailedPrecondition(str(error)) from None
        except SoukError:
            raise
        except Exception as error:  # What a damaged model makes the libraries raise is theirs to choose.
            raise FailedPrecondition(f"{path}: cannot be loaded: {error}") from error

    def _loaded(self, generation: str, task: "asyncio.Task[_Held[M]]") -> None:
        del self._loading[generation]
        if task.cancelled():
            return
        if error := task.exception():
            self._failed = generation, str(error)
        else:
            self._ready[generation] = task.result()
            self.serving = self.serving or generation
            self._failed = None


async def _let_go(held: _Held[Any]) -> None:
    await held.unused.wait()
    await held.model.close()


class GenerationsServicer(generations_pb2_grpc.GenerationsServicer):
    """souk.types.v1.Generations."""

    def __init__(self, generations: Generations[Any]) -> None:
        self._generations = generations

    async def Prepare(
        self,
        request: generations_pb2.PrepareRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> generations_pb2.PrepareResponse:
        """Loads a bundle beside what serves."""
        check_text(request.bundle, "bundle", 4096)
        if request.generation:
            check_generation(request.generation, "generation")
        generation = await self._generations.prepare(Path(request.bundle), request.generation)
        return generations_pb2.PrepareResponse(generation=generation)

    async def Switch(
        self, request: generations_pb2.SwitchRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> generations_pb2.SwitchResponse:
        """Makes a loaded generation the one that serves requests which name none."""
        check_generation(request.generation, "generation")
        return generations_pb2.SwitchResponse(generation=self._generations.switch(request.generation))

    async def Retire(
        self, request: generations_pb2.RetireRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> generations_pb2.RetireResponse:
        """Lets a generation go."""
        check_generation(request.generation, "generation")
        await self._generations.retire(request.generation)
        return generations_pb2.RetireResponse()

    async def ListGenerations(
        self, request: generations_pb2.ListGenerationsRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> generations_pb2.ListGenerationsResponse:
        """What is held."""
        return generations_pb2.ListGenerationsResponse(generations=self._generations.list())


def check_generation(value: str, field: str) -> None:
    """The hash of a manifest. Raises Invalid."""
    if not _GENERATION.fullmatch(value):
        raise Invalid(field, "is not a generation: 64 hexadecimal digits")


def _generation_of(path: Path) -> str:
    """The generation of a bundle, its files not yet verified. Raises NotFound."""
    try:
        return hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
    except OSError as error:
        raise NotFound(f"{path}: no bundle there: {MANIFEST}: {error.strerror}") from None
