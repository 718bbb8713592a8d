"""What a caller of the shop may send."""

import pytest

from services.domain.checks import Invalid
from services.gateway import requests
from services.gateway.scenes import allowed
from services.retriever.filters import check_filter
from souk import filters
from souk.retriever.v1 import retriever_pb2
from souk.shop.v1 import shop_pb2
from souk.types.v1 import types_pb2


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (shop_pb2.SearchRequest(), "query: is empty"),
        (shop_pb2.SearchRequest(query=" \t"), "query: is empty"),
        (shop_pb2.SearchRequest(query="a\x00"), "query: holds a null character"),
        (shop_pb2.SearchRequest(query="x" * 513), "query: 513 bytes; the limit is 512"),
        (shop_pb2.SearchRequest(query="x", page_size=101), "page_size: 101; it must be 0 to 100"),
        (shop_pb2.SearchRequest(query="x", shopper_id="s" * 129), "shopper_id: 129 bytes; the limit is 128"),
        (shop_pb2.SearchRequest(query="x", exclude_item_ids=["a", ""]), "exclude_item_ids[1]: is empty"),
        (
            shop_pb2.SearchRequest(query="x", exclude_item_ids=["a"] * 1001),
            "exclude_item_ids: holds 1001; it must hold 0 to 1000",
        ),
        (shop_pb2.SearchRequest(query="x", page_token="t" * 16385), "page_token: 16385 bytes; the limit is 16384"),
    ],
)
def test_a_search_beyond_a_limit_is_refused_by_name(request_: shop_pb2.SearchRequest, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        requests.check_search(request_)
    assert str(caught.value) == message


def test_a_scene_must_be_one_that_is_recommended_for() -> None:
    for scene in (0, 1, 9):
        with pytest.raises(Invalid, match="scene"):
            requests.check_recommend(shop_pb2.RecommendRequest(scene=scene))  # type: ignore[arg-type]
    requests.check_recommend(shop_pb2.RecommendRequest(scene=types_pb2.SCENE_HOME))


def test_brands_beyond_a_limit_are_refused_by_name() -> None:
    with pytest.raises(Invalid, match="k: 51; it must be 0 to 50"):
        requests.check_brands(shop_pb2.RecommendBrandsRequest(k=51))
    with pytest.raises(Invalid, match="shopper_id: 129 bytes"):
        requests.check_brands(shop_pb2.RecommendBrandsRequest(shopper_id="s" * 129))


def test_a_filter_has_room_for_what_the_gateway_adds() -> None:
    def deep(levels: int) -> retriever_pb2.Filter:
        node = filters.in_stock()
        for _ in range(levels - 1):
            node = filters.all_of(node)
        return node

    def wide(leaves: int) -> retriever_pb2.Filter:
        return filters.all_of(*[filters.in_stock()] * leaves)

    for fits in (deep(8), filters.any_of(wide(30), wide(31))):
        requests.check_search(shop_pb2.SearchRequest(query="x", filter=fits))
        for scene in types_pb2.Scene.values()[1:]:
            check_filter(allowed(scene, fits, False, 30.0, 1.8e9))
    for over, message in (
        (deep(9), "filter: is 9 nodes deep; the limit is 8"),
        (filters.any_of(wide(31), wide(31)), "filter: holds 65 nodes; the limit is 64"),
    ):
        with pytest.raises(Invalid, match=message):
            requests.check_recommend(shop_pb2.RecommendRequest(scene=types_pb2.SCENE_HOME, filter=over))
        with pytest.raises(Invalid, match=message):
            requests.check_brands(shop_pb2.RecommendBrandsRequest(filter=over))
