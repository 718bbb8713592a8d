"""The reranker in serving: what it reads, how it joins the score, what happens when its time runs out."""

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.domain.bundle import BundleError, EncoderManifest, Manifest, read_bundle, write_bundle
from services.domain.checks import Invalid
from services.domain.text import TextTemplate
from services.ranker.requests import check_rank
from services.ranker.reranker import Reranker
from services.ranker.search_only import SearchOnly, by_relevance
from services.runtime import threads
from services.runtime.errors import FailedPrecondition
from services.runtime.telemetry import StageClock
from souk.ranker.v1 import ranker_pb2
from souk.types.v1 import types_pb2
from tests.unit.ranker import tiny
from tests.unit.ranker.reading import write_reranker

SEARCH = types_pb2.SCENE_SEARCH


@pytest.fixture
def reranker(tmp_path: Path) -> Reranker:
    return Reranker(tmp_path, write_reranker(tmp_path, {"red": 2.0, "case": -3.0}), "CPUExecutionProvider")


def request(*titles: str, rerank: int = 10, query: str = "mug") -> ranker_pb2.RankRequest:
    ids = [f"i{n}" for n in range(len(titles))]
    scores = [1 - n / 100 for n in range(len(titles))]
    return ranker_pb2.RankRequest(
        scene=SEARCH, query=query, rerank=rerank, candidates=tiny.candidates(*ids, title=titles, score=scores)
    )


def ordered(reranker: Reranker | None, asked: ranker_pb2.RankRequest, until: float = math.inf) -> list[str]:
    answer = by_relevance(reranker, asked, StageClock(), until)
    assert list(answer.score) == sorted(answer.score, reverse=True)
    return [asked.candidates.title[row] for row in answer.order]


def test_relevance_joins_the_score_by_the_weight_of_the_bundle(reranker: Reranker) -> None:
    asked = request("mug case", "blue mug", "red mug")
    assert ordered(reranker, asked) == ["red mug", "blue mug", "mug case"]
    answer = by_relevance(reranker, asked, StageClock(), math.inf)
    sigmoid = [1 / (1 + math.exp(-x)) for x in (2.0, 0.0, -3.0)]
    expected = [0.5 * score + 0.5 * one for score, one in zip((0.98, 0.99, 1.0), sigmoid, strict=True)]
    assert list(answer.score) == pytest.approx(expected, abs=1e-6)
    assert (answer.reranked, answer.reranked_fewer) == (3, types_pb2.DEGRADATION_REASON_UNSPECIFIED)
    assert [timing.stage for timing in answer.timings] == ["rerank", "list"]
    assert ordered(None, asked) == ["mug case", "blue mug", "red mug"]


def test_only_the_best_retrieved_are_read_in_whatever_order_they_come(reranker: Reranker) -> None:
    asked = request(*[f"mug {n}" for n in range(20)], "red mug", rerank=5)
    answer = by_relevance(reranker, asked, StageClock(), math.inf)
    assert answer.reranked == 5
    assert answer.order[0] == 0
    turned = request(*[f"mug {n}" for n in range(20)], "red mug", rerank=5)
    for column in ("id", "title", "score"):
        getattr(turned.candidates, column)[:] = list(getattr(asked.candidates, column))[::-1]
    assert ordered(reranker, turned) == ordered(reranker, asked)


def test_without_time_it_reads_nothing_and_says_so(reranker: Reranker) -> None:
    asked = request("mug case", "red mug")
    assert ordered(reranker, asked, time.monotonic()) == ["mug case", "red mug"]
    answer = by_relevance(reranker, asked, StageClock(), time.monotonic())
    assert (answer.reranked, answer.reranked_fewer) == (0, types_pb2.DEGRADATION_REASON_TIMEOUT)
    assert list(answer.score) == pytest.approx([1.0, 0.99])


def test_what_was_begun_in_time_counts(reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 0.2, 0.4])

    class Time:
        monotonic = staticmethod(lambda: next(ticks))

    monkeypatch.setattr("services.ranker.reranker.time", Time)
    answer = by_relevance(reranker, request(*["mug"] * 30, rerank=30), StageClock(), 0.3)
    assert (answer.reranked, answer.reranked_fewer) == (16, types_pb2.DEGRADATION_REASON_TIMEOUT)


def test_a_script_that_it_cannot_read_is_left_to_the_retrieval(reranker: Reranker) -> None:
    answer = by_relevance(reranker, request("mug", "red mug", query="马克杯"), StageClock(), math.inf)
    assert (answer.reranked, answer.reranked_fewer) == (0, types_pb2.DEGRADATION_REASON_VOCABULARY)
    assert list(answer.order) == [0, 1]


