"""The shop's API through real processes: answers, filters, pages, writes, errors, traces."""

from collections import defaultdict
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from souk import filters
from souk.retriever.v1 import admin_pb2
from souk.shop.v1 import shop_pb2, shop_pb2_grpc
from souk.types.v1 import types_pb2
from tests.integration.shops import Shop, until

SERVER_SPAN = 2
GOODS = ["mug", "plate", "bowl", "teapot", "lamp", "chair", "sofa", "rug", "backpack", "scarf", "kettle", "clock"]
COLOURS = ["red", "blue", "green", "white", "black"]


def goods() -> list[types_pb2.Item]:
    items = [
        types_pb2.Item(
            id=f"{colour}-{thing}",
            revision=1,
            title=f"{colour} {thing}",
            brand=["Acme", "Brightwell", "Corvid"][i % 3],
            category_path=["Home", thing.capitalize()],
            price=5.0 + i,
            currency="EUR",
            stock=i,
            popularity=float(i % 7),
            attributes=[types_pb2.Attribute(name="colour", values=[colour])],
        )
        for i, (colour, thing) in enumerate((colour, thing) for colour in COLOURS for thing in GOODS)
    ]
    hidden = types_pb2.Item(id="hidden-mug", revision=1, title="secret mug", visible=False)
    chinese = [
        types_pb2.Item(id=f"zh-{i}", revision=1, title=title, category_path=["电子", "耳机"])
        for i, title in enumerate(["无线蓝牙耳机", "红色陶瓷马克杯", "降噪耳机 WH-1000XM4"])
    ]
    return [*items, hidden, *chinese]


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OpenTelemetry collector that keeps what it is sent: (service, span) pairs by trace."""

    def __init__(self) -> None:
        self.traces: dict[bytes, list[tuple[str, Any]]] = defaultdict(list)
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.traces[span.trace_id].append((names["service.name"], span))
        return trace_service_pb2.ExportTraceServiceResponse()

    def stop(self) -> None:
        self._server.stop(0)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def shop(
    bundle: Path, redis_url: str, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    with Shop(bundle, tmp_path_factory.mktemp("shop"), redis_url, otlp_endpoint=collector.address) as one:
        one.fill(goods())
        yield one


def ids(answer: shop_pb2.SearchResponse | shop_pb2.SimilarResponse | shop_pb2.RecommendResponse) -> list[str]:
    return [hit.item_id for hit in answer.hits]


def code_of(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call()
    return caught.value.code(), caught.value.details() or ""


def test_words_and_meaning_answer_together(shop: Shop) -> None:
    # Stock is 0 for the very first item, the red mug: it is not shown.
    answer = shop.client.search("blue mug", explain=True)
    assert ids(answer)[0] == "blue-mug"
    assert set(answer.hits[0].leg_scores) == {"words", "meaning"}
    assert not answer.info.degradations
    assert {timing.stage for timing in answer.info.timings} >= {"embed", "retrieve", "page"}
    assert len(answer.info.generation) == 64


def test_meaning_finds_what_words_do_not(shop: Shop) -> None:
    answer = shop.client.search("couch", explain=True)
    assert ids(answer)[0].endswith("-sofa")
    assert "words" not in answer.hits[0].leg_scores


def test_words_serve_what_the_encoder_cannot_read(shop: Shop) -> None:
    answer = shop.client.search("蓝牙耳机")
    assert ids(answer)[0] == "zh-0"
    [told] = answer.info.degradations
    assert (told.stage, told.reason) == ("embed", types_pb2.DEGRADATION_REASON_VOCABULARY)


def test_a_model_number_is_found_however_it_is_written(shop: Shop) -> None:
    for query in ("WH-1000XM4", "wh1000xm4", "1000XM4"):
        assert ids(shop.client.search(query))[0] == "zh-2"


@pytest.mark.parametrize(
    ("tree", "holds"),
    [
        (filters.brand("acme"), lambda hit: hit.brand == "Acme"),
        (filters.category("Home", "Mug"), lambda hit: hit.category == "Home > Mug"),
        (filters.price(min=20, max=30), lambda hit: 20 <= hit.price <= 30),
        (filters.attribute("Colour", ["GREEN"]), lambda hit: hit.title.startswith("green")),
        (filters.none_of(filters.brand("Acme")), lambda hit: hit.brand != "Acme"),
        (
            filters.any_of(filters.category("Home", "Mug"), filters.category("Home", "Bowl")),
            lambda hit: hit.category in ("Home > Mug", "Home > Bowl"),
        ),
    ],
)
def test_every_hit_passes_the_filter(shop: Shop, tree: Any, holds: Any) -> None:
    hits = shop.client.search("mug", page_size=100, filter=tree).hits
    assert hits
    assert all(holds(hit) for hit in hits)


def test_hidden_and_sold_out_items_are_never_shown(shop: Shop) -> None:
    for query in ("secret mug", "red mug"):
        for tree in (None, filters.any_of(filters.in_stock(False), filters.in_stock(True))):
            shown = ids(shop.client.search(query, page_size=100, filter=tree))
            assert "hidden-mug" not in shown
            assert "red-mug" not in shown


def test_pages_run_through_the_list_without_a_repeat(shop: Shop) -> None:
    seen: list[str] = []
    token = ""
    positions: list[int] = []
    while True:
        page = shop.client.search("chair", page_size=7, page_token=token)
        seen += ids(page)
        positions += [hit.position for hit in page.hits]
        token = page.info.next_page_token
        assert not page.info.degradations
        if not token:
            break
    assert len(seen) == len(set(seen)) > 50
    assert positions == list(range(len(seen)))
    assert seen[:20] == ids(shop.client.search("chair", page_size=20))


def test_pages_go_on_behind_items_that_are_gone(shop: Shop) -> None:
    listed = ids(shop.client.search("lamp", page_size=12))
    token = shop.client.search("lamp", page_size=1).info.next_page_token
    gone = [shop.client.get_item(item_id) for item_id in listed[1:6]]
    try:
        for item in gone:
            item.visible, item.revision = False, item.revision + 1
        shop.client.upsert_items(gone)
        seen = []
        for _ in range(3):
            page = shop.client.search("lamp", page_size=1, page_token=token)
            seen += ids(page)
            token = page.info.next_page_token
        assert seen == listed[6:9]
    finally:
        for item in gone:
            item.visible, item.revision = True, item.revision + 1
        shop.client.upsert_items(gone)


def test_a_later_page_shows_the_catalogue_as_it_is_now(shop: Shop) -> None:
    first = shop.client.search("scarf", page_size=5)
    following = ids(shop.client.search("scarf", page_size=10))[5:]
    gone, sold_out, dearer = following[:3]
    item = shop.client.get_item(dearer)
    before = shop.client.get_item(sold_out)
    hidden = shop.client.get_item(gone)
    try:
        hidden.visible, hidden.revision = False, hidden.revision + 1
        before.stock, before.revision = 0, before.revision + 1
        item.price, item.revision = 999.0, item.revision + 1
        shop.client.upsert_items([hidden, before, item])
        second = shop.client.search("scarf", page_size=5, page_token=first.info.next_page_token)
        assert gone not in ids(second)
        assert sold_out not in ids(second)
        assert next(hit.price for hit in second.hits if hit.item_id == dearer) == 999.0
        assert len(second.hits) == 5
    finally:
        hidden.visible, hidden.revision = True, hidden.revision + 1
        before.stock, before.revision = 9, before.revision + 1
        shop.client.upsert_items([hidden, before])


def test_excluded_items_stay_out_of_every_page(shop: Shop) -> None:
    out = ids(shop.client.search("lamp", page_size=3))
    first = shop.client.search("lamp", page_size=10, exclude=out)
    second = shop.client.search("lamp", page_size=10, exclude=out, page_token=first.info.next_page_token)
    assert not set(out) & set(ids(first) + ids(second))


@pytest.mark.parametrize("token", ["nonsense", "AAAA", "!!!!", "x" * 3000])
def test_a_made_up_page_token_is_refused(shop: Shop, token: str) -> None:
    code, details = code_of(lambda: shop.client.search("lamp", page_token=token))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("page_token: ")


def test_a_page_token_of_another_request_is_refused(shop: Shop) -> None:
    token = shop.client.search("lamp", page_size=3).info.next_page_token
    code, details = code_of(lambda: shop.client.search("mug", page_size=3, page_token=token))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "belongs to another request" in details


def test_an_error_in_the_filter_has_the_path_of_the_callers_own_tree(shop: Shop) -> None:
    tree = filters.all_of(filters.brand("Acme"), filters.price(min=5, max=1))
    code, details = code_of(lambda: shop.client.search("mug", filter=tree))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("filter.all.filters[1].price")


def test_similar_items_leave_the_item_out(shop: Shop) -> None:
    answer = shop.client.similar("white-mug", page_size=10)
    assert "white-mug" not in ids(answer)
    assert sum(item.endswith("-mug") for item in ids(answer)[:5]) >= 3


def test_similar_to_what_the_encoder_cannot_read_goes_by_words(shop: Shop) -> None:
    answer = shop.client.similar("zh-0")
    assert ids(answer)[0] == "zh-2"
    [told] = answer.info.degradations
    # No vector is on its way: the encoder does not read this.
    assert (told.reason, told.substitute) == (types_pb2.DEGRADATION_REASON_VOCABULARY, "words of the item's title")


def test_similar_to_nothing_is_not_found(shop: Shop) -> None:
    code, details = code_of(lambda: shop.client.similar("no-such-item"))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "no-such-item" in details


def test_completions(shop: Shop) -> None:
    # Counted in the background, every second.
    until(lambda: [one.text for one in shop.client.suggest("tea").suggestions] == ["Teapot"])


def test_without_coldstart_recommendations_are_popular_items_and_say_so(shop: Shop) -> None:
    answer = shop.client.recommend(types_pb2.SCENE_HOME, page_size=10)
    assert len(answer.hits) == 10
    assert [one.substitute for one in answer.info.degradations] == ["popularity"]


def test_events_without_coldstart_are_refused_and_not_swallowed(shop: Shop) -> None:
    event = types_pb2.Event(event_id="e", shopper_id="s", type=types_pb2.EVENT_TYPE_VIEW, item_id="blue-mug")
    code, details = code_of(lambda: shop.client.record_events([event], timeout=1))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "no event was written" in details


def test_a_write_is_found_at_once_and_a_retry_changes_nothing(shop: Shop) -> None:
    item = types_pb2.Item(id="new-vase", revision=1, title="zanzibar vase", price=3, currency="EUR")
    assert shop.client.upsert_items([item])[0].outcome == admin_pb2.OUTCOME_CREATED
    assert ids(shop.client.search("zanzibar"))[0] == "new-vase"
    assert shop.client.upsert_items([item])[0].outcome == admin_pb2.OUTCOME_UNCHANGED
    removed = shop.client.delete_items([admin_pb2.ItemRef(item_id="new-vase", revision=2)])[0]
    assert removed.outcome == admin_pb2.OUTCOME_DELETED
    assert "new-vase" not in ids(shop.client.search("zanzibar", page_size=100))
    assert shop.client.upsert_items([item])[0].outcome == admin_pb2.OUTCOME_STALE
    code, _ = code_of(lambda: shop.client.get_item("new-vase"))
    assert code is grpc.StatusCode.NOT_FOUND


def test_a_search_for_nobody_is_held_until_an_item_changes(shop: Shop) -> None:
    def stages() -> set[str]:
        return {one.stage for one in shop.client.search("quokka lamp", page_size=5).info.timings}

    assert {"embed", "retrieve"} < stages()
    until(lambda: stages() == {"page"}, seconds=10)
    held = ids(shop.client.search("quokka lamp"))
    assert "quokka" not in held
    shop.client.upsert_items([types_pb2.Item(id="quokka", revision=1, title="quokka lamp")])
    assert "quokka" in ids(shop.client.search("quokka lamp"))
    until(lambda: stages() == {"page"}, seconds=10)
    # A shopper's own search is never held; nor does it read what is.
    assert {"retrieve"} < {one.stage for one in shop.client.search("quokka lamp", shopper_id="s").info.timings}
    shop.client.delete_items([admin_pb2.ItemRef(item_id="quokka", revision=2)])
    assert "quokka" not in ids(shop.client.search("quokka lamp"))


def test_one_malformed_item_does_not_stop_the_others(shop: Shop) -> None:
    good = types_pb2.Item(id="good", revision=1, title="good thing")
    bad = types_pb2.Item(id="bad", revision=1, title="bad thing", price=-1, currency="EUR")
    results = shop.client.upsert_items([good, bad])
    assert [one.outcome for one in results] == [admin_pb2.OUTCOME_CREATED, admin_pb2.OUTCOME_INVALID]
    assert results[1].message == "items[1].price: -1.0; it must be finite and 0 or more"
    shop.client.delete_items([admin_pb2.ItemRef(item_id="good")])


def test_an_empty_write_is_refused(shop: Shop) -> None:
    code, details = code_of(lambda: shop.client.upsert_items([]))
    assert (code, details) == (grpc.StatusCode.INVALID_ARGUMENT, "items: holds 0; it must hold 1 to 1000")


def test_nothing_found_falls_back_to_popularity_and_says_so(shop: Shop) -> None:
    answer = shop.client.search("稀有词")
    assert answer.hits
    assert answer.info.degradations[-1].reason == types_pb2.DEGRADATION_REASON_NOTHING_FOUND


def test_a_filter_that_nothing_passes_gives_an_empty_page(shop: Shop) -> None:
    answer = shop.client.search("mug", filter=filters.brand("Nobody"))
    assert not answer.hits
    assert not answer.info.next_page_token


def test_broken_utf8_is_refused(shop: Shop) -> None:
    with grpc.insecure_channel(shop.gateway.address) as channel:
        raw: Any = channel.unary_unary("/souk.shop.v1.Shop/Search")
        with pytest.raises(grpc.RpcError):
            raw(b"\x0a\x03\xff\xfe\xfd", timeout=5)
    assert shop.client.search("mug").hits


def test_a_search_takes_two_calls_in_two_levels_under_the_callers_request_id(shop: Shop, collector: Collector) -> None:
    with grpc.insecure_channel(shop.gateway.address) as channel:
        stub = shop_pb2_grpc.ShopStub(channel)
        request = shop_pb2.SearchRequest(query="a query nobody asked before")
        answer = stub.Search(request, timeout=5, metadata=(("x-request-id", "shop-4711"),))
    assert answer.info.request_id == "shop-4711"

    def calls() -> list[tuple[str, str]]:
        """Server spans of the traces in which the gateway, the embedder and the retriever met this request."""
        found = []
        for spans in list(collector.traces.values()):
            ids = {one.value.string_value for _, span in spans for one in span.attributes}
            if "shop-4711" in ids:
                found += [(service, span.name) for service, span in spans if span.kind == SERVER_SPAN]
        return sorted(found)

    expected = [
        ("embedder", "souk.embedder.v1.Embedder/Embed"),
        ("gateway", "souk.shop.v1.Shop/Search"),
        ("retriever", "souk.retriever.v1.Retriever/Search"),
    ]
    until(lambda: len(calls()) >= len(expected), seconds=10)
    assert calls() == expected


def test_metrics_name_calls_and_stages(bundle: Path, shop: Shop) -> None:
    import urllib.request

    from tests.integration.processes import spawn
    from tests.ports import free_port

    port = free_port()
    gateway = spawn(
        "services.gateway",
        metrics_port=port,
        gateway_embedder=shop.processes["embedder"].address,
        gateway_retriever=shop.processes["retriever"].address,
    )
    with gateway:
        from souk import SyncClient

        with SyncClient(gateway.address) as client:
            client.search("mug")
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    assert 'souk_calls_total{code="OK",method="/souk.shop.v1.Shop/Search"} 1.0' in page
    assert 'souk_stage_seconds_count{stage="retrieve"}' in page
    assert "souk_ready 1.0" in page
