"""Contexts follow from the log, are never older than an acknowledged event, and survive any state of Redis."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis

from services.coldstart import stages
from services.coldstart.log import Entry, Facts
from services.coldstart.state import States, derive
from souk.coldstart.v1 import coldstart_pb2
from souk.types.v1 import types_pb2
from souk.vectors import unpack_vector
from tests.conftest import OwnRedis
from tests.unit.coldstart.making import (
    CART,
    CLICK,
    DAY,
    NOW,
    PURCHASE,
    SEARCH,
    SKIP,
    SPACE,
    UNCART,
    VIEW,
    Shop,
    configured,
    event,
    item,
    knowledge,
    towards,
)

T = TypeVar("T")
KNOWLEDGE = knowledge()


async def in_thread(run: Callable[[], T]) -> T:
    return await asyncio.to_thread(run)


async def context(states: States, shopper: str = "s") -> coldstart_pb2.ShopperContext:
    async with asyncio.timeout(10):
        return await states.context(shopper, KNOWLEDGE, in_thread)


def holding(direct: redis.Redis, text: bytes) -> int:
    """How many values in Redis hold a text."""
    keys: Any = direct.keys()
    values: Any = direct.mget(keys) if keys else []
    return sum(text in (value or b"") for value in values)


def derived(*entries: Entry, repeats: bool = False, **facts: Facts) -> coldstart_pb2.ShopperContext:
    """From entries told oldest first."""
    return derive("s", entries[::-1], [], facts, {}, KNOWLEDGE, configured(), repeats)


def entry(name: str, kind: int = VIEW, quantity: int = 1, price: float | None = None, at: int = 0) -> Entry:
    return Entry(at, kind, name, quantity, price)


def test_stages_count_events_with_items() -> None:
    found = [stages.of_shopper(n, 0, 5) for n in (0, 1, 4, 5, 256)]
    cold, warm, hot = types_pb2.STAGE_COLD, types_pb2.STAGE_WARM, types_pb2.STAGE_HOT
    assert found == [cold, warm, warm, hot, hot]
    assert stages.of_shopper(0, 1, 5) == stages.of_shopper(0, 99, 5) == warm


def test_the_cart_is_what_was_put_in_and_not_taken_out_or_bought() -> None:
    told = derived(
        entry("a", CART, 2),
        entry("b", CART),
        entry("c", CART),
        entry("a", UNCART),
        entry("b", UNCART),
        entry("c", PURCHASE),
        entry("d", CART),
        entry("e", UNCART),
    )
    assert list(told.cart_item_ids) == ["d", "a"]


def test_lists_are_bounded() -> None:
    many = [entry(f"i{n}", CART) for n in range(2_000)]
    told = derived(*many)
    assert [each.item_id for each in told.history] == [f"i{n}" for n in range(2_000 - 256, 2_000)]
    assert len(told.seen_item_ids) == 2_000
    assert len(told.cart_item_ids) == 100
    assert told.cart_item_ids[0] == "i1999"


def test_what_was_bought_may_be_shown_again_where_shoppers_rebuy() -> None:
    entries = [entry("a"), entry("b", PURCHASE), entry("a", CLICK), entry("c", SKIP)]
    assert list(derived(*entries).seen_item_ids) == ["c", "a", "b"]
    assert list(derived(*entries, repeats=True).seen_item_ids) == ["c", "a"]


def test_shares_and_prices_are_of_the_events() -> None:
    tea = Facts(1, "", "Leaf", "Food > Tea", 7.0, 0, True, 0)
    lamp = Facts(1, "", "", "Lamps", None, 0, True, 0)
    told = derived(entry("t"), entry("t", price=0.0), entry("l"), entry("unknown", price=1.0), t=tea, l=lamp)
    assert [(each.name, each.share) for each in told.brands] == [("Leaf", 1.0)]
    assert [(each.name, round(each.share, 3)) for each in told.categories] == [("Food > Tea", 0.667), ("Lamps", 0.333)]
    # ln 8 of the item, ln 1 and ln 2 as told.
    assert told.mean_log_price == pytest.approx((2.0794 + 0 + 0.6931) / 3, abs=1e-3)
    assert not derived(entry("x")).HasField("mean_log_price")


async def test_a_stranger_is_cold_and_empty(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        told = await context(States(shop.log, shop.crowd, shop.settings))
    assert told == coldstart_pb2.ShopperContext(shopper_id="s", stage=types_pb2.STAGE_COLD)


async def test_events_shape_the_context(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        for n in range(3):
            shop.put(item(f"shoe-{n}", "Shoes", brand="Fleet", price=9.0, currency="EUR"), towards(0, n))
        shop.record(*(event(str(n), item=f"shoe-{n}", at=NOW - n) for n in range(3)))
        shop.log.put_attributes("s", [types_pb2.Attribute(name="country", values=["GB"])]).result(10)
        told = await context(States(shop.log, shop.crowd, shop.settings))
    assert told.stage == types_pb2.STAGE_WARM
    assert [each.item_id for each in told.history] == ["shoe-2", "shoe-1", "shoe-0"]
    assert (told.topics[0].label, told.topics[0].share > 0.9) == ("shoes", True)
    assert unpack_vector(told.profile) @ towards(0) > 0.9
    assert told.profile_space_version == SPACE
    assert told.attributes[0].values == ["GB"]
    assert told.brands[0].name == "Fleet"
    assert told.version > 0


async def test_searches_are_signals_until_events_outweigh_them(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        for n, title in enumerate(["green tea", "black tea", "mint tea", "fruit tea", "running shoe"]):
            made = item(f"i{n}", "Shoes" if n == 4 else "Tea")
            made.title = title
            shop.put(made, towards(0 if n == 4 else 2, n))
        states = States(shop.log, shop.crowd, shop.settings)
        shop.record(event("1", item="", kind=SEARCH, query="zzz", at=NOW - 99))
        assert (await context(states)).stage == types_pb2.STAGE_COLD
        shop.record(event("2", item="", kind=SEARCH, query="Green tea!", at=NOW - 60))
        told = await context(states)
        assert (told.stage, told.confidence, len(told.history), len(told.seen_item_ids)) == (
            types_pb2.STAGE_WARM,
            0,
            0,
            0,
        )
        assert [(one.query, list(one.item_ids)) for one in told.searches] == [("Green tea!", ["i0"])]
        assert (told.topics[0].label, told.topics[0].share > 0.9) == ("tea", True)
        assert unpack_vector(told.profile) @ towards(2) > 0.9
        # Two looks at a shoe say more than one search for tea.
        shop.record(*(event(f"v{n}", item="i4", at=NOW - n) for n in range(2)))
        told = await context(states)
        assert told.confidence == pytest.approx(2 / 5)
        assert told.topics[0].label == "shoes"
        shop.record(*(event(f"s{n}", item="", kind=SEARCH, query="mint tea", at=NOW - 30 + n) for n in range(9)))
        told = await context(states)
        assert [one.time_ms for one in told.searches] == [int((NOW - 30 + n) * 1000) for n in range(1, 9)]
        shop.log.forget("s").result(10)
        assert await context(states) == coldstart_pb2.ShopperContext(shopper_id="s", stage=types_pb2.STAGE_COLD)


async def test_a_generation_without_topics_has_the_dense_profile_alone(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        shop.put(item("a"), towards(0))
        shop.record(event("1", item="a"))
        states = States(shop.log, shop.crowd, shop.settings)
        told = await states.context("s", knowledge(topics=False), in_thread)
    assert (len(told.topics), told.HasField("profile")) == (0, True)


async def test_an_acknowledged_event_is_in_every_context_that_follows(tmp_path: Path, redis_url: str) -> None:
    with Shop(tmp_path, redis_url=redis_url) as shop:
        states = States(shop.log, shop.crowd, shop.settings)
        version = 0
        for n in range(30):
            shop.record(event(f"{n}", "reader", f"i{n}", at=NOW + n - 100))
            told = await context(states, "reader")
            assert [each.item_id for each in told.history] == [f"i{m}" for m in range(n + 1)]
            assert told.version > version
            version = told.version
            assert await context(states, "reader") == told
        await states.close()


async def test_a_kept_context_is_read_and_a_damaged_or_stale_one_is_not(tmp_path: Path, own_redis: OwnRedis) -> None:
    direct = redis.Redis.from_url(own_redis.url)
    with Shop(tmp_path, redis_url=own_redis.url, state_memory_mb=0) as shop:
        shop.record(event("1"))
        states = States(shop.log, shop.crowd, shop.settings)
        told = await context(states)
        assert states._redis is not None
        await states._redis.flush()
        (key,) = direct.keys()
        assert len(key) == len(b"souk:shopper:") + 32
        assert 0 < direct.ttl(key) <= shop.settings.state_ttl
        kept = direct.get(key)
        assert isinstance(kept, bytes)
        # What Redis holds under the right version is what is answered.
        forged = coldstart_pb2.ShopperContext(shopper_id="forged")
        direct.set(key, kept[:16] + forged.SerializeToString())
        assert await context(states) == forged
        for damaged in (b"", b"\xff" * 40, kept[:16] + b"\xff\xff\xff", kept[:9], b"\x00" * 7 + b"\x09" + kept[8:]):
            direct.set(key, damaged)
            assert await context(states) == told
            await states._redis.flush()
        other = await states.context("s", knowledge(topics=False), in_thread)
        assert other.version == told.version
        await states.close()


@pytest.mark.parametrize("with_redis", [True, False])
async def test_memory_answers_without_redis_or_log_until_something_happens(
    tmp_path: Path, own_redis: OwnRedis, with_redis: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Shop(tmp_path, redis_url=own_redis.url if with_redis else None) as shop:
        states = States(shop.log, shop.crowd, shop.settings)
        shop.record(event("1", item="a", at=NOW - 9))
        told = await context(states)
        with monkeypatch.context() as patched:
            patched.setattr(states, "compute", None)
            patched.setattr(states, "_redis", None)
            again = await context(states)
            assert again == told
            # Another's changes do not show.
            again.history[0].item_id = "changed"
            assert await context(states) == told
        shop.record(event("2", item="b", at=NOW - 8))
        assert [each.item_id for each in (await context(states)).history] == ["a", "b"]
        assert (await states.context("s", knowledge(topics=False), in_thread)).version == told.version + 1
        await states.close()


async def test_memory_holds_nothing_of_who_was_forgotten(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        states = States(shop.log, shop.crowd, shop.settings)
        shop.record(event("1", "gone", "thing-of-gone"))
        await context(states, "gone")
        assert len(states._kept) == 1
        shop.log.forget("gone").result(10)
        await states.forget("gone")
        assert len(states._kept) == 0
        assert (await context(states, "gone")).stage == types_pb2.STAGE_COLD

        async def forget_meanwhile(run: Callable[[], T]) -> T:
            answer = await in_thread(run)
            shop.log.forget("gone").result(10)
            await states.forget("gone")
            return answer

        shop.record(event("2", "gone", "thing-of-gone"))
        await states.context("gone", KNOWLEDGE, forget_meanwhile)
        assert len(states._kept) == 0


async def test_another_log_in_the_same_redis_is_another_shop(tmp_path: Path, redis_url: str) -> None:
    for name in ("one", "two"):
        with Shop(tmp_path / name, redis_url=redis_url) as shop:
            states = States(shop.log, shop.crowd, shop.settings)
            shop.record(event("1", item=f"thing-of-{name}"))
            for _ in range(2):
                assert [each.item_id for each in (await context(states)).history] == [f"thing-of-{name}"]
                assert states._redis is not None
                await states._redis.flush()
            await states.close()


async def test_an_item_that_arrives_joins_the_contexts_that_wait_for_it(tmp_path: Path, redis_url: str) -> None:
    with Shop(tmp_path, redis_url=redis_url) as shop:
        states = States(shop.log, shop.crowd, shop.settings)
        shop.record(event("1", "early", "soon"))
        assert not (await context(states, "early")).HasField("profile")
        shop.put(item("soon", "Tea"), towards(2))
        told = await context(states, "early")
        assert told.topics[0].label == "tea"
        assert told.categories[0].name == "Tea"
        await states.close()


async def test_redis_dead_stalled_and_back_changes_no_answer(tmp_path: Path, own_redis: OwnRedis) -> None:
    with Shop(tmp_path, redis_url=own_redis.url) as shop:
        states = States(shop.log, shop.crowd, shop.settings)
        shop.record(event("1", item="a", at=NOW - 9))
        assert len((await context(states)).history) == 1
        with own_redis.stop_cont():
            shop.record(event("2", item="b", at=NOW - 8))
            assert [each.item_id for each in (await context(states)).history] == ["a", "b"]
        own_redis.kill()
        shop.record(event("3", item="c", at=NOW - 7))
        assert [each.item_id for each in (await context(states)).history] == ["a", "b", "c"]
        own_redis.revive()
        shop.record(event("4", item="d", at=NOW - 6))
        assert [each.item_id for each in (await context(states)).history] == ["a", "b", "c", "d"]
        await states.close()


async def test_forgetting_blanks_redis_even_where_it_was_away(tmp_path: Path, own_redis: OwnRedis) -> None:
    direct = redis.Redis.from_url(own_redis.url)
    with Shop(tmp_path, redis_url=own_redis.url) as shop:
        states = States(shop.log, shop.crowd, shop.settings)
        assert states._redis is not None
        for shopper in ("one", "two"):
            shop.record(event(shopper, shopper, f"thing-of-{shopper}"))
            await context(states, shopper)
        await states._redis.flush()
        assert holding(direct, b"thing-of-") == 2
        shop.log.forget("one").result(10)
        await states.forget("one")
        assert holding(direct, b"thing-of-one") == 0
        with own_redis.stop_cont():
            shop.log.forget("two").result(10)
            await states.forget("two")
            assert (await context(states, "two")).stage == types_pb2.STAGE_COLD
        async with asyncio.timeout(15):
            while holding(direct, b"thing-of-two"):
                await states.blank()
                await asyncio.sleep(0.05)
        await states.close()


async def test_a_context_under_way_does_not_bring_back_who_is_forgotten(tmp_path: Path, own_redis: OwnRedis) -> None:
    direct = redis.Redis.from_url(own_redis.url)
    with Shop(tmp_path, redis_url=own_redis.url) as shop:
        states = States(shop.log, shop.crowd, shop.settings)
        shop.record(event("1", "gone", "thing-of-gone"))
        calls = 0

        async def forget_between(run: Callable[[], T]) -> T:
            nonlocal calls
            calls += 1
            answer = await in_thread(run)
            if calls == 2:  # Computed, not yet kept.
                shop.log.forget("gone").result(10)
                await states.forget("gone")
            return answer

        await states.context("gone", KNOWLEDGE, forget_between)
        assert calls == 2
        await states.close()
        assert holding(direct, b"thing-of-gone") == 0


async def test_a_long_history_reads_no_more_than_its_bound(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        for start in range(0, 5_000, 1_000):
            shop.record(
                *(event(f"{start + n}", item=f"i{start + n}", at=NOW - 9 * DAY + start + n) for n in range(1_000))
            )
        told = await context(States(shop.log, shop.crowd, shop.settings))
    assert len(told.history) == 256
    assert list(told.seen_item_ids) == [f"i{n}" for n in range(4_999, 2_999, -1)]
    assert told.ByteSize() < 64_000
