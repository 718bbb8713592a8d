"""Checks of what callers of the shop send, before anything is asked of other processes."""

from collections.abc import Iterator, Sequence

from services.domain.checks import Invalid, check_attributes, check_count, check_id, check_range, check_text
from souk.retriever.v1 import retriever_pb2
from souk.shop.v1 import shop_pb2

DEFAULT_PAGE_SIZE = 20
DEFAULT_BRANDS = 10
MAX_BRANDS = 50
MAX_PAGE_SIZE = 100
MAX_QUERY_BYTES = 512
MAX_EXCLUDED = 1000
# A token knows what was shown: eight characters an item.
MAX_TOKEN_CHARACTERS = 16_384
# Of a caller's filter: the retriever's limits leave room for what the gateway adds.
MAX_NODES = 64
MAX_DEPTH = 8


def check_search(request: shop_pb2.SearchRequest) -> None:
    """Raises Invalid."""
    check_text(request.query, "query", MAX_QUERY_BYTES)
    _check_listing(request)


def check_similar(request: shop_pb2.SimilarRequest) -> None:
    """Raises Invalid."""
    check_id(request.item_id, "item_id")
    _check_listing(request)


def check_recommend(request: shop_pb2.RecommendRequest) -> None:
    """Raises Invalid."""
    check_range(request.scene, "scene", 2, 8)
    check_count(request.item_ids, "item_ids", 0, 100)
    _check_ids(request.item_ids, "item_ids")
    check_attributes(request.shopper_attributes, "shopper_attributes", 32)
    _check_listing(request)


def check_brands(request: shop_pb2.RecommendBrandsRequest) -> None:
    """Raises Invalid."""
    if request.shopper_id:
        check_id(request.shopper_id, "shopper_id")
    check_attributes(request.shopper_attributes, "shopper_attributes", 32)
    check_range(request.k, "k", 0, MAX_BRANDS)
    _check_size(request.filter)


def check_suggest(request: shop_pb2.SuggestRequest) -> None:
    """Raises Invalid."""
    check_text(request.prefix, "prefix", 128)
    check_range(request.k, "k", 0, 50)


def check_batch(values: Sequence[object], field: str) -> None:
    """A batch of writes: 1 to 1,000. Raises Invalid."""
    check_count(values, field, 1, 1000)


def _check_listing(request: shop_pb2.SearchRequest | shop_pb2.SimilarRequest | shop_pb2.RecommendRequest) -> None:
    if request.shopper_id:
        check_id(request.shopper_id, "shopper_id")
    check_range(request.page_size, "page_size", 0, MAX_PAGE_SIZE)
    check_text(request.page_token, "page_token", MAX_TOKEN_CHARACTERS, allow_empty=True)
    check_count(request.exclude_item_ids, "exclude_item_ids", 0, MAX_EXCLUDED)
    _check_size(request.filter)
    _check_ids(request.exclude_item_ids, "exclude_item_ids")


def nodes(root: retriever_pb2.Filter, depth: int = 1) -> Iterator[tuple[retriever_pb2.Filter, int]]:
    """The nodes of a filter and how deep each lies, the root first."""
    yield root, depth
    match root.WhichOneof("node"):
        case "all" | "any" as kind:
            for child in getattr(root, kind).filters:
                yield from nodes(child, depth + 1)
        case "not":
            yield from nodes(getattr(root, "not"), depth + 1)


def _check_size(root: retriever_pb2.Filter) -> None:
    """The caller's part of a filter; all else in it is checked where it is read."""
    depths = [depth for _, depth in nodes(root)]
    if len(depths) > MAX_NODES:
        raise Invalid("filter", f"holds {len(depths)} nodes; the limit is {MAX_NODES}")
    if max(depths) > MAX_DEPTH:
        raise Invalid("filter", f"is {max(depths)} nodes deep; the limit is {MAX_DEPTH}")


def _check_ids(ids: Sequence[str], field: str) -> None:
    for i, item_id in enumerate(ids):
        check_id(item_id, f"{field}[{i}]")
