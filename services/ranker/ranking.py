"""The path of a request through one generation: vectors -> inference -> list."""

import asyncio
import hashlib
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.domain.bundle import RankerManifest
from services.domain.checks import Invalid
from services.domain.features import features
from services.ranker import closeness, diversity
from services.ranker.exposure import Exposure
from services.ranker.factors import factors
from services.ranker.handover import handover
from services.ranker.model import History, Model
from services.ranker.objectives import Objectives
from services.ranker.reasons import Ranked, explain
from services.ranker.reranker import Reranker
from services.ranker.search_only import by_relevance
from services.ranker.settings import RankerSettings
from services.ranker.vectors import ANY, Found, ItemVectors
from services.runtime.cache import Slab
from services.runtime.errors import Unavailable
from services.runtime.telemetry import StageClock
from souk.ranker.v1 import ranker_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_vector

R = TypeVar("R")


class Ranking:
    """One generation of the ranker; see services.runtime.generations.Model. For one event loop."""

    def __init__(
        self,
        generation: str,
        manifest: RankerManifest,
        model: Model,
        vectors: ItemVectors,
        release: Callable[[], Awaitable[None]],
        workers: Executor,
        settings: RankerSettings,
        reranker: Reranker | None = None,
    ) -> None:
        """`release` lets go of the vectors, which several generations may share. Raises ValueError as Objectives."""
        self.generation = generation
        self.manifest = manifest
        self.model = model
        self._objectives = Objectives(manifest.objectives, manifest.scene_weights)
        self._vectors = vectors
        self._release = release
        self._workers = workers
        # By what the network reads: an entry can never be stale.
        self._shoppers = Slab(settings.shopper_rows, manifest.dim)
        self._settings = settings
        self._reranker = reranker

    @property
    def provider(self) -> str:
        """Where the networks run."""
        return self.model.provider

    @property
    def space(self) -> types_pb2.SpaceInfo:
        """The behaviour space."""
        return types_pb2.SpaceInfo(
            space=types_pb2.SPACE_BEHAVIOUR, version=self.manifest.space_version, dim=self.manifest.dim
        )

    @property
    def max_history(self) -> int:
        """Events of a history that count."""
        return self.manifest.max_history

    async def encode(self, request: ranker_pb2.EncodeShopperRequest) -> ranker_pb2.EncodeShopperResponse:
        """The shopper's vector. Raises Invalid where nothing of the history can be read, Unavailable where that is
        for want of the retriever."""
        entries = list(request.context.history)
        if not entries:
            raise Invalid("context.history", "is empty: nobody's vector; search by popularity instead")
        found = await self._vectors.get([entry.item_id for entry in entries], [ANY] * len(entries))
        history = self.model.history(entries, found.vectors, found.present, time.time())
        if not len(history):
            if found.unreachable:
                raise Unavailable("the vectors of the history cannot be had: the retriever does not answer")
            raise Invalid("context.history", "none of its items has a behaviour vector; search by popularity instead")
        key, vector = self._remembered(history)
        if vector is None:
            vector = await self._compute(lambda: self.model.shopper(history))
            self._shoppers.put([key], vector[None])
        return ranker_pb2.EncodeShopperResponse(
            vector=pack_vector(vector), space_version=self.manifest.space_version, generation=self.generation
        )

    async def rank(
        self, request: ranker_pb2.RankRequest, clock: StageClock, until: float = math.inf
    ) -> ranker_pb2.RankResponse:
        """The best of the candidates, in order. The request has passed its checks; the reranker begins to read nothing
        more from time.monotonic() `until` on."""
        if request.rerank and request.scene == types_pb2.SCENE_SEARCH and not request.HasField("context"):
            # Of nobody the heads know no more than the retrieval does.
            response = await self._compute(lambda: by_relevance(self._reranker, request, clock, until))
            response.generation = self.generation
            return response
        entries, candidates = list(request.context.history), request.candidates
        now = time.time()
        with clock.stage("vectors"):
            found = await self._vectors.get(
                [entry.item_id for entry in entries] + list(candidates.id),
                [ANY] * len(entries) + list(candidates.revision),
            )
        n = len(entries)
        history = self.model.history(entries, found.vectors[:n], found.present[:n], now)
        key, remembered = self._remembered(history)
        response, shopper = await self._compute(
            lambda: self._rank(request, found, history, remembered, now, clock, until)
        )
        if remembered is None and shopper is not None:
            self._shoppers.put([key], shopper[None])
        response.timings.extend(clock.timings())
        return response

    def check(self) -> None:
        """Raises when a network no longer answers."""
        self.model.check()

    async def close(self) -> None:
        """Lets go of the vectors."""
        await self._release()

    def _rank(
        self,
        request: ranker_pb2.RankRequest,
        found: Found,
        history: History,
        shopper: Float32 | None,
        now: float,
        clock: StageClock,
        until: float,
    ) -> tuple[ranker_pb2.RankResponse, Float32 | None]:
        """Everything that computes, in a worker thread; also the shopper's vector, None for nobody."""
        candidates = request.candidates
        events = len(request.context.history)
        vectors, present = found.vectors[events:], found.present[events:]

        factor = factors(request, self._settings.max_boost)

        def score(rows: Float32) -> NDArray[np.float64]:
            return share * self._score(request, rows, self.model.probabilities(rows))

        with clock.stage("inference"):
            if shopper is None and len(history):
                shopper = self.model.shopper(history)
            affinity = np.full(len(candidates.id), np.nan)
            if shopper is not None:
                # Row by row: a product of matrices may round a row differently in another company.
                affinity[present] = (vectors[present].astype(np.float64) * shopper).sum(axis=1)
            rows = features(request.context, request.query, request.scene, candidates, affinity, now)
            if self.model.signals is not None:
                told = self.model.signals.of(request.context.history, candidates.id)
                rows = np.concatenate([rows, told], axis=1)
            probability = self.model.probabilities(rows)
            deviation = self.model.deviations(rows) if request.deviations else None
            # The reasons tell parts of the final score: `share` is what a unit of the ranker's own is of it.
            handed, share = handover(request, self._score(request, rows, probability))
            scores = factor * handed
        read = None
        if self._reranker is not None and request.rerank and request.scene == types_pb2.SCENE_SEARCH:
            with clock.stage("rerank"):
                read = self._reranker.read(request.query, candidates, request.rerank, until)
                if read.count:
                    share *= (1 - self._reranker.weight) / max(float(scores.max()), 1e-12)
                    scores = self._reranker.fuse(scores, read)
        with clock.stage("list"):
            wanted = request.top_k or len(scores)
            order = diversity.by_score(scores, np.array(candidates.popularity, np.float64), candidates.id)
            order = order[factor[order] > 0]
            likeness = diversity.likeness_of(order, vectors, present, candidates)
            spread = diversity.KINDS[self._settings.diversity](len(order), likeness)
            limits = Exposure.of(request.scene, order, candidates, self._settings)
            trade_off = diversity.TRADE_OFF[request.scene]
            order = diversity.mixed(order, scores, spread, trade_off, wanted, limits)[:wanted]
            reasons = []
            if request.explain and len(order):
                reasons = explain(order.tolist(), rows, score, factor, Ranked(request, vectors, found.vectors[:events]))
        response = ranker_pb2.RankResponse(
            order=order.tolist(),
            score=scores[order].tolist(),
            objectives=self._objectives.columns(probability[order], None if deviation is None else deviation[order]),
            reasons=reasons,
            features=self._features(rows[order], request.scene) if reasons else (),
            generation=self.generation,
            reranked=read.count if read else 0,
            reranked_fewer=read.fewer if read else types_pb2.DEGRADATION_REASON_UNSPECIFIED,
        )
        return response, shopper

    def _features(self, rows: Float32, scene: int) -> list[ranker_pb2.FeatureColumn]:
        """What each feature adds to the ranked items, given their features (n, len(model.columns))."""
        parts = self.model.parts(rows)
        if parts is None:
            return []
        means = self._objectives.mean(parts, scene)
        return [
            ranker_pb2.FeatureColumn(
                feature=name, log_odds=parts[:, at].ravel().tolist(), scene_log_odds=means[:, at].tolist()
            )
            for at, name in enumerate((*self.model.columns, "bias"))
            if parts[:, at].any()
        ]

    def _score(self, request: ranker_pb2.RankRequest, rows: Float32, probability: Float32) -> NDArray[np.float64]:
        return closeness.weigh(request, rows, self._objectives.score(probability, request.scene))

    def _remembered(self, history: History) -> tuple[bytes, Float32 | None]:
        """The key of a history, and its vector where it was computed before."""
        digest = hashlib.sha256()
        for part in (history.items, history.types, history.gaps):
            digest.update(part.tobytes())
        key = digest.digest()
        vectors, present = self._shoppers.gather([key])
        return key, vectors[0] if present[0] else None

    async def _compute(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work)
