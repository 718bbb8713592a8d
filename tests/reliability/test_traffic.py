"""Every process and Redis die under traffic, one after the other: answers go on, and no acknowledged event is lost."""

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from souk import SyncClient
from souk.types.v1 import types_pb2
from tests.conftest import OwnRedis
from tests.integration.shops import Shop, until
from tests.integration.test_gateway import goods

SHOPPERS = [f"shopper-{i}" for i in range(6)]


class Traffic:
    """Searches, recommendations and events from one caller, in a thread of its own."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self.answered = 0
        self.empty: list[str] = []
        self.failed: list[str] = []
        self.acknowledged: set[tuple[str, str]] = set()
        self._stop = threading.Event()
        self._address = shop.gateway.address
        self._thread = threading.Thread(target=self._run, args=(seed,))
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self, seed: int) -> None:
        with SyncClient(self._address, timeout=5) as client:
            turn = seed
            while not self._stop.is_set():
                turn += 1
                shopper = SHOPPERS[turn % len(SHOPPERS)]
                try:
                    if turn % 3 == 0:
                        self._event(client, shopper, turn)
                        continue
                    if turn % 3 == 1:
                        hits = client.search(f"blue mug {turn}", shopper_id=shopper).hits
                    else:
                        hits = client.recommend(types_pb2.SCENE_HOME, shopper_id=shopper).hits
                    self.answered += 1
                    if not hits:
                        self.empty.append(str(turn))
                except grpc.aio.AioRpcError as error:
                    self.failed.append(f"{error.code().name}: {error.details()}")

    def _event(self, client: SyncClient, shopper: str, turn: int) -> None:
        items = goods()
        event = types_pb2.Event(
            event_id=uuid.uuid4().hex,
            shopper_id=shopper,
            type=types_pb2.EVENT_TYPE_VIEW,
            item_id=items[turn % len(items)].id,
        )
        try:
            client.record_events([event], timeout=2)
        except grpc.aio.AioRpcError:
            return  # Not acknowledged: it may be there or not.
        self.acknowledged.add((shopper, event.event_id))


@pytest.fixture(scope="module")
def redis() -> Iterator[OwnRedis]:
    server = OwnRedis()
    yield server
    server.kill()


def test_answers_go_on_and_acknowledged_events_stay(ranked_bundle: Path, redis: OwnRedis, tmp_path: Path) -> None:
    with Shop(ranked_bundle, tmp_path, redis.url, follower=True, coldstart=True, ranker=True) as shop:
        shop.fill(goods())
        with SyncClient(retriever=shop.processes["follower"].address) as client:
            until(lambda: client.catalogue_info().sequence >= shop.client.catalogue_info().sequence)
        traffic = [Traffic(shop, seed) for seed in (0, 100)]
        try:
            for name in ("embedder", "ranker", "coldstart", "retriever", "follower"):
                before = sum(one.answered for one in traffic)
                shop.processes[name].kill()
                until(lambda before=before: sum(one.answered for one in traffic) > before + 20, 60)  # type: ignore[misc]
                shop.restart(name)
            before = sum(one.answered for one in traffic)
            redis.kill()
            until(lambda: sum(one.answered for one in traffic) > before + 20, 60)
            redis.revive()
        finally:
            for one in traffic:
                one.end()
        assert not [failure for one in traffic for failure in one.failed]
        assert not [turn for one in traffic for turn in one.empty]
        acknowledged = set.union(*(one.acknowledged for one in traffic))
        assert len(acknowledged) > 50
        held = {
            (shopper, part.event.event_id)
            for shopper in SHOPPERS
            for part in shop.client.shopper(shopper)
            if part.WhichOneof("part") == "event"
        }
        assert acknowledged <= held

        def whole() -> bool:
            answer = shop.client.recommend(types_pb2.SCENE_HOME, shopper_id=SHOPPERS[0])
            return bool(answer.hits) and not answer.info.degradations

        until(whole, 60)
