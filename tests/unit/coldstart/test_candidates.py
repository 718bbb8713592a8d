"""Stages and scenes are told different things to look for, and only what is known of the shopper and the crowd."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from services.coldstart.candidates import Sources, check_candidates, choose
from services.coldstart.knowledge import Knowledge
from services.coldstart.state import States
from services.domain.checks import Invalid
from souk.coldstart.v1 import coldstart_pb2
from souk.types.v1 import types_pb2
from souk.vectors import pack_vector, unpack_vector
from tests.unit.coldstart.making import CART, DAY, NOW, PURCHASE, VIEW, Shop, event, item, knowledge, towards

HOME, SIMILAR, CARTS = types_pb2.SCENE_HOME, types_pb2.SCENE_SIMILAR, types_pb2.SCENE_CART
NEW = types_pb2.SCENE_NEW_ARRIVALS
KNOWLEDGE = knowledge()
CATEGORIES = ("Shoes", "Lamps", "Tea")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Three categories of ten items, two new ones each; shoppers in GB view shoes, those in DE tea."""
    with Shop(tmp_path) as shop:
        for topic, category in enumerate(CATEGORIES):
            for n in range(10):
                age = 2 + n if n < 2 else 200
                shop.put(item(f"{category}-{n}", category, age_days=age, popularity=n), towards(topic, n))
        for shopper in range(6):
            country, taste = ("GB", "Shoes") if shopper % 2 else ("DE", "Tea")
            attribute = types_pb2.Attribute(name="country", values=[country])
            shop.log.put_attributes(f"crowd-{shopper}", [attribute]).result(10)
            shop.record(
                *(
                    event(f"{shopper}-{n}", f"crowd-{shopper}", f"{taste}-{n}", at=NOW - 100 * shopper - n)
                    for n in range(3, 8)
                )
            )
        shop.refresh()
        yield shop


def sources(shop: Shop, seed: int = 0) -> Sources:
    return Sources(shop.log, shop.crowd, shop.settings, Random(seed).random)


def context(shop: Shop, shopper: str = "s", **attributes: str) -> coldstart_pb2.ShopperContext:
    told = States(shop.log, shop.crowd, shop.settings).compute(shopper, shop.log.shopper(shopper), KNOWLEDGE)
    for name, value in attributes.items():
        told.attributes.add(name=name, values=[value])
    return told


def ask(
    shop: Shop,
    told: coldstart_pb2.ShopperContext,
    scene: int = HOME,
    items: tuple[str, ...] = (),
    seed: int = 0,
    using: Knowledge = KNOWLEDGE,
) -> coldstart_pb2.CandidatesResponse:
    request = coldstart_pb2.CandidatesRequest(context=told, scene=types_pb2.Scene.ValueType(scene), item_ids=items)
    check_candidates(request)
    answer = choose(request, using, sources(shop, seed))
    for leg in answer.lists:
        assert 0 < len(leg.items) <= 2_000
        assert leg.weight > 0
        assert len({each.item_id for each in leg.items}) == len(leg.items)
        scores = [each.score for each in leg.items]
        assert scores == sorted(scores, reverse=True)
    names = [leg.name for leg in answer.lists] + [leg.name for leg in answer.vectors]
    assert len(set(names)) == len(names)
    assert all(vector.weight > 0 for vector in answer.vectors)
    return answer


def lists(answer: coldstart_pb2.CandidatesResponse) -> dict[str, list[str]]:
    return {leg.name: [each.item_id for each in leg.items] for leg in answer.lists}


def vectors(answer: coldstart_pb2.CandidatesResponse) -> dict[str, Any]:
    return {leg.name: unpack_vector(leg.vector) for leg in answer.vectors}


def met(shop: Shop, *items: str, kind: int = VIEW, shopper: str = "s", days_ago: float = 0) -> None:
    shop.record(
        *(
            event(f"{shopper} {kind} {days_ago} {name}", shopper, name, kind, at=NOW - days_ago * DAY - 50 + n)
            for n, name in enumerate(items)
        )
    )


def test_stages_are_told_different_things(shop: Shop) -> None:
    cold = ask(shop, context(shop))
    met(shop, "Lamps-3", "Lamps-4")
    warm = ask(shop, context(shop))
    met(shop, "Lamps-5", "Lamps-6", "Lamps-7")
    hot = ask(shop, context(shop))
    assert set(lists(cold)) == {"popular_in_segment", "popular_by_category", "new"}
    assert vectors(cold) == {}
    assert set(vectors(warm)) == {"profile", "topic"}
    assert set(lists(warm)) >= {"popular_in_segment", "popular_in_categories"}
    assert set(vectors(hot)) == {"profile"}
    assert "popular_in_categories" not in lists(hot)
    policies = [answer.policy for answer in (cold, warm, hot)]
    assert policies == [f"{stage}-home-v1+thompson-v2" for stage in ("cold", "warm", "hot")]


