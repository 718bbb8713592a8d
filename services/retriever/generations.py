"""The generations a retriever holds: which spaces they speak, which one serves, and when a new one is ready."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.domain.bundle import MANIFEST, Bundle, BundleError, read_bundle
from services.retriever.rules import SearchRules
from services.retriever.writes import ProfileKey, SpaceKey
from services.runtime.errors import FailedPrecondition, NotFound, Overloaded
from services.runtime.telemetry import log
from souk.types.v1 import generations_pb2, types_pb2

# One to serve and one to change to: a second index beside the first is what the memory is planned for.
MAX_HELD = 2
_READY = generations_pb2.GENERATION_STATE_READY
_LOADING = generations_pb2.GENERATION_STATE_LOADING
_FAILED = generations_pb2.GENERATION_STATE_FAILED


@dataclass(frozen=True)
class Spoken:
    """What one generation needs of the catalogue: vectors of its spaces, content first, items told to coldstart, and
    how its searches are scored."""

    bundle: Path
    spaces: tuple[SpaceKey, ...]
    profile: ProfileKey | None = None
    missing: str = ""
    """What the bundle offers and this process cannot serve."""
    rules: SearchRules = field(default_factory=SearchRules)

    @property
    def versions(self) -> list[str]:
        """Of its spaces."""
        return [space.version for space in self.spaces]


class Generations:
    """At most two generations, of which one serves requests that name none. For one event loop.

    `speak(bundle)` says what a generation needs; `add(spoken, generation)` brings its spaces into the indexes and ends
    when nothing lacks a vector there; `remove(spoken, generation)` lets go of them; `serve(generation)` makes it the
    one that serves; `pending(space version)` counts what still lacks a vector.
    """

    def __init__(
        self,
        speak: Callable[[Bundle], Spoken],
        add: Callable[[Spoken, str], Awaitable[None]],
        remove: Callable[[Spoken, str], Awaitable[None]],
        serve: Callable[[str], None],
        pending: Callable[[str], int],
    ) -> None:
        self._speak = speak
        self._add = add
        self._remove = remove
        self._serve = serve
        self._pending = pending
        self._held: dict[str, Spoken] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, str] = {}
        self.serving = ""

    @property
    def held(self) -> dict[str, Spoken]:
        """What each generation held or being loaded needs."""
        return self._held

    @property
    def spaces(self) -> dict[str, tuple[SpaceKey, ...]]:
        """The spaces of each generation held or being loaded, content first."""
        return {generation: spoken.spaces for generation, spoken in self._held.items()}

    def begin(self, bundle: Bundle) -> Spoken:
        """The generation that serves from the start, whose spaces the indexes hold already."""
        self.serving = bundle.generation
        return self._hold(bundle, self._speak(bundle))

    async def prepare(self, path: Path, expected: str) -> generations_pb2.Generation:
        """Loads a bundle's generation, or waits for it where it is being loaded.

        A caller that gives up leaves the loading under way. Raises NotFound, FailedPrecondition, Overloaded.
        """
        generation = await asyncio.to_thread(_generation_of, path)
        if expected and generation != expected:
            raise FailedPrecondition(f"{path}: holds generation {generation}, not {expected}")
        if generation not in self._held:
            try:
                bundle = await asyncio.to_thread(read_bundle, path)
                spoken = await asyncio.to_thread(self._speak, bundle)
            except BundleError as error:
                self._failed = {generation: str(error)}
                raise FailedPrecondition(str(error)) from None
            if generation not in self._held:  # Else another caller was quicker.
                self._load(bundle, spoken)
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
        if generation not in self._held or generation in self._loading:
            raise FailedPrecondition(f"generation {generation} is not loaded and ready: Prepare it first")
        self._serve(generation)
        self.serving = generation
        return self._describe(generation)

    async def retire(self, generation: str) -> None:
        """Lets a generation go. Raises FailedPrecondition for the one that serves."""
        if generation == self.serving:
            raise FailedPrecondition(f"generation {generation} serves: Prepare another and Switch first")
        self._failed.pop(generation, None)
        if generation not in self._held:
            return
        if task := self._loading.get(generation):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._remove(self._held.pop(generation), generation)

    def list(self) -> list[generations_pb2.Generation]:
        """Every generation held, being loaded, or last failed."""
        failed = [
            generations_pb2.Generation(generation=generation, state=_FAILED, message=message)
            for generation, message in self._failed.items()
        ]
        return [self._describe(generation) for generation in self._held] + failed

    async def stop(self) -> None:
        """Ends what is being loaded."""
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)

    def _load(self, bundle: Bundle, spoken: Spoken) -> None:
        generation = bundle.generation
        if len(self._held) >= MAX_HELD:
            raise Overloaded(f"{MAX_HELD} generations are held, the most there may be: Retire one")
        self._failed.pop(generation, None)
        task = asyncio.ensure_future(self._add(self._hold(bundle, spoken), generation))
        self._loading[generation] = task

        def loaded(task: "asyncio.Future[None]") -> None:
            self._loading.pop(generation, None)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._failed = {generation: str(error)}
                self._held.pop(generation, None)

        task.add_done_callback(loaded)

    def _hold(self, bundle: Bundle, spoken: Spoken) -> Spoken:
        self._held[bundle.generation] = spoken
        if spoken.missing:
            log.warning(spoken.missing, generation=bundle.generation)
        return spoken

    def _describe(self, generation: str) -> generations_pb2.Generation:
        # A load that has ended is in the table until the loop comes to its callback.
        task = self._loading.get(generation)
        loading, spoken = task is not None and not task.done(), self._held[generation]
        messages = ["vectors of its spaces are being made" if loading else "", spoken.missing]
        return generations_pb2.Generation(
            generation=generation,
            state=_LOADING if loading else _READY,
            serving=generation == self.serving,
            message="; ".join(filter(None, messages)),
            pending_items=max(self._pending(version) for version in spoken.versions),
            bundle=str(spoken.bundle),
        )


def spoken_by(bundle: Bundle, coldstart: bool, follower: bool) -> Spoken:
    """What a bundle's generation needs, where there is a coldstart to tell or a primary to follow, or neither. Raises
    BundleError where its synonyms cannot be read."""
    encoder, ranker, rules = bundle.manifest.encoder, bundle.manifest.ranker, SearchRules.of(bundle)
    content = SpaceKey(types_pb2.SPACE_CONTENT, encoder.space_version, encoder.dim, encoder.template)
    behaviour = None
    if ranker is not None:
        # Known by id or guessed from content: as long as the text is the same, so is the vector.
        behaviour = SpaceKey(types_pb2.SPACE_BEHAVIOUR, ranker.space_version, ranker.dim, encoder.template)
    if not (coldstart or follower):
        missing = "no behaviour vectors: SOUK_RETRIEVER_COLDSTART is not set" if behaviour else ""
        return Spoken(bundle.path, (content,), missing=missing, rules=rules)
    spaces = (content,) if behaviour is None else (content, behaviour)
    return Spoken(bundle.path, spaces, None if follower else _profile_of(bundle, content, behaviour), rules=rules)


def _profile_of(bundle: Bundle, content: SpaceKey, behaviour: SpaceKey | None) -> ProfileKey:
    """Generations that agree in all their spaces need no item to be told twice."""
    topics = bundle.manifest.coldstart
    versions = [content.version, behaviour.version if behaviour else "", topics.space_version if topics else ""]
    return ProfileKey(f"told:{hashlib.sha256(' '.join(versions).encode()).hexdigest()}", content, behaviour)


def _generation_of(path: Path) -> str:
    """The hash of the manifest, without reading the rest. Raises NotFound."""
    try:
        return hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
    except OSError as error:
        raise NotFound(f"{path}: no bundle there ({error.strerror}); copy it to this machine first") from None
