"""A whole shop with a ranker: hops counted from traces, personal search, what stands in, the next generation."""

import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.domain.bundle import Manifest, read_bundle, write_bundle
from souk import SyncClient, filters
from souk.cli import app
from souk.types.v1 import generations_pb2, types_pb2
from tests.integration.processes import spawn
from tests.integration.shops import Shop, until
from tests.integration.test_gateway import SERVER_SPAN, Collector, goods, ids
from tests.ports import free_port
from tests.unit.ranker import tiny

HOME = types_pb2.SCENE_HOME


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def shop(
    ranked_bundle: Path, redis_url: str, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    with Shop(
        ranked_bundle,
        tmp_path_factory.mktemp("shop"),
        redis_url,
        coldstart=True,
        ranker=True,
        otlp_endpoint=collector.address,
    ) as one:
        one.fill(goods())
        events = [
            types_pb2.Event(
                event_id=uuid.uuid4().hex,
                shopper_id="regular",
                type=types_pb2.EVENT_TYPE_PURCHASE,
                item_id=f"{colour}-mug",
            )
            for colour in ("blue", "green", "white", "black", "blue", "green")
        ]
        assert one.client.record_events(events).accepted == 6
        until(lambda: one.client.recommend(HOME, shopper_id="regular").stage == types_pb2.STAGE_HOT)
        yield one


def calls_of(collector: Collector, request_id: str, wanted: int) -> list[str]:
    """Names of the calls that a request made. Not counted: what is written after the answer, and the ranker's fetching
    of item vectors that its cache lacks, which is beside the levels of the call graph."""

    def calls() -> list[str]:
        found = []
        for spans in list(collector.traces.values()):
            ids = {one.value.string_value for _, span in spans for one in span.attributes}
            if request_id in ids:
                names = [span.name for _, span in spans if span.kind == SERVER_SPAN]
                found += [name.rsplit("/", 1)[1] for name in names]
        return sorted(name for name in found if name not in ("RecordImpressions", "GetVectors"))

    until(lambda: len(calls()) >= wanted, seconds=15)
    return calls()


def test_a_recommendation_takes_five_calls(shop: Shop, collector: Collector) -> None:
    answer = shop.client.recommend(HOME, shopper_id="regular", page_size=10, explain=True)
    assert not answer.info.degradations
    assert len(answer.hits) == 10
    assert any(hit.reasons for hit in answer.hits)
    assert all("bias" in hit.contributions for hit in answer.hits)
    calls = calls_of(collector, answer.info.request_id, 6)
    assert calls == ["Candidates", "EncodeShopper", "GetShopperContext", "Rank", "Recommend", "Search"]
    started = {timing.stage: (timing.start_us, timing.start_us + timing.duration_us) for timing in answer.info.timings}
    # Four levels: the two in the middle run side by side.
    assert started["context"][1] <= min(started["encode shopper"][0], started["candidates"][0])
    assert started["encode shopper"][0] < started["candidates"][1]
    assert started["candidates"][0] < started["encode shopper"][1]
    assert started["retrieve"][1] <= started["rank"][0]


def test_a_personal_search_takes_four_calls_and_an_anonymous_one_two(shop: Shop, collector: Collector) -> None:
    personal = shop.client.search("blue thing", shopper_id="regular")
    assert not personal.info.degradations
    calls = calls_of(collector, personal.info.request_id, 5)
    assert calls == ["Embed", "GetShopperContext", "Rank", "Search", "Search"]
    anonymous = shop.client.search("green thing")
    assert calls_of(collector, anonymous.info.request_id, 3) == ["Embed", "Search", "Search"]


def test_the_like_of_an_item_is_not_outranked_by_taste(shop: Shop) -> None:
    answer = shop.client.recommend(types_pb2.SCENE_SIMILAR, shopper_id="regular", item_ids=["white-clock"], page_size=4)
    assert not answer.info.degradations
    assert sum(item.endswith("-clock") for item in ids(answer)) >= 3


def test_the_like_of_what_the_encoder_cannot_read_goes_by_words(shop: Shop) -> None:
    answer = shop.client.recommend(types_pb2.SCENE_SIMILAR, shopper_id="regular", item_ids=["zh-0"], page_size=4)
    assert ids(answer)[0] == "zh-2"
    assert [one.substitute for one in answer.info.degradations] == ["words of the item's title"]


def test_the_order_of_the_retrieval_stands_in_for_the_ranker(shop: Shop) -> None:
    shop.processes["ranker"].kill()
    try:
        answer = shop.client.recommend(HOME, shopper_id="regular", page_size=10, timeout=5)
        told = {one.stage: one.substitute for one in answer.info.degradations}
        assert told == {"encode shopper": "profile and lists", "rank": "retrieval order"}
        assert len(answer.hits) == 10
    finally:
        shop.restart("ranker")
    until(lambda: not shop.client.recommend(HOME, shopper_id="regular").info.degradations)


def test_pages_of_a_ranked_list_repeat_nothing(shop: Shop) -> None:
    first = shop.client.recommend(HOME, shopper_id="regular", page_size=15)
    second = shop.client.recommend(HOME, shopper_id="regular", page_size=15, page_token=first.info.next_page_token)
    assert len({*ids(first), *ids(second)}) == 30


def test_the_ranker_draws_the_new_item_where_it_is_to(shop: Shop) -> None:
    settings = {**shop._settings["gateway"], "gateway_explore_by": "ranker", "gateway_explore_seed": 7}
    drawn = []
    for _ in range(2):
        gateway = spawn("services.gateway", **{**settings, "port": free_port()})
        with gateway, SyncClient(gateway.address, timeout=10) as client:
            answers = [client.recommend(HOME, shopper_id="regular", page_size=10) for _ in range(4)]
        drawn.append([ids(one)[4] for one in answers])
    # A seed makes the same of the same requests.
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 1
    answer = answers[0]

    def written() -> list[types_pb2.Impression]:
        parts = [part for part in shop.client.shopper("regular") if part.WhichOneof("part") == "impression"]
        return [part.impression for part in parts if part.impression.request_id == answer.info.request_id]

    until(lambda: bool(written()))
    [shown] = written()
    assert shown.policy.startswith("ranker/hot-home")
    assert shown.policy.endswith("+by-ranker+exploration")
    assert [(item.position, 0 < item.propensity < 1) for item in shown.items] == [(at, at == 4) for at in range(10)]


def test_what_is_explored_on_a_later_page_keeps_its_propensity(shop: Shop) -> None:
    first = shop.client.recommend(HOME, shopper_id="regular", page_size=3)
    second = shop.client.recommend(HOME, shopper_id="regular", page_size=3, page_token=first.info.next_page_token)
    assert not second.info.degradations

    def written() -> list[types_pb2.Impression]:
        parts = [part for part in shop.client.shopper("regular") if part.WhichOneof("part") == "impression"]
        return [part.impression for part in parts if part.impression.request_id == second.info.request_id]

    until(lambda: bool(written()))
    [shown] = written()
    assert [(item.position, 0 < item.propensity < 1) for item in shown.items] == [(at, at == 4) for at in (3, 4, 5)]


def offer(like: types_pb2.Item, **attributes: str) -> types_pb2.Item:
    """The next revision of an item, with these attributes."""
    item = types_pb2.Item()
    item.CopyFrom(like)
    item.revision += 1
    for name, value in attributes.items():
        item.attributes.add(name=name, values=[value])
    return item


@pytest.fixture(scope="module")
def offers(shop: Shop) -> Shop:
    """Plates and clocks on promotion, rugs, lamps and scarves paid for, two campaigns."""
    now = int(time.time())
    items = {item.id: item for item in goods()}
    paid = [offer(items[f"{colour}-{thing}"], bid=str(bid)) for colour, thing, bid in PAID]
    reduced = [
        offer(items[f"{colour}-{thing}"], promotion="Spring")
        for colour in ("white", "green")
        for thing in ("plate", "clock")
    ]
    over = offer(items["black-clock"], promotion="Winter", offer_until=str(now - 60))
    campaigns = [
        offer(
            types_pb2.Item(id=f"{thing}-week", title=title, category_path=["Home", thing]), kind="campaign", about=one
        )
        for thing, title, one in (("Rug", "Rugs for every floor", "blue-rug"), ("Mug", "Week of the mug", "blue-mug"))
    ]
    shop.fill([*paid, *reduced, over, *campaigns])
    return shop


# Rugs and lamps are all of one brand, scarves of another.
PAID = [
    (colour, thing, bid)
    for colour in ("blue", "green", "white", "black")
    for thing, bid in (("rug", 0.4), ("lamp", 0.1), ("scarf", 0.01))
]


def test_promotion_shows_what_is_on_promotion_for_the_shopper(offers: Shop) -> None:
    answer = offers.client.recommend(types_pb2.SCENE_PROMOTION, shopper_id="regular", page_size=10, explain=True)
    assert not answer.info.degradations
    assert set(ids(answer)) == {"white-plate", "green-plate", "white-clock", "green-clock"}
    assert all("on promotion: spring" in hit.reasons for hit in answer.hits)
    filtered = offers.client.recommend(
        types_pb2.SCENE_PROMOTION, shopper_id="regular", filter=filters.category("Home", "Clock")
    )
    assert set(ids(filtered)) == {"white-clock", "green-clock"}


def test_campaigns_are_recommended_in_their_scene_and_nowhere_else(offers: Shop) -> None:
    client = offers.client
    answer = client.recommend(types_pb2.SCENE_CAMPAIGN, shopper_id="regular", explain=True)
    assert ids(answer) == ["Mug-week", "Rug-week"]
    assert not answer.info.degradations
    elsewhere = [
        *client.recommend(HOME, shopper_id="regular", page_size=100).hits,
        *client.recommend(types_pb2.SCENE_NEW_ARRIVALS, page_size=100).hits,
        *client.search("week of the mug", page_size=100).hits,
        *client.similar("blue-mug", page_size=100).hits,
    ]
    assert not any("-week" in hit.item_id for hit in elsewhere)
    asked = client.search("week of the mug", filter=filters.attribute("kind", ["campaign"]))
    assert set(ids(asked)) == {"Mug-week", "Rug-week"}


def test_paid_places_are_labelled_and_go_by_what_they_are_worth(offers: Shop) -> None:
    scene = types_pb2.SCENE_SPONSORED
    first = offers.client.recommend(scene, shopper_id="regular", page_size=4)
    second = offers.client.recommend(scene, shopper_id="regular", page_size=6, page_token=first.info.next_page_token)
    hits = [*first.hits, *second.hits]
    assert all(hit.sponsored for hit in hits)
    assert not first.info.degradations
    # Four scarves, and of the brand of eight others no more than half of ten places, over both pages.
    assert Counter(hit.item_id.split("-")[1] == "scarf" for hit in hits) == {True: 4, False: 5}
    assert not second.info.next_page_token
    free = [hit.score for hit in hits if hit.item_id.split("-")[1] != "scarf"]
    assert free == sorted(free, reverse=True)
    home = offers.client.recommend(HOME, shopper_id="regular", page_size=100)
    assert not any(hit.sponsored for hit in home.hits)


def test_brands_are_those_of_what_the_shopper_would_be_shown(offers: Shop) -> None:
    answer = offers.client.recommend_brands(shopper_id="regular", k=2, filter=filters.price(max=25))
    assert len(answer.brands) == 2
    assert answer.stage == types_pb2.STAGE_HOT
    assert not answer.info.degradations
    for brand in answer.brands:
        assert 1 <= len(brand.hits) <= 3
        assert {hit.brand for hit in brand.hits} == {brand.brand}
        assert brand.score == pytest.approx(sum(hit.score for hit in brand.hits))
        assert all(hit.price <= 25 for hit in brand.hits)
    assert answer.brands[0].score >= answer.brands[1].score
    said = CliRunner().invoke(app, ["brands", "--shop", offers.gateway.address, "--shopper", "regular", "--k", "1"])
    assert said.exit_code == 0, said.output
    assert sum(name in said.output for name in ("Acme", "Brightwell", "Corvid")) >= 1


def test_a_next_generation_takes_over_with_no_request_failed_and_nothing_embedded_again(
    shop: Shop, ranked_bundle: Path, tmp_path: Path
) -> None:
    following = tmp_path / "following"
    shutil.copytree(ranked_bundle / "encoder", following / "encoder")
    encoder = read_bundle(ranked_bundle).manifest.encoder
    tiny.write_networks(following, {}, encoder.dim, shopper=tiny.shopper_network(-1.0))
    ranker = tiny.ranker_manifest(content_space_version=encoder.space_version, space_version="c" * 64)
    new = write_bundle(following, Manifest(encoder, "later", ranker=ranker)).generation
    old = shop.client.search("mug").info.generation
    assert old != new
    ready = shop.client.prepare(str(following), timeout=25)
    assert ready.generation == new
    assert shop.client.search("mug").info.generation == old
    shop.client.switch(new)
    for i in range(10):
        answer = shop.client.recommend(HOME, shopper_id="regular", page_size=5)
        assert answer.info.generation == new
        assert not answer.info.degradations, i
    shop.client.retire(old)
    assert [one.generation for one in shop.client.generations()] == [new]


def test_a_restart_goes_on_with_the_generation_switched_to(shop: Shop, ranked_bundle: Path) -> None:
    new = shop.client.search("mug").info.generation
    assert new != read_bundle(ranked_bundle).generation  # With which they are started.
    for name in ("retriever", "embedder", "ranker", "coldstart"):
        shop.processes[name].kill()
        shop.restart(name)

    def whole() -> bool:
        answers = (
            shop.client.recommend(HOME, shopper_id="regular", page_size=5, timeout=10),
            shop.client.search("mug", shopper_id="regular", timeout=10),
        )
        return all(not one.info.degradations and one.info.generation == new for one in answers)

    until(whole, seconds=60)
    until(lambda: [one.generation for one in shop.client.generations()] == [new], seconds=20)
    assert all(one.state == generations_pb2.GENERATION_STATE_READY for one in shop.client.generations())
