"""The client's retries stay within their budget and its filters say what they mean."""

from datetime import UTC, datetime

import grpc
import pytest

from souk import SyncClient, filters
from souk.client import RetryBudget


def test_retries_are_a_share_of_calls() -> None:
    budget = RetryBudget(share=0.1, most=3)
    retries = sum(budget.spend() for _ in range(100))
    assert retries == 3
    for _ in range(1000):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) == 3


def test_a_shop_that_is_not_there_is_told_within_the_deadline() -> None:
    with SyncClient("127.0.0.1:1", timeout=0.5) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            client.search("mug")
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_filters_build_the_tree() -> None:
    tree = filters.all_of(
        filters.any_of(filters.brand("A", "B"), filters.category("Home", "Mugs")),
        filters.none_of(filters.in_stock(False)),
        filters.price(max=20, currency="EUR"),
        filters.attribute("colour", ["red"]),
        filters.attribute("size", min=3),
        filters.created(since=datetime(2026, 1, 1, tzinfo=UTC)),
    )
    any_, none, price, colour, size, created = tree.all.filters
    assert list(any_.any.filters[0].brand.values) == ["A", "B"]
    assert list(any_.any.filters[1].category.paths[0].names) == ["Home", "Mugs"]
    assert getattr(none, "not").any.filters[0].in_stock is False
    assert (price.price.max, price.price.HasField("min")) == (20, False)
    assert list(colour.attribute.any_of.values) == ["red"]
    assert size.attribute.range.min == 3
    assert getattr(created.created_at, "from").seconds == 1767225600
    assert not created.created_at.HasField("to")
