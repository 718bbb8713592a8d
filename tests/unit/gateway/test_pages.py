"""Page tokens carry what was shown and cannot be made, altered or moved; lists are kept in a real Redis."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.checks import Invalid
from services.gateway.pages import Kept, Pages, PageToken, fingerprint
from services.gateway.requests import check_search
from souk.shop.v1 import shop_pb2
from tests.conftest import OwnRedis

MARK = fingerprint(b"search", b"mug")
FIRST = PageToken("request-1", MARK, 0, frozenset())
IDS = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=100, unique=True)


def pages(key: str = "k" * 32, redis_url: str | None = None) -> Pages:
    return Pages(key, redis_url, 60)


@given(IDS, IDS)
def test_a_token_remembers_all_pages_before_it(first: list[str], second: list[str]) -> None:
    issuer = pages()
    one = issuer.read(issuer.issue(FIRST, first), MARK)
    two = issuer.read(issuer.issue(one, second), MARK)
    assert (one.request_id, one.offset) == ("request-1", len(first))
    assert two.offset == len(first) + len(second)
    assert all(two.has_shown(item) for item in first + second)
    assert not two.has_shown("never shown: " + "x" * 30)


def test_the_longest_token_that_is_issued_is_accepted() -> None:
    """A list of as many as there can be, shown to its last item, of a caller's longest request id."""
    token = PageToken("r" * 128, MARK, 0, frozenset())
    shown = [f"item {n}" for n in range(1_000)]
    check_search(shop_pb2.SearchRequest(query="mug", page_token=pages().issue(token, shown)))


@given(st.binary(max_size=200), st.integers(0, 10_000))
def test_an_altered_token_is_refused(noise: bytes, place: int) -> None:
    issuer = pages()
    token = issuer.issue(FIRST, ["a", "b"])
    place %= len(token)
    altered = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
    for wrong in (altered, noise.hex(), token[: place or 1]):
        with pytest.raises(Invalid, match="page_token"):
            issuer.read(wrong, MARK)


def test_a_token_of_another_shop_is_refused() -> None:
    with pytest.raises(Invalid, match="was not issued by this shop"):
        pages("a" * 32).read(pages("b" * 32).issue(FIRST, ["a"]), MARK)


def test_a_token_of_another_request_is_refused() -> None:
    with pytest.raises(Invalid, match="belongs to another request"):
        pages().read(pages().issue(FIRST, ["a"]), fingerprint(b"search", b"cup"))


def test_parts_of_a_request_cannot_be_shifted() -> None:
    assert fingerprint(b"ab", b"c") != fingerprint(b"a", b"bc")


async def test_a_kept_list_is_found_and_belongs_to_its_request(redis_url: str) -> None:
    keeper = pages(redis_url=redis_url)
    kept = Kept("ranker", [("a", 1.5), ("ü", 0.25)], propensities={"ü": 0.125})
    await keeper.keep("request-1", MARK, kept)
    assert await keeper.find(FIRST) == kept
    # A caller that uses a request id twice does not meet the other list.
    assert await keeper.find(PageToken("request-1", fingerprint(b"else"), 0, frozenset())) is None
    await keeper.close()


async def test_without_redis_nothing_is_found() -> None:
    keeper = pages()
    await keeper.keep("request-1", MARK, Kept("ranker", [("a", 1.0)]))
    assert await keeper.find(FIRST) is None


async def test_a_dead_and_a_stalled_redis_cost_little_and_raise_nothing(own_redis: OwnRedis) -> None:
    keeper = pages(redis_url=own_redis.url)
    await keeper.keep("request-1", MARK, Kept("ranker", [("a", 1.0)]))
    with own_redis.stop_cont():
        async with asyncio.timeout(2):
            assert await keeper.find(FIRST) is None
    own_redis.kill()
    async with asyncio.timeout(2):
        await keeper.keep("request-2", MARK, Kept("ranker", [("a", 1.0)]))
        assert await keeper.find(FIRST) is None
    await keeper.close()
