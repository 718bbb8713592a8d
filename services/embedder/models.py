"""The models a process holds: one a generation, each with the whole path from text to vector."""

import asyncio
import hashlib
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from services.domain.bundle import MANIFEST, Bundle, BundleError, read_bundle
from services.domain.checks import Invalid
from services.embedder.batcher import Batcher, Budget, Done, Limits
from services.embedder.encoder import Encoder, Text
from services.embedder.settings import EmbedderSettings
from services.runtime import telemetry, threads
from services.runtime.cache import Key, VectorCache
from services.runtime.errors import FailedPrecondition, NotFound, Overloaded
from services.runtime.onnx import SessionLost
from souk.types.v1 import generations_pb2
from souk.vectors import Float32

P = TypeVar("P")
R = TypeVar("R")

# Tokens, roughly, that the tokenizer takes at once: a large request does not hold up the short ones for longer.
_TOKENISE_AT_ONCE = 16_384
# Longest batch x units over the tokens really in it.
_MAX_WASTE = 1.25
# A model to serve and one to change to.
_MAX_HELD = 2


@dataclass(frozen=True)
class Engine:
    """What all models of a process share: threads and the room for work."""

    settings: EmbedderSettings
    budget: Budget
    tokeniser: ThreadPoolExecutor
    workers: ThreadPoolExecutor

    @classmethod
    def of(cls, settings: EmbedderSettings) -> "Engine":
        """As the settings say."""
        # Before the tokenizer's first call, which else takes every processor of the machine.
        return cls(
            settings,
            Budget(settings.max_pending_tokens),
            threads.pool("tokenise", 1),
            threads.pool("encode", settings.threads),
        )

    def close(self) -> None:
        """Ends the threads after what they do now."""
        self.tokeniser.shutdown(wait=False, cancel_futures=True)
        self.workers.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Embedded:
    """n texts embedded."""

    vectors: Float32
    """Mean-pooled, not scaled: (n, dim)."""
    tokens: list[int]
    truncated: list[bool]
    covered: list[bool]

    @classmethod
    def of(cls, rows: Float32) -> "Embedded":
        """From rows as the cache keeps them: the vector, tokens, truncated, covered."""
        tokens, truncated, covered = rows[:, -3:].T.tolist()
        return cls(rows[:, :-3], list(map(int, tokens)), list(map(bool, truncated)), list(map(bool, covered)))


