"""Recommendations through real processes: stages, events that count at once, pages, impressions, forgetting."""

import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest

from souk import filters
from souk.coldstart.v1 import coldstart_pb2, coldstart_pb2_grpc
from souk.retriever.v1 import admin_pb2
from souk.shop.v1 import shop_pb2, shop_pb2_grpc
from souk.types.v1 import types_pb2
from tests.integration.shops import Shop, until
from tests.integration.test_gateway import goods, ids

HOME = types_pb2.SCENE_HOME


@pytest.fixture(scope="module")
def shop(bundle: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with Shop(bundle, tmp_path_factory.mktemp("shop"), redis_url, coldstart=True) as one:
        one.fill(goods())
        # Coldstart knows an item from the moment in which the retriever told of it.
        record(one, "scout", ["blue-mug"])
        until(lambda: bool(one.client.shopper("scout")[1].context.categories), seconds=60)
        yield one


def record(
    shop: Shop, shopper: str, items: Sequence[str], kind: types_pb2.EventType.ValueType = types_pb2.EVENT_TYPE_VIEW
) -> None:
    events = [types_pb2.Event(event_id=uuid.uuid4().hex, shopper_id=shopper, type=kind, item_id=item) for item in items]
    answer = shop.client.record_events(events)
    assert answer.accepted == len(items)


def told(answer: shop_pb2.RecommendResponse) -> list[str]:
    return [f"{one.stage}: {one.substitute}" for one in answer.info.degradations]


def test_nobody_gets_popular_items_without_any_degradation(shop: Shop) -> None:
    for shopper in ("", "first-time-visitor"):
        answer = shop.client.recommend(HOME, shopper_id=shopper, page_size=10)
        assert len(answer.hits) == 10
        assert answer.stage == types_pb2.STAGE_COLD
        assert not told(answer)


def test_an_event_counts_in_the_very_next_answer(shop: Shop) -> None:
    shopper = "sofa-lover"
    before = shop.client.recommend(HOME, shopper_id=shopper, page_size=20)
    record(shop, shopper, ["blue-sofa", "green-sofa"])
    after = shop.client.recommend(HOME, shopper_id=shopper, page_size=20)
    assert before.stage == types_pb2.STAGE_COLD
    assert after.stage == types_pb2.STAGE_WARM

    def sofas(answer: shop_pb2.RecommendResponse) -> int:
        return sum(hit.item_id.endswith("-sofa") for hit in answer.hits[:5])

    assert sofas(after) > sofas(before)


def test_many_events_make_a_shopper_hot(shop: Shop) -> None:
    record(shop, "regular", [f"{colour}-lamp" for colour in ("blue", "green", "white", "black")] * 2)
    answer = shop.client.recommend(HOME, shopper_id="regular", page_size=5)
    assert answer.stage == types_pb2.STAGE_HOT


def test_a_shopper_from_the_first_visit_to_hot(shop: Shop) -> None:
    def clocks(answer: shop_pb2.RecommendResponse) -> int:
        return sum(item.endswith("-clock") for item in ids(answer)[:5])

    def visit() -> shop_pb2.RecommendResponse:
        return shop.client.recommend(HOME, shopper_id="visitor", page_size=20)

    first = visit()
    assert first.stage == types_pb2.STAGE_COLD
    # Words alone, sent by the shop: the next page is another one.
    search = types_pb2.Event(event_id="words", shopper_id="visitor", type=types_pb2.EVENT_TYPE_SEARCH, query="a clock")
    assert shop.client.record_events([search]).accepted == 1
    searched = visit()
    assert searched.stage == types_pb2.STAGE_WARM
    assert clocks(searched) > clocks(first)
    # What is looked at then counts for more than the words.
    record(shop, "visitor", ["blue-scarf", "green-scarf"])
    looked = visit()
    assert looked.stage == types_pb2.STAGE_WARM
    assert sum(item.endswith("-scarf") for item in ids(looked)[:5]) >= 2
    assert not {"blue-scarf", "green-scarf"} & set(ids(looked))
    record(shop, "visitor", ["white-scarf"], types_pb2.EVENT_TYPE_CLICK)
    record(shop, "visitor", ["white-scarf"], types_pb2.EVENT_TYPE_CART)
    record(shop, "visitor", ["white-scarf"], types_pb2.EVENT_TYPE_PURCHASE)
    bought = visit()
    assert bought.stage == types_pb2.STAGE_HOT
    assert ids(bought) != ids(looked)


def test_an_item_from_upsert_to_hot(shop: Shop) -> None:
    def stage() -> types_pb2.Stage.ValueType:
        known = shop.client.item_stage("first-kite")
        gateway = shop_pb2_grpc.ShopStub(grpc.insecure_channel(shop.gateway.address))
        assert gateway.GetItem(shop_pb2.GetItemRequest(item_id="first-kite")).stage == known.stage
        return known.stage

    item = types_pb2.Item(id="first-kite", revision=1, title="dragon kite", category_path=["Home", "Kite"], stock=3)
    item.created_at.FromSeconds(int(time.time()))
    shop.client.upsert_items([item], wait=admin_pb2.WAIT_INDEXED, timeout=30)
    assert stage() == types_pb2.STAGE_COLD
    until(lambda: shop.client.item_stage("first-kite").is_new)

    def shown() -> bool:
        return "first-kite" in ids(shop.client.recommend(types_pb2.SCENE_NEW_ARRIVALS, shopper_id="buyer-0"))

    until(shown)
    # Shown, and nobody had the time to click.
    until(lambda: shop.client.item_stage("first-kite").shown > 0)
    known = shop.client.item_stage("first-kite")
    assert (known.unanswered, known.stage) == (known.shown, types_pb2.STAGE_COLD)
    record(shop, "buyer-0", ["first-kite"], types_pb2.EVENT_TYPE_CLICK)
    assert stage() == types_pb2.STAGE_WARM
    for n in range(1, 5):
        record(shop, f"buyer-{n}", ["first-kite"], types_pb2.EVENT_TYPE_CLICK)
    assert stage() == types_pb2.STAGE_HOT
    record(shop, "buyer-1", ["first-kite"], types_pb2.EVENT_TYPE_SKIP)
    assert stage() == types_pb2.STAGE_WARM


def test_two_shoppers_get_different_answers(shop: Shop) -> None:
    record(shop, "mugs", ["blue-mug", "green-mug", "white-mug"])
    record(shop, "rugs", ["blue-rug", "green-rug", "white-rug"])
    first = ids(shop.client.recommend(HOME, shopper_id="mugs", page_size=5))
    second = ids(shop.client.recommend(HOME, shopper_id="rugs", page_size=5))
    assert first != second


@pytest.mark.parametrize(
    ("scene", "substitutes"),
    [
        (HOME, []),
        (types_pb2.SCENE_SIMILAR, []),
        (types_pb2.SCENE_CART, []),
        (types_pb2.SCENE_NEW_ARRIVALS, []),
        (types_pb2.SCENE_PROMOTION, ["retrieve: items that are on no promotion"]),
    ],
)
def test_every_scene_of_items_answers(shop: Shop, scene: types_pb2.Scene.ValueType, substitutes: list[str]) -> None:
    answer = shop.client.recommend(scene, shopper_id="regular", item_ids=["white-chair"], page_size=10)
    assert len(answer.hits) >= 5
    assert "white-chair" not in ids(answer)
    assert told(answer) == substitutes
    token = answer.info.next_page_token
    second = shop.client.recommend(
        scene, shopper_id="regular", item_ids=["white-chair"], page_size=10, page_token=token
    )
    assert len({*ids(answer), *ids(second)}) == 20
    assert told(second) == substitutes


@pytest.mark.parametrize("scene", [types_pb2.SCENE_CAMPAIGN, types_pb2.SCENE_SPONSORED])
def test_no_item_stands_in_for_a_campaign_or_a_bid(shop: Shop, scene: types_pb2.Scene.ValueType) -> None:
    answer = shop.client.recommend(scene, shopper_id="regular", page_size=10)
    assert not answer.hits
    assert told(answer)[0] == "retrieve: an empty page"


def test_similar_is_about_the_item_of_the_page(shop: Shop) -> None:
    answer = shop.client.recommend(types_pb2.SCENE_SIMILAR, shopper_id="regular", item_ids=["white-clock"], page_size=4)
    assert sum(item.endswith("-clock") for item in ids(answer)) >= 2


def test_an_unknown_item_of_the_scene_does_not_spoil_the_answer(shop: Shop) -> None:
    answer = shop.client.recommend(types_pb2.SCENE_CART, shopper_id="regular", item_ids=["gone", "blue-bowl"])
    assert answer.hits


def test_pages_repeat_nothing_and_filters_and_exclusions_hold(shop: Shop) -> None:
    seen: list[str] = []
    token = ""
    for _ in range(4):
        page = shop.client.recommend(
            HOME,
            shopper_id="regular",
            page_size=7,
            page_token=token,
            filter=filters.none_of(filters.brand("Acme")),
            exclude=["white-sofa"],
        )
        assert all(hit.brand != "Acme" for hit in page.hits)
        seen += ids(page)
        token = page.info.next_page_token
    assert len(seen) == len(set(seen)) == 28
    assert "white-sofa" not in seen
    assert "hidden-mug" not in seen


def test_what_was_shown_is_written_with_its_propensities(shop: Shop) -> None:
    answer = shop.client.recommend(HOME, shopper_id="watched", page_size=6)

    def impressions() -> list[types_pb2.Impression]:
        parts = shop.client.shopper("watched")
        return [part.impression for part in parts if part.WhichOneof("part") == "impression"]

    until(lambda: any(one.request_id == answer.info.request_id for one in impressions()))
    [shown] = [one for one in impressions() if one.request_id == answer.info.request_id]
    assert [item.item_id for item in shown.items] == ids(answer)
    assert [item.position for item in shown.items] == list(range(6))
    assert all(0 < item.propensity <= 1 for item in shown.items)
    left = [hit.stock if hit.HasField("stock") else None for hit in answer.hits]
    assert [item.stock if item.HasField("stock") else None for item in shown.items] == left
    assert any(left)
    assert shown.scene == HOME
    assert shown.generation == answer.info.generation


def test_a_forgotten_shopper_is_nobody(shop: Shop) -> None:
    record(shop, "leaver", ["blue-scarf"] * 6)
    assert shop.client.recommend(HOME, shopper_id="leaver").stage == types_pb2.STAGE_HOT
    # Written after the answer has left; what arrives later than the request to forget is a new impression.
    until(lambda: any(part.WhichOneof("part") == "impression" for part in shop.client.shopper("leaver")))
    assert shop.client.forget_shopper("leaver").events == 6
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        shop.client.shopper("leaver")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert shop.client.recommend(HOME, shopper_id="leaver").stage == types_pb2.STAGE_COLD


def test_a_repeated_event_changes_nothing(shop: Shop) -> None:
    event = types_pb2.Event(
        event_id="once", shopper_id="repeater", type=types_pb2.EVENT_TYPE_PURCHASE, item_id="blue-plate"
    )
    assert shop.client.record_events([event]).accepted == 1
    again = shop.client.record_events([event])
    assert (again.accepted, again.duplicates) == (0, 1)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (types_pb2.Event(shopper_id="s", type=types_pb2.EVENT_TYPE_VIEW, item_id="a"), "events[0].event_id"),
        (types_pb2.Event(event_id="x", type=types_pb2.EVENT_TYPE_VIEW, item_id="a"), "events[0].shopper_id"),
        (types_pb2.Event(event_id="x", shopper_id="s", item_id="a"), "events[0].type"),
        (types_pb2.Event(event_id="x", shopper_id="s", type=types_pb2.EVENT_TYPE_VIEW), "events[0].item_id"),
    ],
)
def test_a_malformed_event_is_named(shop: Shop, event: types_pb2.Event, words: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        shop.client.record_events([event])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith(words)


def test_a_new_item_is_found_and_recommended_a_moment_later(shop: Shop) -> None:
    record(shop, "potter", ["white-teapot", "black-teapot", "green-teapot"])
    item = types_pb2.Item(id="new-teapot", revision=1, title="hand-made clay teapot", price=20, currency="EUR")
    item.category_path.extend(["Home", "Teapot"])
    item.created_at.FromSeconds(int(time.time()))
    shop.client.upsert_items([item])
    assert ids(shop.client.search("hand-made clay"))[0] == "new-teapot"
    until(
        lambda: (
            "new-teapot" in ids(shop.client.recommend(types_pb2.SCENE_NEW_ARRIVALS, shopper_id="potter", page_size=20))
        ),
        seconds=60,
    )


def test_what_is_removed_is_new_and_popular_no_more(shop: Shop) -> None:
    items = [
        types_pb2.Item(
            id=f"short-{n}", title=f"a short-lived kite {n}", category_path=["Toys"], price=9, currency="EUR"
        )
        for n in range(3)
    ]
    for item in items:
        item.created_at.FromSeconds(int(time.time()))
    shop.client.upsert_items(items)
    with grpc.insecure_channel(shop.processes["coldstart"].address) as channel:
        coldstart = coldstart_pb2_grpc.ColdstartStub(channel)

        def are_new() -> list[bool]:
            asked = [coldstart_pb2.GetItemStageRequest(item_id=item.id) for item in items]
            return [coldstart.GetItemStage(each, timeout=5).is_new for each in asked]

        until(lambda: all(are_new()), seconds=60)
        shop.client.delete_items([admin_pb2.ItemRef(item_id=item.id) for item in items[:2]])
        until(lambda: are_new() == [False, False, True], seconds=60)
        # Events that come late do not bring it back.
        record(shop, "late", ["short-0"] * 5)
        context = coldstart_pb2.ShopperContext(stage=types_pb2.STAGE_COLD)
        asked = coldstart_pb2.CandidatesRequest(context=context, scene=HOME)
        time.sleep(1.5)  # Charts follow within a second.
        listed = {one.item_id for leg in coldstart.Candidates(asked, timeout=5).lists for one in leg.items}
        assert "short-2" in listed
        assert not listed & {"short-0", "short-1"}


def test_coldstart_dead_means_popularity_and_nothing_acknowledged_is_lost(shop: Shop) -> None:
    record(shop, "survivor", ["blue-kettle", "green-kettle"])
    shop.processes["coldstart"].kill()
    try:
        answer = shop.client.recommend(HOME, shopper_id="survivor", page_size=10, timeout=5)
        assert len(answer.hits) == 10
        assert told(answer) == ["context: popularity"]
    finally:
        shop.restart("coldstart")
    until(lambda: shop.client.recommend(HOME, shopper_id="survivor").stage == types_pb2.STAGE_WARM)
    held = [part.event.item_id for part in shop.client.shopper("survivor") if part.WhichOneof("part") == "event"]
    assert sorted(held) == ["blue-kettle", "green-kettle"]


def test_no_log_line_says_who_shopped(shop: Shop) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        shop.client.shopper("never-seen-before")
    for name, process in shop.processes.items():
        assert "ready" in process.log()
        for shopper in ("survivor", "sofa-lover", "leaver", "never-seen-before"):
            assert shopper not in process.log(), name
