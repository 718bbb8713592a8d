"""The embedder's RPCs: checks what comes in, runs it through a model, packs what goes out."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import grpc.aio
import numpy as np

from services.domain.checks import Invalid, check_count, check_item, check_range, check_text
from services.domain.text import TextTemplate, item_text
from services.embedder.models import Embedded, Engine, Model, generations
from services.embedder.settings import EmbedderSettings
from services.runtime.errors import NotFound, Unavailable, status_of
from services.runtime.generations import Generations, GenerationsServicer, check_generation
from services.runtime.telemetry import StageClock
from souk.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from souk.types.v1 import generations_pb2, generations_pb2_grpc, types_pb2
from souk.vectors import Float32, pack_matrix, pack_vector

_Context = grpc.aio.ServicerContext[Any, Any]

_MAX_TEXT_BYTES = 32_768
_ROLES = frozenset(embedder_pb2.Role.values())
# Requests beyond this are checked and turned into text in a thread.
_LARGE_BYTES = 16_384
# Inputs of a stream under way at once; beyond them the next is not read.
_STREAM_INPUTS = 64


@dataclass(frozen=True)
class _Options:
    role: embedder_pb2.Role.ValueType
    truncate: bool
    normalize: bool
    dimensions: int


class EmbedderServicer(embedder_pb2_grpc.EmbedderServicer):
    """souk.embedder.v1.Embedder."""

    def __init__(self, models: Generations[Model], settings: EmbedderSettings) -> None:
        self._models = models
        self._settings = settings
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Ends the streams once what they have read is answered."""
        self._draining.set()

    async def Embed(self, request: embedder_pb2.EmbedRequest, context: _Context) -> embedder_pb2.EmbedResponse:
        """A batch, all or nothing."""
        clock = StageClock()
        check_count(request.inputs, "inputs", 1, self._settings.max_batch)
        with self._model(request.options) as model:
            embedded, options = await _embed(model, request.inputs, request.options, clock, _deadline(context))
            return embedder_pb2.EmbedResponse(
                vectors=pack_matrix(_shape(embedded.vectors, options)),
                readings=_readings(embedded),
                space_version=model.manifest.space_version,
                generation=model.generation,
                timings=clock.timings(),
            )

    async def EmbedStream(
        self, request_iterator: AsyncIterator[embedder_pb2.EmbedStreamRequest], context: _Context
    ) -> AsyncIterator[embedder_pb2.EmbedStreamResponse]:
        """One answer an input, as they come. A caller that does not read its answers is not read either."""
        answers: asyncio.Queue[embedder_pb2.EmbedStreamResponse | None] = asyncio.Queue()
        room = asyncio.Semaphore(_STREAM_INPUTS)
        reading = asyncio.create_task(self._read_stream(request_iterator, context, answers, room))
        try:
            while (answer := await answers.get()) is not None:
                yield answer
                room.release()
            await reading
        finally:
            reading.cancel()
        if self._draining.is_set():
            raise Unavailable("the process is draining")

    async def GetInfo(self, request: embedder_pb2.GetInfoRequest, context: _Context) -> embedder_pb2.GetInfoResponse:
        """What is served."""
        with self._models.use("") as model:
            return embedder_pb2.GetInfoResponse(
                generation=model.generation,
                space=types_pb2.SpaceInfo(
                    space=types_pb2.SPACE_CONTENT, version=model.manifest.space_version, dim=model.manifest.dim
                ),
                max_tokens=model.manifest.max_tokens,
                max_batch=self._settings.max_batch,
                max_pending_tokens=self._settings.max_pending_tokens,
                provider=model.encoder.provider,
                scripts=model.manifest.scripts,
            )

    def _model(self, options: embedder_pb2.Options) -> AbstractContextManager[Model]:
        if options.generation:
            check_generation(options.generation, "options.generation")
        return self._models.use(options.generation)

    async def _read_stream(
        self,
        requests: AsyncIterator[embedder_pb2.EmbedStreamRequest],
        context: _Context,
        answers: "asyncio.Queue[embedder_pb2.EmbedStreamResponse | None]",
        room: asyncio.Semaphore,
    ) -> None:
        """Starts each input as there is room; then, or when the process drains, ends `answers` with None."""

        async def answer(request: embedder_pb2.EmbedStreamRequest) -> None:
            answers.put_nowait(await self._answer(request, context))

        draining = asyncio.create_task(self._draining.wait())
        following: asyncio.Future[embedder_pb2.EmbedStreamRequest | None] | None = None
        try:
            async with asyncio.TaskGroup() as group:
                while not self._draining.is_set():
                    await room.acquire()
                    following = asyncio.ensure_future(anext(requests, None))
                    await asyncio.wait((following, draining), return_when=asyncio.FIRST_COMPLETED)
                    if not following.done() or (request := following.result()) is None:
                        break
                    group.create_task(answer(request))
        finally:
            draining.cancel()
            if following is not None:
                following.cancel()
            answers.put_nowait(None)

    async def _answer(
        self, request: embedder_pb2.EmbedStreamRequest, context: _Context
    ) -> embedder_pb2.EmbedStreamResponse:
        """The vector of one input, or why there is none."""
        try:
            async with asyncio.timeout(self._settings.max_seconds):
                with self._model(request.options) as model:
                    embedded, options = await _embed(
                        model, [request.input], request.options, StageClock(), _deadline(context)
                    )
                    return embedder_pb2.EmbedStreamResponse(
                        index=request.index,
                        value=embedder_pb2.EmbedValue(
                            vector=pack_vector(_shape(embedded.vectors, options)[0]),
                            reading=_readings(embedded)[0],
                            space_version=model.manifest.space_version,
                        ),
                    )
        except Exception as error:
            code, message = status_of(error)
            failure = embedder_pb2.Failure(code=code.value[0], message=message)
            return embedder_pb2.EmbedStreamResponse(index=request.index, failure=failure)