def test_demand_that_rises_is_proposed_where_the_whole_shop_is_looked_at(shop: Shop) -> None:
    for day in range(30, 60):
        met(shop, "Tea-9", shopper=f"then-{day}", days_ago=day)
    for number in range(20):
        met(shop, "Lamps-9", shopper=f"now-{number}", days_ago=number / 10)
    shop.refresh()
    stranger = lists(ask(shop, context(shop)))["trend"]
    assert stranger[0] == "Lamps-9"
    assert "Tea-9" not in stranger
    met(shop, "Lamps-3", "Lamps-4")
    assert lists(ask(shop, context(shop)))["trend"] == stranger
    for scene in (SIMILAR, CARTS, NEW):
        assert "trend" not in lists(ask(shop, context(shop), scene, ("Lamps-3",)))


def test_the_cold_meet_what_is_popular_where_they_live(shop: Shop) -> None:
    britain = lists(ask(shop, context(shop, country="GB")))["popular_in_segment"]
    germany = lists(ask(shop, context(shop, country="DE")))["popular_in_segment"]
    assert all(name.startswith("Shoes") for name in britain[:5])
    assert all(name.startswith("Tea") for name in germany[:5])
    assert lists(ask(shop, context(shop, country="FR")))["popular_in_segment"]


def test_the_cold_are_shown_the_breadth_of_the_shop(shop: Shop) -> None:
    breadth = lists(ask(shop, context(shop)))["popular_by_category"]
    assert {name.split("-")[0] for name in breadth[:3]} == set(CATEGORIES)


def test_a_profile_leads_to_its_topic(shop: Shop) -> None:
    met(shop, "Lamps-3", "Lamps-4")
    answer = ask(shop, context(shop))
    assert vectors(answer)["profile"] @ towards(1, 99) > 0.9
    assert vectors(answer)["topic"].argmax() == 1
    assert all(name.startswith("Lamps") for name in lists(answer)["popular_in_categories"])


def test_what_the_same_shoppers_met_is_together(shop: Shop) -> None:
    met(shop, "Shoes-3", "Shoes-4")
    together = lists(ask(shop, context(shop)))["together"]
    assert set(together) == {"Shoes-5", "Shoes-6", "Shoes-7"}


def test_similar_starts_from_the_item_and_not_from_the_shopper(shop: Shop) -> None:
    met(shop, "Lamps-3", "Lamps-4")
    answer = ask(shop, context(shop), SIMILAR, ("Tea-3",))
    assert vectors(answer)["like"] @ towards(2, 99) > 0.9
    assert all(name.startswith("Tea") for name in lists(answer)["together"])
    assert not answer.explorations
    unknown = ask(shop, context(shop), SIMILAR, ("nowhere",))
    assert "like" not in vectors(unknown)


def test_the_cart_is_completed_from_baskets(shop: Shop) -> None:
    for n in range(5):
        met(shop, "Lamps-3", "Tea-9", kind=PURCHASE, shopper=f"buyer-{n}", days_ago=n)
    met(shop, "Lamps-3", kind=CART)
    of_context = lists(ask(shop, context(shop), CARTS))["together"]
    of_request = lists(ask(shop, context(shop, "stranger"), CARTS, ("Lamps-3",)))["together"]
    assert of_context[0] == of_request[0] == "Tea-9"


def test_what_is_bought_again_is_listed_where_shoppers_rebuy(shop: Shop) -> None:
    for n in range(12):
        for days_ago in (20, 2):
            met(shop, "Tea-3", kind=PURCHASE, shopper=f"buyer-{n}", days_ago=days_ago)
    met(shop, "Tea-4", "Tea-5", "Tea-6", "Tea-7", kind=PURCHASE, days_ago=9)
    met(shop, "Tea-4", kind=PURCHASE, days_ago=1)
    met(shop, "Tea-7", kind=CART)
    told = context(shop)
    again = lists(ask(shop, told))["again"]
    assert again[0] == "Tea-4"
    assert set(again) == {"Tea-4", "Tea-5", "Tea-6"}
    assert "Tea-4" not in told.seen_item_ids


def test_new_arrivals_are_new_and_near_the_profile_first(shop: Shop) -> None:
    met(shop, "Tea-3", "Tea-4")
    new = lists(ask(shop, context(shop), NEW))["new"]
    assert set(new) == {f"{category}-{n}" for category in CATEGORIES for n in range(2)}
    assert {name.split("-")[0] for name in new[:2]} == {"Tea"}
    newest = lists(ask(shop, context(shop, "stranger"), NEW))["new"]
    assert {name.split("-")[1] for name in newest[:3]} == {"0"}


