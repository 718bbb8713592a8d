"""The ranker's RPCs: checks what comes in, lets in what fits, runs it through a generation."""

import asyncio
import math
import time
from typing import Any

import grpc.aio

from services.domain.bundle import Bundle
from services.ranker.model import Model
from services.ranker.ranking import Ranking
from services.ranker.requests import MAX_HISTORY, check_context, check_rank
from services.ranker.reranker import Reranker
from services.ranker.search_only import SearchOnly
from services.ranker.settings import RankerSettings
from services.ranker.vectors import ItemVectors
from services.runtime import threads
from services.runtime.admission import Admission
from services.runtime.channels import connect, time_left
from services.runtime.errors import FailedPrecondition, NotFound
from services.runtime.generations import Generations, GenerationsServicer
from services.runtime.telemetry import StageClock
from souk.ranker.v1 import ranker_pb2, ranker_pb2_grpc
from souk.retriever.v1 import retriever_pb2_grpc
from souk.types.v1 import generations_pb2_grpc, types_pb2

_Context = grpc.aio.ServicerContext[Any, Any]

# A shopper's vector costs about as much as so many candidates.
_ENCODE_WORK = 50
# And so does a pair that the reranker reads.
_PAIR_WORK = 50
# Of the time left, for reading: the order must be made and sent, too.
_RERANK_SHARE = 0.5


class RankerServicer(ranker_pb2_grpc.RankerServicer):
    """souk.ranker.v1.Ranker."""

    def __init__(self, generations: Generations[Ranking | SearchOnly], settings: RankerSettings) -> None:
        self._generations = generations
        self._settings = settings
        self._admission = Admission("rank", settings.max_running, settings.max_waiting)

    async def Rank(self, request: ranker_pb2.RankRequest, context: _Context) -> ranker_pb2.RankResponse:
        """An order."""
        clock = StageClock()
        check_rank(request, self._settings.max_candidates)
        with self._generations.use(request.generation) as ranking:
            pairs = min(request.rerank, len(request.candidates.id))
            async with self._admission.admit(len(request.candidates.id) + _PAIR_WORK * pairs):
                seconds = self._settings.rerank_seconds
                seconds = min(seconds, _RERANK_SHARE * time_left(context, 2 * seconds))
                return await ranking.rank(request, clock, time.monotonic() + seconds)

    async def EncodeShopper(
        self, request: ranker_pb2.EncodeShopperRequest, context: _Context
    ) -> ranker_pb2.EncodeShopperResponse:
        """The shopper's vector. INVALID_ARGUMENT, naming context.history, where no item of it has a vector."""
        check_context(request.context)
        with self._generations.use(request.generation) as ranking:
            async with self._admission.admit(_ENCODE_WORK):
                return await ranking.encode(request)

    async def GetInfo(self, request: ranker_pb2.GetInfoRequest, context: _Context) -> ranker_pb2.GetInfoResponse:
        """What is served."""
        with self._generations.use("") as ranking:
            return ranker_pb2.GetInfoResponse(
                generation=ranking.generation,
                space=ranking.space,
                max_candidates=self._settings.max_candidates,
                max_history=min(ranking.max_history, MAX_HISTORY),
                provider=ranking.provider,
            )


class RankerService:
    """The ranker as a process runs it; see services.runtime.server.Service."""

    name = "ranker"

    def __init__(self, settings: RankerSettings) -> None:
        self._settings = settings
        self._workers = threads.pool("rank", settings.threads)
        self._generations = Generations(self._load)
        self._spaces: dict[str, tuple[ItemVectors, int]] = {}

    def register(self, server: grpc.aio.Server) -> list[str]:
        """Adds both servicers."""
        self._channel = connect(self._settings.retriever)
        self._retriever = retriever_pb2_grpc.RetrieverStub(self._channel)
        self._ranker = RankerServicer(self._generations, self._settings)
        ranker_pb2_grpc.add_RankerServicer_to_server(self._ranker, server)
        generations_pb2_grpc.add_GenerationsServicer_to_server(GenerationsServicer(self._generations), server)
        return ["souk.ranker.v1.Ranker", "souk.types.v1.Generations"]

    async def start(self) -> None:
        """Loads the bundle of the settings."""
        try:
            await self._generations.prepare(self._settings.bundle)
        except NotFound as error:
            raise NotFound(f"{error}; SOUK_BUNDLE must name the directory of a bundle") from None

    async def warm_up(self) -> None:
        """Ranks along the path of a request; a retriever that is late costs the vectors, not the start."""
        candidates = types_pb2.CandidateColumns(
            id=["a", "b"],
            revision=[1, 1],
            title=["", ""],
            price=[1.0, float("nan")],
            currency=[0, 0],
            currencies=[""],
            brand=[0, 0],
            brands=[""],
            category=[0, 0],
            categories=[""],
            stock=[-1, -1],
            created_at=[0, 0],
            popularity=[0.0, 1.0],
            score=[1.0, 0.5],
        )
        request = ranker_pb2.RankRequest(
            scene=types_pb2.SCENE_SEARCH, query="warm up", candidates=candidates, explain=True, rerank=2
        )
        check_rank(request, self._settings.max_candidates)
        with self._generations.use("") as ranking:
            await ranking.rank(request, StageClock(), math.inf)

    async def check(self) -> None:
        """Raises when a network no longer answers."""
        self._generations.check()

    def drain(self) -> None:
        """No call of the ranker goes on for ever."""

    async def stop(self) -> None:
        """Lets go of models, vectors, threads and the channel."""
        await self._generations.close()
        self._workers.shutdown(wait=False, cancel_futures=True)
        await self._channel.close()

    async def _load(self, bundle: Bundle) -> Ranking | SearchOnly:
        manifest, named = bundle.manifest.ranker, bundle.manifest.reranker
        reranker = None
        if named is not None:
            reranker = await asyncio.to_thread(Reranker, bundle.path, named, self._settings.provider)
        if manifest is None:
            if reranker is not None:
                return SearchOnly(bundle.generation, reranker, self._workers)
            raise FailedPrecondition(
                f"{bundle.path}: holds no ranker; train one with `python -m training train ranker` and build the "
                f"bundle with it (`python -m training bundle`)"
            )
        model = await asyncio.to_thread(Model, bundle.path, manifest, self._settings.provider)
        vectors, users = self._spaces.get(manifest.space_version) or (
            ItemVectors(self._retriever, manifest.space_version, manifest.dim, self._settings),
            0,
        )

        async def release() -> None:
            vectors, users = self._spaces.pop(manifest.space_version)
            if users > 1:
                self._spaces[manifest.space_version] = vectors, users - 1
            else:
                await vectors.close()

        ranking = Ranking(bundle.generation, manifest, model, vectors, release, self._workers, self._settings, reranker)
        self._spaces[manifest.space_version] = vectors, users + 1
        return ranking
