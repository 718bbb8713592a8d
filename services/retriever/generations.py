"""The generations a retriever holds: which spaces they speak, which one serves, and when a new one is ready."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.domain.bundle import MANIFEST, Bundle, BundleError, read_bundle
from services.retriever.writes import SpaceKey
from services.runtime.errors import FailedPrecondition, NotFound, Overloaded
from souk.types.v1 import generations_pb2, types_pb2

# One to serve and one to change to: a second index beside the first is what the memory is planned for.
MAX_HELD = 2
_READY = generations_pb2.GENERATION_STATE_READY
_LOADING = generations_pb2.GENERATION_STATE_LOADING
_FAILED = generations_pb2.GENERATION_STATE_FAILED


class Generations:
    """At most two generations, of which one serves requests that name none. For one event loop.

    `add(space, generation)` brings the space into the indexes and ends when nothing lacks a vector there;
    `remove(space, generation)` lets go of it; `serve(generation)` makes it the one that serves;
    `pending(space version)` counts what still lacks a vector.
    """

    def __init__(
        self,
        add: Callable[[SpaceKey, str], Awaitable[None]],
        remove: Callable[[SpaceKey, str], Awaitable[None]],
        serve: Callable[[str], None],
        pending: Callable[[str], int],
    ) -> None:
        self._add = add
        self._remove = remove
        self._serve = serve
        self._pending = pending
        self._spaces: dict[str, SpaceKey] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, str] = {}
        self.serving = ""

    @property
    def spaces(self) -> dict[str, SpaceKey]:
        """The content space of each generation held or being loaded."""
        return self._spaces

    def begin(self, bundle: Bundle) -> None:
        """The generation that serves from the start, whose space the indexes hold already."""
        self._spaces[bundle.generation] = space_of(bundle)
        self.serving = bundle.generation

    async def prepare(self, path: Path, expected: str) -> generations_pb2.Generation:
        """Loads a bundle's generation, or waits for it where it is being loaded.

        A caller that gives up leaves the loading under way. Raises NotFound, FailedPrecondition, Overloaded.
        """
        generation = await asyncio.to_thread(_generation_of, path)
        if expected and generation != expected:
            raise FailedPrecondition(f"{path}: holds generation {generation}, not {expected}")
        if generation not in self._spaces:
            try:
                bundle = await asyncio.to_thread(read_bundle, path)
            except BundleError as error:
                self._failed = {generation: str(error)}
                raise FailedPrecondition(str(error)) from None
            if generation not in self._spaces:  # Else another caller was quicker.
                self._load(bundle)
        if task := self._loading.get(generation):
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.cancelled():
                    raise FailedPrecondition(f"generation {generation} was retired while it was loading") from None
                raise
        return self._describe(generation)

    def switch(self, generation: str) -> generations_pb2.Generation:
        """Makes a ready generation the one that serves. Raises FailedPrecondition where it is not ready."""
        if generation not in self._spaces or generation in self._loading:
            raise FailedPrecondition(f"generation {generation} is not loaded and ready: Prepare it first")
        self._serve(generation)
        self.serving = generation
        return self._describe(generation)

    async def retire(self, generation: str) -> None:
        """Lets a generation go. Raises FailedPrecondition for the one that serves."""
        if generation == self.serving:
            raise FailedPrecondition(f"generation {generation} serves: Prepare another and Switch first")
        self._failed.pop(generation, None)
        if generation not in self._spaces:
            return
        if task := self._loading.get(generation):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._remove(self._spaces.pop(generation), generation)

    def list(self) -> list[generations_pb2.Generation]:
        """Every generation held, being loaded, or last failed."""
        failed = [
            generations_pb2.Generation(generation=generation, state=_FAILED, message=message)
            for generation, message in self._failed.items()
        ]
        return [self._describe(generation) for generation in self._spaces] + failed

    async def stop(self) -> None:
        """Ends what is being loaded."""
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)

    def _load(self, bundle: Bundle) -> None:
        generation = bundle.generation
        if len(self._spaces) >= MAX_HELD:
            raise Overloaded(f"{MAX_HELD} generations are held, the most there may be: Retire one")
        self._failed.pop(generation, None)
        self._spaces[generation] = space_of(bundle)
        task = asyncio.ensure_future(self._add(self._spaces[generation], generation))
        self._loading[generation] = task

        def loaded(task: "asyncio.Future[None]") -> None:
            self._loading.pop(generation, None)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._failed = {generation: str(error)}
                self._spaces.pop(generation, None)

        task.add_done_callback(loaded)

    def _describe(self, generation: str) -> generations_pb2.Generation:
        loading = generation in self._loading
        return generations_pb2.Generation(
            generation=generation,
            state=_LOADING if loading else _READY,
            serving=generation == self.serving,
            message="items are being embedded for its space" if loading else "",
            pending_items=self._pending(self._spaces[generation].version),
        )


def space_of(bundle: Bundle) -> SpaceKey:
    """The content space that a bundle's encoder speaks."""
    encoder = bundle.manifest.encoder
    return SpaceKey(types_pb2.SPACE_CONTENT, encoder.space_version, encoder.dim, encoder.template)


def _generation_of(path: Path) -> str:
    """The hash of the manifest, without reading the rest. Raises NotFound."""
    try:
        return hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
    except OSError as error:
        raise NotFound(f"{path}: no bundle there ({error.strerror}); copy it to this machine first") from None
