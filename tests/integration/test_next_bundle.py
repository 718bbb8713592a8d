"""From traffic to the next models: what a shop served is exported, trained on, and takes over.

On the way, an item and a shopper that are a minute old appear wherever they must, and the forgotten nowhere.
"""

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from rich.progress import Progress

from souk import filters
from souk.dataset import find_table, read_events, read_items, read_shoppers
from souk.ingest import write_events
from souk.retriever.v1 import admin_pb2
from souk.types.v1 import types_pb2
from tests.integration.processes import REPOSITORY
from tests.integration.shops import Shop, until
from training.data.generate import generate

HOME, NEW = types_pb2.SCENE_HOME, types_pb2.SCENE_NEW_ARRIVALS


def training(*arguments: object) -> str:
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generated") / "dataset"
    generate(path, items=250, shoppers=120, seed=3)
    return path


@pytest.fixture(scope="module")
def shop(
    ranked_bundle: Path, dataset: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    with Shop(ranked_bundle, tmp_path_factory.mktemp("shop"), redis_url, coldstart=True, ranker=True) as one:
        one.fill(list(read_items(dataset)))
        with Progress(disable=True) as progress:
            assert write_events(one.client, read_events(dataset), progress) > 1000
        yield one


def click(shop: Shop, shopper: str, item: str, request_id: str = "", position: int = 0) -> None:
    event = types_pb2.Event(
        event_id=uuid.uuid4().hex,
        shopper_id=shopper,
        type=types_pb2.EVENT_TYPE_CLICK,
        item_id=item,
        request_id=request_id,
        position=position,
    )
    assert shop.client.record_events([event]).accepted == 1


def exported(shop: Shop, path: Path) -> Path:
    coldstart, retriever = shop.processes["coldstart"].address, shop.processes["retriever"].address
    training("export-events", "--out", path, "--coldstart", coldstart, "--retriever", retriever)
    return path


def test_what_is_a_minute_old_is_everywhere_and_what_is_forgotten_nowhere(shop: Shop, tmp_path: Path) -> None:
    item = types_pb2.Item(
        id="minute-old",
        revision=1,
        title="Zephyrine walnut record shelf",
        brand="Minutewood",
        category_path=["Home and Living", "Living Room", "Bookcases"],
        price=120,
        currency="EUR",
        stock=3,
    )
    item.created_at.FromSeconds(int(time.time()))
    shop.client.upsert_items([item], wait=admin_pb2.WAIT_INDEXED, timeout=30)
    click(shop, "minute-old-shopper", "minute-old")

    assert shop.client.search("walnut record shelf").hits[0].item_id == "minute-old"
    only = shop.client.search("shelf", filter=filters.brand("Minutewood"))
    assert [hit.item_id for hit in only.hits] == ["minute-old"]
    assert shop.client.recommend(HOME, shopper_id="minute-old-shopper").stage == types_pb2.STAGE_WARM

    def recommended() -> bool:
        hits = shop.client.recommend(NEW, shopper_id="another-visitor", page_size=100).hits
        return "minute-old" in {hit.item_id for hit in hits}

    until(recommended, 30)

    first = exported(shop, tmp_path / "first")
    assert "minute-old" in {one.id for one in read_items(first)}
    assert "minute-old-shopper" in {one.shopper_id for one in read_events(first)}

    # The page's impression is written after the answer has left.
    until(lambda: any(part.WhichOneof("part") == "impression" for part in shop.client.shopper("minute-old-shopper")))
    shop.client.forget_shopper("minute-old-shopper")
    second = exported(shop, tmp_path / "second")
    assert "minute-old-shopper" not in {one.shopper_id for one in read_events(second)}
    assert "minute-old-shopper" not in {one.id for one in read_shoppers(second)}
    for file in second.iterdir():
        assert b"minute-old-shopper" not in file.read_bytes()


def test_the_next_bundle_is_trained_from_traffic_that_the_last_one_served(
    shop: Shop, ranked_bundle: Path, tmp_path: Path
) -> None:
    old = shop.client.search("sofa").info.generation
    clicked = 0
    for i in range(25):
        shopper = f"guest-{i % 5}"
        answer = shop.client.recommend(HOME, shopper_id=shopper, page_size=6)
        hit = answer.hits[i % len(answer.hits)]
        click(shop, shopper, hit.item_id, answer.info.request_id, hit.position)
        clicked += 1
    until(lambda: sum(part.WhichOneof("part") == "impression" for part in shop.client.shopper("guest-4")) == 5)

    log = exported(shop, tmp_path / "log")
    table = find_table(log, "impressions")
    assert table is not None
    shown = pl.read_parquet(table).filter(pl.col("shopper_id").str.starts_with("guest-"))
    assert len(shown) == 25 * 6
    assert shown["clicked"].sum() == clicked
    assert shown["propensity"].is_between(0, 1, closed="right").all()

    where = ("--dataset", log, "--bundle", ranked_bundle, "--cache", tmp_path / "content")
    training("train", "borrow", *where, "--retriever", shop.processes["retriever"].address)
    training("train", "ranker", *where, "--out", tmp_path / "ranker", "--minutes", 0.4)
    training("train", "coldstart", *where, "--out", tmp_path / "coldstart")
    parts = ("--encoder", ranked_bundle, "--ranker", tmp_path / "ranker", "--coldstart", tmp_path / "coldstart")
    training("bundle", *parts, "--out", tmp_path / "next")

    ready = shop.client.prepare(str(tmp_path / "next"), timeout=25)
    shop.client.switch(ready.generation)
    answer = shop.client.recommend(HOME, shopper_id="guest-1", page_size=6, explain=True)
    assert answer.info.generation == ready.generation != old
    assert len(answer.hits) == 6
    assert not answer.info.degradations
    context = next(part.context for part in shop.client.shopper("guest-1") if part.WhichOneof("part") == "context")
    assert context.topics, "the interests of a shopper have names now"
    shop.client.retire(old)