async def test_a_bundle_without_a_ranker_orders_searches_alone(reranker: Reranker) -> None:
    workers = threads.pool("test", 1)
    generation = SearchOnly("g1", reranker, workers)
    answer = await generation.rank(request("mug case", "red mug"), StageClock(), math.inf)
    assert (list(answer.order), answer.generation) == ([1, 0], "g1")
    home = request("mug")
    home.scene = types_pb2.SCENE_HOME
    with pytest.raises(FailedPrecondition, match="only SEARCH"):
        await generation.rank(home, StageClock(), math.inf)
    with pytest.raises(FailedPrecondition, match="no ranker"):
        await generation.encode(ranker_pb2.EncodeShopperRequest())
    workers.shutdown()


def test_a_model_that_sees_its_batch_or_has_no_share_is_refused(tmp_path: Path) -> None:
    manifest = write_reranker(tmp_path, {"red": math.nan})
    with pytest.raises(RuntimeError, match="finite"):
        Reranker(tmp_path, replace(manifest), "CPUExecutionProvider")


def test_more_than_the_contract_allows_is_refused() -> None:
    with pytest.raises(Invalid, match="rerank"):
        check_rank(request("mug", rerank=201), 100)


def test_a_bundle_names_its_files(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder/model.onnx").write_bytes(b"")
    (tmp_path / "encoder/tokenizer.json").write_text("")
    encoder = EncoderManifest(dim=4, max_tokens=16, space_version="a" * 64, scripts=(), template=TextTemplate())
    reranker = write_reranker(tmp_path, {"red": 1.0})
    write_bundle(tmp_path, Manifest(encoder, "now", reranker=reranker))
    assert read_bundle(tmp_path).manifest.reranker == reranker
    (tmp_path / reranker.model).unlink()
    with pytest.raises(BundleError, match=r"reranker/model\.onnx"):
        read_bundle(tmp_path)
    with pytest.raises(BundleError, match=r"reranker/model\.onnx"):
        write_bundle(tmp_path, Manifest(encoder, "now", reranker=reranker))


async def test_a_ranker_and_a_reranker_share_the_score_of_a_shopper(tmp_path: Path) -> None:
    from services.ranker.model import Model
    from services.ranker.ranking import Ranking
    from services.ranker.settings import RankerSettings
    from services.ranker.vectors import ItemVectors
    from services.runtime.channels import connect
    from souk.coldstart.v1 import coldstart_pb2
    from souk.retriever.v1 import retriever_pb2_grpc

    bundle = tiny.write_ranker_bundle(tmp_path / "bundle")
    manifest = bundle.manifest.ranker
    assert manifest is not None
    reader = Reranker(tmp_path, write_reranker(tmp_path, {"red": 3.0}, weight=0.9), "CPUExecutionProvider")
    channel = connect("127.0.0.1:1")
    nowhere = retriever_pb2_grpc.RetrieverStub(channel)
    vectors = ItemVectors(nowhere, manifest.space_version, manifest.dim, RankerSettings())
    workers = threads.pool("test", 1)
    model = Model(bundle.path, manifest, "CPUExecutionProvider")
    ranking = Ranking("g", manifest, model, vectors, vectors.close, workers, RankerSettings(), reader)
    asked = request("blue mug", "green mug", "red mug")
    asked.context.CopyFrom(coldstart_pb2.ShopperContext(shopper_id="s", stage=types_pb2.STAGE_WARM))
    plain = ranker_pb2.RankRequest()
    plain.CopyFrom(asked)
    plain.rerank = 0
    before = await ranking.rank(plain, StageClock())
    after = await ranking.rank(asked, StageClock())
    assert before.reranked == 0
    assert (after.reranked, after.order[0]) == (3, 2)
    own = np.array(before.score)[np.argsort(before.order)]
    relevance = 1 / (1 + np.exp(-np.array([0.0, 0.0, 3.0])))
    expected = 0.1 * own / own.max() + 0.9 * relevance
    assert np.array(after.score)[np.argsort(after.order)] == pytest.approx(expected, abs=1e-5)
    # Of nobody in particular the retrieval's score is the other part.
    asked.ClearField("context")
    nobody = await ranking.rank(asked, StageClock())
    shares = np.array([1.0, 0.99, 0.98])
    assert np.array(nobody.score)[np.argsort(nobody.order)] == pytest.approx(0.1 * shares + 0.9 * relevance, abs=1e-5)
    await ranking.close()
    await channel.close()
    workers.shutdown()