class Model:
    """One generation: its encoder, its batcher, its cache of query vectors."""

    def __init__(self, bundle: Bundle, encoder: Encoder, engine: Engine) -> None:
        self.generation = bundle.generation
        self.manifest = bundle.manifest.encoder
        self.encoder = encoder
        self._engine = engine
        settings = engine.settings
        self._tokenise: Batcher[str, Text] = Batcher(
            stage="tokenise",
            compute=encoder.tokenise,
            executor=engine.tokeniser,
            workers=1,
            limits=Limits(_TOKENISE_AT_ONCE, math.inf),
            fatal=SessionLost,
        )
        self._infer: Batcher[Text, Float32] = Batcher(
            stage="inference",
            compute=self._encode,
            executor=engine.workers,
            workers=settings.threads,
            limits=Limits(settings.batch_tokens, _MAX_WASTE),
            fatal=SessionLost,
        )
        self._cache: VectorCache | None = None
        if settings.cache_rows:
            self._cache = VectorCache(
                "queries",
                encoder.dim + 3,
                settings.cache_rows,
                settings.redis_url,
                load_timeout=settings.max_seconds,
            )
        self._uses = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextmanager
    def in_use(self) -> Iterator["Model"]:
        """Keeps unused() waiting while the block runs."""
        self._uses += 1
        self._unused.clear()
        try:
            yield self
        finally:
            self._uses -= 1
            if not self._uses:
                self._unused.set()

    async def embed(
        self,
        texts: Sequence[str],
        clock: telemetry.StageClock,
        *,
        deadline: float | None = None,
        truncate: bool = True,
        cached: bool = False,
    ) -> Embedded:
        """Embeds texts, prefix included. `deadline` is in seconds of time.monotonic(); `cached` looks in the cache.

        Raises Invalid for a text beyond the model's limit unless `truncate`, and for more tokens than may ever wait;
        Overloaded, DeadlineExceeded, Unavailable.
        """
        if self._cache is None or not cached:
            return Embedded.of(await self._compute(texts, clock, deadline, truncate))
        keys = [self._key(text) for text in texts]
        text_of = dict(zip(keys, texts, strict=True))

        async def load(missing: list[Key]) -> dict[Key, Float32]:
            # Without deadline and option: others may share this load. It is cancelled when no one waits any more.
            rows = await self._compute([text_of[key] for key in missing], clock, None, True)
            return dict(zip(missing, rows, strict=True))

        embedded = Embedded.of((await self._cache.get_many(keys, load)).vectors)
        if not truncate:
            self._refuse_truncated(embedded.truncated)
        return embedded

    def check(self) -> None:
        """Raises when the model can no longer answer."""
        self._tokenise.check()
        self._infer.check()

    async def close(self, seconds: float) -> None:
        """Ends what is under way, within the seconds, and lets go of the cache."""
        await self._tokenise.stop(seconds)
        await self._infer.stop(seconds)
        if self._cache is not None:
            await self._cache.close()

    async def unused(self) -> None:
        """Waits until no request is under way."""
        await self._unused.wait()

    def _refuse_truncated(self, truncated: Sequence[bool]) -> None:
        for i, cut in enumerate(truncated):
            if cut:
                raise Invalid(f"inputs[{i}]", f"more than the {self.encoder.max_tokens} tokens that the model reads")

    def _key(self, text: str) -> Key:
        return bytes.fromhex(self.manifest.space_version)[:16] + hashlib.sha256(text.encode()).digest()

    async def _compute(
        self, texts: Sequence[str], clock: telemetry.StageClock, deadline: float | None, truncate: bool
    ) -> Float32:
        """A row a text: its vector (zeros where the model cannot read it), tokens, truncated, covered."""
        # A token has about four characters; what a text really takes is known and charged after the tokenizer.
        sizes = [2 + len(text) // 4 for text in texts]
        most, budget = self.encoder.max_tokens, self._engine.budget
        with budget.charge(min(budget.limit, sum(min(size, most) for size in sizes))) as charge:
            began = time.perf_counter()
            read = [unit.value for unit in await _all(self._tokenise, texts, sizes, deadline)]
            if not truncate:
                self._refuse_truncated([text.truncated for text in read])
            readable = [text for text in read if text.covered]
            sizes = [len(text.ids) for text in readable]
            charge.resize(sum(sizes))
            queued = time.perf_counter()
            clock.add("tokenise", began, queued)
            done = await _all(self._infer, readable, sizes, deadline)
        if done:
            started = min(unit.started for unit in done)
            clock.add("queue", queued, started)
            clock.add("inference", started, max(unit.ended for unit in done))
        vectors = iter(done)
        rows = np.zeros((len(read), self.encoder.dim + 3), np.float32)
        for row, text in zip(rows, read, strict=True):
            if text.covered:
                row[:-3] = next(vectors).value
            row[-3:] = len(text.ids), text.truncated, text.covered
        return rows

    def _encode(self, texts: Sequence[Text]) -> list[Float32]:
        lengths = [len(text.ids) for text in texts]
        telemetry.EMBED_TOKENS.inc(sum(lengths))
        telemetry.EMBED_PADDING.inc(max(lengths) * len(lengths) - sum(lengths))
        return list(self.encoder.encode(texts))


async def _all(
    batcher: Batcher[P, R], payloads: Sequence[P], sizes: Sequence[int], deadline: float | None
) -> list[Done[R]]:
    """One request's payloads through a batcher; where one fails or the caller gives up, the others are taken back."""
    ahead = itertools.accumulate(sizes, initial=0)
    futures = [
        batcher.submit(payload, size, deadline, before)
        for payload, size, before in zip(payloads, sizes, ahead, strict=False)
    ]
    try:
        return await asyncio.gather(*futures)
    finally:
        for future in futures:
            future.cancel()


class Models:
    """The generations a process holds: at most two, of which one serves requests that name none."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ready: dict[str, Model] = {}
        self._loading: dict[str, asyncio.Task[Model]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._failed: tuple[str, str] | None = None
        self._serving = ""

    def get(self, generation: str) -> Model:
        """The model of a generation, or the one that serves. Raises FailedPrecondition where it is not loaded."""
        model = self._ready.get(generation or self._serving)
        if model is None:
            raise FailedPrecondition(f"generation {generation} is not loaded; {self._serving} serves")
        return model

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
                if len(self._ready) + len(self._loading) >= _MAX_HELD:
                    raise Overloaded(f"{_MAX_HELD} generations are held, the most there may be: retire one")
                task = asyncio.create_task(self._load(path))
                self._loading[generation] = task
                task.add_done_callback(lambda task: self._loaded(generation, task))
            await asyncio.shield(task)
        return self._ready_one(generation)

    def switch(self, generation: str) -> generations_pb2.Generation:
        """Makes a generation the one that serves. Raises FailedPrecondition where it is not loaded."""
        self.get(generation)
        self._serving = generation
        return self._ready_one(generation)

    async def retire(self, generation: str) -> None:
        """Lets a generation go once its requests have ended. Raises FailedPrecondition for the one that serves."""
        if generation == self._serving:
            raise FailedPrecondition(f"generation {generation} serves: switch to another first")
        if model := self._ready.pop(generation, None):
            # Goes on when the caller gives up: the model has left the list and must be let go of.
            task = asyncio.create_task(self._let_go(model))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
            await asyncio.shield(task)

    def list(self) -> list[generations_pb2.Generation]:
        """Every generation held, being loaded, or last failed."""
        held = [self._ready_one(generation) for generation in self._ready]
        held += [
            generations_pb2.Generation(generation=generation, state=generations_pb2.GENERATION_STATE_LOADING)
            for generation in self._loading
        ]
        if self._failed is not None:
            generation, message = self._failed
            held.append(
                generations_pb2.Generation(
                    generation=generation, state=generations_pb2.GENERATION_STATE_FAILED, message=message
                )
            )
        return held

    def check(self) -> None:
        """Raises when a model can no longer answer."""
        for model in self._ready.values():
            model.check()

    async def close(self) -> None:
        """Lets go of all of them."""
        for task in (*self._loading.values(), *self._leaving):
            task.cancel()
        for model in self._ready.values():
            await model.close(self._engine.settings.drain_seconds)

    async def _let_go(self, model: Model) -> None:
        await model.unused()
        await model.close(self._engine.settings.drain_seconds)

    def _ready_one(self, generation: str) -> generations_pb2.Generation:
        return generations_pb2.Generation(
            generation=generation,
            state=generations_pb2.GENERATION_STATE_READY,
            serving=generation == self._serving,
        )

    async def _load(self, path: Path) -> Model:
        provider = self._engine.settings.provider

        def read() -> tuple[Bundle, Encoder]:
            bundle = read_bundle(path)
            encoder = Encoder(path, bundle.manifest.encoder, provider)
            encoder.warm_up()
            return bundle, encoder

        try:
            bundle, encoder = await asyncio.to_thread(read)
        except BundleError as error:
            raise FailedPrecondition(str(error)) from None
        except Exception as error:  # What a damaged model makes the libraries raise is theirs to choose.
            raise FailedPrecondition(f"{path}: cannot be loaded: {error}") from error
        return Model(bundle, encoder, self._engine)

    def _loaded(self, generation: str, task: "asyncio.Task[Model]") -> None:
        del self._loading[generation]
        if task.cancelled():
            return
        if error := task.exception():
            self._failed = generation, str(error)
        else:
            self._ready[generation] = task.result()
            self._serving = self._serving or generation
            self._failed = None


def _generation_of(path: Path) -> str:
    """The generation of a bundle, its files not yet verified. Raises NotFound."""
    try:
        return hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
    except OSError as error:
        raise NotFound(f"{path}: no bundle there: {MANIFEST}: {error.strerror}") from None