def test_exploration_draws_new_items_of_the_shoppers_categories(shop: Shop) -> None:
    met(shop, "Tea-3", "Tea-4")
    told = context(shop)
    drawn: Counter[str] = Counter()
    propensity: dict[str, float] = {}
    for seed in range(300):
        (slot,) = ask(shop, told, seed=seed).explorations
        assert slot.position == shop.settings.explore_position
        drawn[slot.item_id] += 1
        propensity[slot.item_id] = slot.propensity
    assert set(drawn) == {"Tea-0", "Tea-1"}
    assert sum(propensity.values()) == pytest.approx(1, abs=1e-6)
    assert drawn["Tea-0"] / 300 == pytest.approx(propensity["Tea-0"], abs=0.12)


def test_exploration_is_off_by_setting_and_the_same_by_seed(shop: Shop) -> None:
    told = context(shop, "crowd-1")
    drawn = [[ask(shop, told, seed=seed).explorations[0].item_id for seed in range(20)] for _ in range(2)]
    assert drawn[0] == drawn[1]
    shop.settings = shop.settings.model_copy(update={"explore": False})
    answer = ask(shop, told)
    assert not answer.explorations
    assert "thompson" not in answer.policy


def test_exploration_leaves_out_what_was_seen_and_learns_from_clicks(shop: Shop) -> None:
    met(shop, "Tea-0", "Tea-3")
    assert {ask(shop, context(shop), seed=n).explorations[0].item_id for n in range(30)} == {"Tea-1"}
    shown = [types_pb2.ImpressionItem(item_id=f"Tea-{n}", position=n, score=1, propensity=1) for n in range(2)]
    for n in range(60):
        shop.log.impress([types_pb2.Impression(request_id=f"r{n}", items=shown)]).result(10)
        shop.record(event(f"click {n}", f"clicker-{n}", "Tea-1", kind=types_pb2.EVENT_TYPE_CLICK))
    shop.refresh()
    told = context(shop, "stranger")
    told.categories.add(name="Tea", share=1)
    drawn = Counter(ask(shop, told, seed=n).explorations[0].item_id for n in range(100))
    assert drawn["Tea-1"] > 80


@pytest.mark.parametrize("scene", [types_pb2.SCENE_PROMOTION, types_pb2.SCENE_CAMPAIGN, types_pb2.SCENE_SPONSORED])
def test_scenes_of_offers_look_for_what_home_does_and_explore_nothing(shop: Shop, scene: int) -> None:
    met(shop, "Tea-3")
    answer, home = ask(shop, context(shop), scene), ask(shop, context(shop))
    assert (lists(answer), set(vectors(answer))) == (lists(home), set(vectors(home)))
    assert home.explorations
    assert not answer.explorations


def test_a_campaign_is_neither_popular_nor_a_new_item(shop: Shop) -> None:
    campaign = item("Tea week", "Tea", age_days=1, popularity=99)
    campaign.attributes.add(name="kind", values=["campaign"])
    shop.put(campaign, towards(2))
    shop.refresh()
    answer = ask(shop, context(shop))
    assert all("Tea week" not in items for items in lists(answer).values())
    assert "Tea week" not in {newcomer.item for newcomer in shop.crowd.shelf.newcomers}


def test_a_profile_of_another_generation_is_made_anew(shop: Shop) -> None:
    met(shop, "Lamps-3", "Lamps-4")
    told = context(shop)
    told.profile.CopyFrom(pack_vector(towards(0, dim=5)))
    told.profile_space_version = "content-0"
    assert vectors(ask(shop, told))["profile"] @ towards(1, 99) > 0.9


def test_a_generation_without_topics_serves_the_dense_profile(shop: Shop) -> None:
    met(shop, "Lamps-3")
    assert set(vectors(ask(shop, context(shop), using=knowledge(topics=False)))) == {"profile"}


def test_an_empty_shop_has_nothing_to_look_for(tmp_path: Path) -> None:
    with Shop(tmp_path / "empty") as shop:
        answer = ask(shop, context(shop))
    assert (len(answer.lists), len(answer.vectors), len(answer.explorations)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"scene": 0}, "scene: 0 is not a scene"),
        ({"scene": 77}, "scene: 77 is not a scene"),
        ({"scene": SIMILAR}, "item_ids: holds 0; it must hold 1 to 100"),
        ({"scene": HOME, "item_ids": ["x"] * 101}, "item_ids: holds 101"),
        ({"scene": HOME, "item_ids": [""]}, "item_ids[0]: is empty"),
    ],
)
def test_malformed_requests_are_named(fields: dict[str, Any], problem: str) -> None:
    told = coldstart_pb2.ShopperContext(shopper_id="s", stage=types_pb2.STAGE_COLD)
    with pytest.raises(Invalid) as raised:
        check_candidates(coldstart_pb2.CandidatesRequest(context=told, **fields))
    assert str(raised.value).startswith(problem)
    with pytest.raises(Invalid, match=r"context\.stage: 0 is not a stage"):
        check_candidates(
            coldstart_pb2.CandidatesRequest(context=coldstart_pb2.ShopperContext(shopper_id="s"), scene=HOME)
        )
