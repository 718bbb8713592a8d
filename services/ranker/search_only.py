"""A generation whose bundle holds a reranker and no ranker: the order of a search, and nothing of shoppers."""

import asyncio
from concurrent.futures import Executor

import numpy as np

from services.ranker import diversity
from services.ranker.reranker import Reranker
from services.runtime.errors import FailedPrecondition
from services.runtime.telemetry import StageClock
from souk.ranker.v1 import ranker_pb2
from souk.types.v1 import types_pb2


class SearchOnly:
    """One generation; see services.runtime.generations.Model. For one event loop."""

    def __init__(self, generation: str, reranker: Reranker, workers: Executor) -> None:
        self.generation = generation
        self.provider = reranker.provider
        self.space = types_pb2.SpaceInfo()
        self.max_history = 0
        self._reranker = reranker
        self._workers = workers

    async def encode(self, request: ranker_pb2.EncodeShopperRequest) -> ranker_pb2.EncodeShopperResponse:
        """Raises FailedPrecondition."""
        raise FailedPrecondition("the bundle holds no ranker: nobody's vector; search by profile and popularity")

    async def rank(self, request: ranker_pb2.RankRequest, clock: StageClock, until: float) -> ranker_pb2.RankResponse:
        """The candidates of a search by retrieval and relevance. Raises FailedPrecondition for another scene."""
        if request.scene != types_pb2.SCENE_SEARCH:
            raise FailedPrecondition("the bundle holds no ranker: only SEARCH can be ordered")
        loop = asyncio.get_running_loop()
        response = await loop.run_in_executor(self._workers, by_relevance, self._reranker, request, clock, until)
        response.generation = self.generation
        return response

    def check(self) -> None:
        """Raises when the network no longer answers."""
        self._reranker.check()

    async def close(self) -> None:
        """Holds nothing that must be let go of."""


def by_relevance(
    reranker: Reranker | None, request: ranker_pb2.RankRequest, clock: StageClock, until: float
) -> ranker_pb2.RankResponse:
    """The candidates of a search for nobody in particular: by retrieval score and by what the reranker read, if there
    is one."""
    candidates = request.candidates
    response = ranker_pb2.RankResponse()
    scores = np.array(candidates.score, np.float64)
    if reranker is not None:
        with clock.stage("rerank"):
            read = reranker.read(request.query, candidates, request.rerank, until)
            scores = reranker.fuse(scores, read)
        response.reranked, response.reranked_fewer = read.count, read.fewer
    with clock.stage("list"):
        order = diversity.by_score(scores, np.array(candidates.popularity, np.float64), candidates.id)
        order = order[: request.top_k or len(order)]
    response.order.extend(order.tolist())
    response.score.extend(scores[order].tolist())
    response.timings.extend(clock.timings())
    return response
