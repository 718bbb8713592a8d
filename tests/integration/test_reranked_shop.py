"""A shop whose bundle holds a reranker and no ranker: searches are read, everything else goes on as it did."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.domain.bundle import Manifest, read_bundle, write_bundle
from souk import SyncClient
from souk.types.v1 import types_pb2
from tests.integration.shops import Shop
from tests.unit.ranker.reading import write_reranker

THINGS = ("mug", "teapot", "kettle", "plate")


@pytest.fixture(scope="module")
def shop(bundle: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    path = tmp_path_factory.mktemp("bundles") / "read"
    shutil.copytree(bundle / "encoder", path / "encoder")
    reranker = write_reranker(path, {"green": 4.0, "blue": -4.0}, weight=0.8)
    write_bundle(path, Manifest(read_bundle(bundle).manifest.encoder, "now", reranker=reranker))
    home = tmp_path_factory.mktemp("shop")
    with Shop(path, home, redis_url, ranker=True, gateway_rerank=10) as one:
        items = [
            types_pb2.Item(id=f"{colour}-{thing}", revision=1, title=f"{colour} {thing}")
            for colour in ("blue", "red", "green")
            for thing in THINGS
        ]
        one.fill(items)
        yield one


def test_a_search_for_nobody_is_read(shop: Shop) -> None:
    answer = shop.client.search("mug", page_size=12)
    assert answer.hits[0].item_id == "green-mug"
    assert [hit.item_id for hit in answer.hits if hit.item_id.endswith("mug")][-1] == "blue-mug"
    assert not answer.info.degradations
    assert "rank" in {timing.stage for timing in answer.info.timings}


def test_other_scenes_go_on_without(shop: Shop) -> None:
    answer = shop.client.recommend(types_pb2.SCENE_HOME, page_size=5)
    assert len(answer.hits) == 5
    assert ("rank", types_pb2.DEGRADATION_REASON_FAILED) in {(d.stage, d.reason) for d in answer.info.degradations}


def test_a_query_in_another_script_is_ordered_by_retrieval_and_the_caller_is_told(shop: Shop) -> None:
    answer = shop.client.search("马克杯 mug", page_size=5)
    assert answer.hits
    degradations = [(d.stage, d.reason) for d in answer.info.degradations]
    assert ("rerank", types_pb2.DEGRADATION_REASON_VOCABULARY) in degradations


def test_without_the_ranker_it_is_the_order_of_the_retrieval(shop: Shop) -> None:
    shop.processes["ranker"].kill()
    answer = shop.client.search("blue mug", page_size=5)
    assert answer.hits[0].item_id == "blue-mug"
    assert "rank" in {d.stage for d in answer.info.degradations}
    shop.restart("ranker")


def test_a_gateway_that_knows_no_ranker_tells_that_nothing_is_read(shop: Shop) -> None:
    with shop.gateway_without_ranker() as gateway, SyncClient(gateway.address, timeout=10) as client:
        answer = client.search("blue mug", page_size=5)
    assert answer.hits[0].item_id == "blue-mug"
    assert [(d.stage, d.reason) for d in answer.info.degradations] == [
        ("rerank", types_pb2.DEGRADATION_REASON_UNAVAILABLE)
    ]