class EmbedderService:
    """The embedder as a process runs it; see services.runtime.server.Service."""

    name = "embedder"

    def __init__(self, settings: EmbedderSettings) -> None:
        self._settings = settings
        self._engine = Engine.of(settings)
        self._models = generations(self._engine)
        self._embedder = EmbedderServicer(self._models, settings)

    def register(self, server: grpc.aio.Server) -> list[str]:
        """Adds both servicers."""
        embedder_pb2_grpc.add_EmbedderServicer_to_server(self._embedder, server)
        generations_pb2_grpc.add_GenerationsServicer_to_server(GenerationsServicer(self._models), server)
        return [
            embedder_pb2.DESCRIPTOR.services_by_name["Embedder"].full_name,
            generations_pb2.DESCRIPTOR.services_by_name["Generations"].full_name,
        ]

    async def start(self) -> None:
        """Loads the bundle of the settings, warmed up."""
        try:
            await self._models.prepare(self._settings.bundle)
        except NotFound as error:
            raise NotFound(f"{error}; SOUK_BUNDLE must name the directory of a bundle") from None

    async def warm_up(self) -> None:
        """Embeds along the path of a request; the model itself was warmed up when it was loaded."""
        with self._models.use("") as model:
            await model.embed(["a query", "another, a little longer"], StageClock())

    async def check(self) -> None:
        """Raises when a model can no longer answer."""
        self._models.check()

    def drain(self) -> None:
        """Ends the streams, which would else go on as long as their callers like."""
        self._embedder.drain()

    async def stop(self) -> None:
        """Lets go of models and threads."""
        await self._models.close()
        self._engine.close()


async def _embed(
    model: Model,
    inputs: Sequence[embedder_pb2.Input],
    raw: embedder_pb2.Options,
    clock: StageClock,
    deadline: float | None,
) -> tuple[Embedded, _Options]:
    options = _options(raw, model)
    if sum(each.ByteSize() for each in inputs) > _LARGE_BYTES:
        texts = await asyncio.to_thread(_texts, inputs, options, model.manifest.template)
    else:
        texts = _texts(inputs, options, model.manifest.template)
    # Queries repeat, items hardly do.
    cached = all(_role(each, options) == embedder_pb2.ROLE_QUERY for each in inputs)
    embedded = await model.embed(texts, clock, deadline=deadline, truncate=options.truncate, cached=cached)
    return embedded, options


def _options(options: embedder_pb2.Options, model: Model) -> _Options:
    if options.role not in _ROLES:
        raise Invalid("options.role", f"{options.role} is not a role")
    dim = model.manifest.dim
    if options.HasField("dimensions"):
        check_range(options.dimensions, "options.dimensions", 1, dim)
    return _Options(
        role=options.role,
        truncate=options.truncate if options.HasField("truncate") else True,
        normalize=options.normalize if options.HasField("normalize") else True,
        dimensions=options.dimensions if options.HasField("dimensions") else dim,
    )


def _role(each: embedder_pb2.Input, options: _Options) -> embedder_pb2.Role.ValueType:
    if options.role != embedder_pb2.ROLE_UNSPECIFIED:
        return options.role
    return embedder_pb2.ROLE_ITEM if each.HasField("item") else embedder_pb2.ROLE_QUERY


def _texts(inputs: Sequence[embedder_pb2.Input], options: _Options, template: TextTemplate) -> list[str]:
    """What the encoder reads. Raises Invalid naming the input."""
    prefixes = {
        embedder_pb2.ROLE_QUERY: template.query_prefix,
        embedder_pb2.ROLE_ITEM: template.item_prefix,
        embedder_pb2.ROLE_PROFILE: template.profile_prefix,
    }
    texts = []
    for i, each in enumerate(inputs):
        match each.WhichOneof("input"):
            case "text":
                check_text(each.text, f"inputs[{i}].text", _MAX_TEXT_BYTES)
                text = each.text
            case "item":
                check_item(each.item, f"inputs[{i}].item")
                text = item_text(each.item, template)
            case _:
                raise Invalid(f"inputs[{i}]", "holds neither text nor item")
        texts.append(prefixes[_role(each, options)] + text)
    return texts


def _shape(vectors: Float32, options: _Options) -> Float32:
    """Cut to the dimensions asked for, then scaled."""
    vectors = vectors[:, : options.dimensions]
    if not options.normalize:
        return vectors
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    scaled: Float32 = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


def _readings(embedded: Embedded) -> list[embedder_pb2.Reading]:
    return [
        embedder_pb2.Reading(tokens=tokens, truncated=truncated, covered=covered)
        for tokens, truncated, covered in zip(embedded.tokens, embedded.truncated, embedded.covered, strict=True)
    ]


def _deadline(context: _Context) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining
