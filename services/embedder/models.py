"""The models a process holds: one a generation, each with the whole path from text to vector."""

import asyncio
import hashlib
import itertools
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from services.domain.bundle import Bundle
from services.domain.checks import Invalid
from services.embedder.batcher import Batcher, Budget, Done, Limits
from services.embedder.encoder import Encoder, Text, opened
from services.embedder.settings import EmbedderSettings
from services.runtime import telemetry, threads
from services.runtime.cache import Key, VectorCache
from services.runtime.generations import Generations
from services.runtime.onnx import SessionLost
from souk.vectors import Float32

P = TypeVar("P")
R = TypeVar("R")

# Characters of a request, all texts together, that are tokenised on the event loop: at most a tenth of a millisecond,
# where the way to a thread and back takes two.
_TOKENISE_HERE = 256
# Tokens, roughly, that the tokenizer takes at once: a large request does not hold up the short ones for longer.
_TOKENISE_AT_ONCE = 16_384
# Longest batch x units over the tokens really in it.
_MAX_WASTE = 1.25


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

    async def close(self) -> None:
        """Ends what is under way, within the seconds of a drain, and lets go of the cache."""
        seconds = self._engine.settings.drain_seconds
        await self._tokenise.stop(seconds)
        await self._infer.stop(seconds)
        if self._cache is not None:
            await self._cache.close()

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
            if sum(map(len, texts)) <= _TOKENISE_HERE:
                read = self.encoder.tokenise(texts)
            else:
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


def generations(engine: Engine) -> Generations[Model]:
    """The generations of a process whose models share an engine."""

    async def load(bundle: Bundle) -> Model:
        settings = engine.settings
        encoder, otherwise = await asyncio.to_thread(
            opened, bundle.path, bundle.manifest.encoder, settings.provider, settings.threads
        )
        telemetry.log.info(
            "encoder", generation=bundle.generation, provider=encoder.provider, otherwise=otherwise or None
        )
        return Model(bundle, encoder, engine)

    return Generations(load)
