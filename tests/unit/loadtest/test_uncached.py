"""Queries that no cache knows: of words that the encoder reads, or none."""

import pytest

from loadtest.uncached import Uncached
from souk.shop.v1 import shop_pb2


async def _search(query: str) -> shop_pb2.SearchResponse:
    """Answers as a shop whose encoder reads ASCII only."""
    answer = shop_pb2.SearchResponse()
    answer.info.degradations.add(stage="page")
    if not query.isascii():
        answer.info.degradations.add(stage="embed")
    return answer


async def test_words_of_what_the_encoder_cannot_read_are_not_asked() -> None:
    uncached = await Uncached.of(["red mug", "红色 mug", "红色 cup", "blue jug"], _search)
    for _ in range(20):
        assert sorted(uncached.query().split()) == ["blue", "jug", "mug", "red"]


async def test_a_log_of_which_the_encoder_reads_nothing_is_refused() -> None:
    with pytest.raises(RuntimeError, match="reads no query"):
        await Uncached.of(["红色"], _search)
