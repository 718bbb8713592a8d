"""The shop answers on while what it stands on dies or stalls, says what stood in, and recovers. Real deaths only."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from souk import SyncClient
from souk.shop.v1 import shop_pb2
from souk.types.v1 import types_pb2
from tests.conftest import OwnRedis
from tests.integration.shops import Shop, until
from tests.integration.test_gateway import goods, ids


@pytest.fixture(scope="module")
def redis() -> Iterator[OwnRedis]:
    server = OwnRedis()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def shop(bundle: Path, redis: OwnRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with Shop(bundle, tmp_path_factory.mktemp("shop"), redis.url, follower=True) as one:
        one.fill(goods())
        with SyncClient(retriever=one.processes["follower"].address) as client:
            until(lambda: client.catalogue_info().sequence == one.client.catalogue_info().sequence)
        yield one


@contextmanager
def stalled(shop: Shop, name: str) -> Iterator[None]:
    os.kill(shop.processes[name].pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(shop.processes[name].pid, signal.SIGCONT)


@contextmanager
def dead(shop: Shop, name: str) -> Iterator[None]:
    shop.processes[name].kill()
    try:
        yield
    finally:
        shop.restart(name)


def told(answer: shop_pb2.SearchResponse) -> set[tuple[str, str]]:
    return {
        (one.stage, types_pb2.DegradationReason.Name(one.reason).removeprefix("DEGRADATION_REASON_"))
        for one in answer.info.degradations
    }


def well_again(shop: Shop) -> None:
    def whole() -> bool:
        # One that nobody asked: what is held for nobody known would say nothing of the processes.
        answer = shop.client.search("green mug", exclude=[uuid.uuid4().hex])
        return ids(answer)[0] == "green-mug" and not answer.info.degradations

    until(whole)


def test_words_answer_while_the_embedder_is_dead(shop: Shop) -> None:
    with dead(shop, "embedder"):
        for i in range(20):
            answer = shop.client.search(f"blue mug {i}", timeout=5)
            assert ids(answer)[0] == "blue-mug"
            assert told(answer) == {("embed", "UNAVAILABLE")}
            assert answer.info.degradations[0].substitute == "words only"
    well_again(shop)


def test_a_stalled_embedder_costs_its_share_a_few_times_and_then_nothing(shop: Shop) -> None:
    with stalled(shop, "embedder"):
        began = time.monotonic()
        answers = [shop.client.search(f"white mug {i}", timeout=2) for i in range(8)]
        waited = time.monotonic() - began
    assert all(ids(answer)[0] == "white-mug" for answer in answers)
    assert {("embed", "TIMEOUT"), ("embed", "UNAVAILABLE")} == set.union(*map(told, answers))
    assert waited < 8 * 2 * 0.4  # Less than every answer's share of its deadline for the embedder.
    well_again(shop)


def test_a_follower_answers_while_the_primary_is_dead(shop: Shop) -> None:
    with dead(shop, "retriever"):
        answer = shop.client.search("blue mug", timeout=5)
        assert ids(answer)[0] == "blue-mug"
        assert told(answer) == {("retrieve", "UNAVAILABLE")}
        assert answer.info.degradations[0].substitute == "follower"
        item = types_pb2.Item(id="lost?", revision=1, title="a thing")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            shop.client.upsert_items([item], timeout=2)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    well_again(shop)


def test_a_follower_answers_while_the_primary_is_stalled(shop: Shop) -> None:
    with stalled(shop, "retriever"):
        answer = shop.client.search("blue mug", timeout=3)
        assert ids(answer)[0] == "blue-mug"
        assert ("retrieve", "TIMEOUT") in told(answer)
    well_again(shop)


def test_pages_go_on_without_redis_and_repeat_nothing(shop: Shop, redis: OwnRedis) -> None:
    first = shop.client.search("bowl", page_size=10)
    second = shop.client.search("bowl", page_size=10, page_token=first.info.next_page_token)
    redis.kill()
    third = shop.client.search("bowl", page_size=10, page_token=second.info.next_page_token)
    fourth = shop.client.search("bowl", page_size=10, page_token=third.info.next_page_token)
    shown = ids(first) + ids(second) + ids(third) + ids(fourth)
    assert len(set(shown)) == 40
    assert ("pages", "EXPIRED") in told(third)
    assert [hit.position for hit in third.hits] == list(range(20, 30))
    redis.revive()
    well_again(shop)


def test_a_stalled_redis_does_not_hold_up_an_answer(shop: Shop, redis: OwnRedis) -> None:
    with redis.stop_cont():
        for i in range(5):
            answer = shop.client.search(f"lamp {i}", timeout=2)
            assert ids(answer)[0].endswith("-lamp")
    well_again(shop)


def test_without_any_catalogue_the_error_comes_at_once_and_says_what_is_gone(shop: Shop) -> None:
    with dead(shop, "retriever"), dead(shop, "follower"):
        with SyncClient(shop.gateway.address) as impatient:
            began = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                impatient.search("mug", timeout=2)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "the catalogue cannot be reached" in (caught.value.details() or "")
        assert time.monotonic() - began < 2.5
    well_again(shop)


def test_the_gateway_drains_what_is_under_way(shop: Shop) -> None:
    with SyncClient(shop.gateway.address) as client:
        assert client.search("mug").hits
    assert shop.gateway.stop() == 0
    shop.restart("gateway")
    well_again(shop)
