"""What is measured is what is served: a shopper and an item that nobody knows, through the gateway without a ranker."""

import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.domain.blended import BLEND, Blended
from services.domain.bundle import Manifest, read_bundle, write_bundle
from souk.retriever.v1 import admin_pb2
from souk.shop.v1 import shop_pb2
from souk.types.v1 import types_pb2
from tests.integration.shops import Shop, until
from tests.integration.test_gateway import COLOURS, GOODS, goods, ids
from training.coldstart.card import BLEND as BLEND_FILE
from training.coldstart.card import TOPICS
from training.coldstart.learn import learn
from training.coldstart.train import train_coldstart
from training.content import Encoder
from training.data.canonical import DatasetWriter, Info, open_dataset

HOME, NEW = types_pb2.SCENE_HOME, types_pb2.SCENE_NEW_ARRIVALS
KINDS = GOODS[:6]


@pytest.fixture(scope="module")
def trained(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every shopper buys one kind of thing in all colours but red; nobody meets the red ones."""
    home = tmp_path_factory.mktemp("trained")
    items = old_goods()
    with DatasetWriter(home / "data", Info("toy", "1", "here", "none")) as writer:
        writer.write("items", [{"item_id": item.id} for item in items])
        rows = [
            {"shopper_id": f"s{s}", "item_id": f"{COLOURS[1 + (s + n) % 4]}-{KINDS[s % 6]}", "type": "PURCHASE"}
            for s in range(90)
            for n in range(4)
        ]
        writer.write("events", [row | {"event_id": str(n), "order": n} for n, row in enumerate(rows)])
    encoder = Encoder.open(bundle)
    content = encoder.items(items, home / "cache", lambda done, total: None)
    by_id = {item.id: item for item in items}
    learned = learn(open_dataset(home / "data"), by_id, dict(zip(by_id, content, strict=True)), 7)
    card = train_coldstart(items, content, encoder.manifest.space_version, home / "coldstart", 4, 7, learned)
    path = home / "bundle"
    shutil.copytree(bundle / "encoder", path / "encoder")
    shutil.copytree(home / "coldstart", path / "coldstart")
    assert {TOPICS, BLEND_FILE} <= {file.name for file in (path / "coldstart").iterdir()}
    write_bundle(path, Manifest(read_bundle(bundle).manifest.encoder, "now", coldstart=card.manifest))
    return path


@pytest.fixture(scope="module")
def shop(trained: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with Shop(trained, tmp_path_factory.mktemp("shop"), redis_url, coldstart=True) as one:
        one.fill(old_goods())
        yield one


def old_goods() -> list[types_pb2.Item]:
    """Nothing of it is new, so that nothing is explored."""
    items = [item for item in goods() if item.brand]
    for item in items:
        item.created_at.FromSeconds(int(time.time()) - 200 * 86_400)
    return items


def view(shop: Shop, shopper: str, item: str) -> None:
    event = types_pb2.Event(event_id=uuid.uuid4().hex, shopper_id=shopper, type=types_pb2.EVENT_TYPE_VIEW, item_id=item)
    assert shop.client.record_events([event]).accepted == 1


def home(shop: Shop, shopper: str, size: int = 10) -> shop_pb2.RecommendResponse:
    answer = shop.client.recommend(HOME, shopper_id=shopper, page_size=size, explain=True)
    assert not answer.info.degradations
    return answer


def test_the_order_served_is_the_order_measured(shop: Shop, trained: Path) -> None:
    blended = Blended.read(trained / "coldstart/blend.npz")

    def same(answer: shop_pb2.RecommendResponse, met: list[str]) -> None:
        """The odds of the best that may be shown; which of equals stands first is the retrieval's."""
        best = dict(blended.best(met, len(met), [], 300))
        # The red mug is sold out.
        able = sorted((odds for item, odds in best.items() if item not in (*met, "red-mug")), reverse=True)
        assert [hit.leg_scores[BLEND] for hit in answer.hits] == pytest.approx(able[:10], rel=1e-4, abs=1e-6)
        assert [best[hit.item_id] for hit in answer.hits] == pytest.approx(able[:10], rel=1e-4, abs=1e-6)

    same(home(shop, "fresh"), [])
    met = ["blue-plate", "green-plate"]
    for n, item in enumerate(met):
        view(shop, "fresh", item)
        # The very next answer is another one, and the one that the training would give.
        answer = home(shop, "fresh")
        same(answer, met[: n + 1])
        assert {"white-plate", "black-plate"} <= set(ids(answer)[:4])


def test_an_item_that_came_after_the_training_is_found_by_those_it_is_for(shop: Shop) -> None:
    item = types_pb2.Item(
        id="purple-bowl", revision=1, title="purple bowl", brand="Acme", category_path=["Home", "Bowl"], stock=3
    )
    item.created_at.FromSeconds(int(time.time()))
    shop.client.upsert_items([item], wait=admin_pb2.WAIT_INDEXED, timeout=30)
    for one in ("white-bowl", "black-bowl"):
        view(shop, "bowls", one)
        view(shop, "lamps", one.replace("bowl", "lamp"))

    def odds(shopper: str, item: str = "purple-bowl") -> float:
        hits = {hit.item_id: hit for hit in home(shop, shopper, 40).hits}
        # Exploration alone says nothing of it.
        return hits[item].leg_scores.get(BLEND, 0.0) if item in hits else 0.0

    until(lambda: odds("bowls") > 0, 20)
    # The red ones are as unknown.
    assert odds("bowls") > 2 * odds("bowls", "red-lamp")
    assert odds("lamps", "red-lamp") > 2 * odds("lamps")
    assert ids(shop.client.recommend(NEW, shopper_id="bowls", page_size=5))[0] == "purple-bowl"
