"""Questions tell of topics: the most telling comes first, and answers part the items as they say."""

import numpy as np
import pytest

from services.coldstart.log import Facts
from services.coldstart.onboarding import questions
from souk.vectors import Float32

TOPS = ("Shoes", "Lamps", "Tea", "Books")


def facts(category: str, brand: str = "", price: float | None = None) -> Facts:
    return Facts(1, "", brand, category, price, 0, True, 0)


def shop(n: int = 80) -> tuple[list[tuple[str, float]], dict[str, Facts], dict[str, Float32]]:
    """Items whose topic follows their category; brand and price are chance."""
    random = np.random.default_rng(0)
    popular, known, topics = [], {}, {}
    for number in range(n):
        top = number % 4
        category = f"{TOPS[top]} > Kind {number % 8 // 4}"
        known[f"i{number}"] = facts(category, f"brand {random.integers(3)}", float(random.integers(1, 100)))
        topic = np.full(8, 0.01, np.float32)
        topic[2 * top + number % 8 // 4] = 0.93
        topics[f"i{number}"] = topic
        popular.append((f"i{number}", float(n - number)))
    return popular, known, topics


def test_the_category_tells_most_and_then_what_parts_it_further() -> None:
    popular, known, topics = shop()
    asked = questions(popular, known, topics, frozenset(), 3)
    assert asked[0].question_id == "category"
    assert {choice.text for choice in asked[0].choices} == set(TOPS)
    assert all(question.question_id.startswith("category:") for question in asked[1:])
    assert len(asked) == 3


def test_where_the_brand_is_the_topic_the_brand_is_asked_for() -> None:
    popular, known, topics = shop()
    topics = {item: np.eye(3, dtype=np.float32)[int(known[item].brand[-1])] for item in known}
    assert questions(popular, known, topics, frozenset(), 1)[0].question_id == "brand"


def test_choices_stand_for_their_most_popular_items_that_are_not_seen() -> None:
    popular, known, topics = shop()
    first = questions(popular, known, topics, frozenset(["i0"]), 1)[0]
    for choice in first.choices:
        assert 1 <= len(choice.item_ids) <= 3
        members = [item for item, _ in popular if known[item].category.startswith(choice.text) and item != "i0"]
        assert list(choice.item_ids) == members[:3]


def test_without_topics_categories_stand_in_and_items_without_one_are_left_out() -> None:
    popular, known, topics = shop()
    assert questions(popular, known, {}, frozenset(), 1)[0].question_id == "category"
    few = {item: topics[item] for item in list(topics)[:4]}
    asked = questions(popular, known, few, frozenset(), 1)
    assert {item for choice in asked[0].choices for item in choice.item_ids} == set(few)


@pytest.mark.parametrize("k", [1, 4, 10])
def test_no_question_comes_twice_and_none_that_tells_nothing(k: int) -> None:
    popular, known, topics = shop()
    asked = [question.question_id for question in questions(popular, known, topics, frozenset(), k)]
    assert len(asked) == len(set(asked)) <= k
    same = {item: np.full(8, 0.125, np.float32) for item in known}
    assert questions(popular, known, same, frozenset(), k) == []
    assert questions([], {}, {}, frozenset(), k) == []


def test_prices_make_bands_that_cover_all() -> None:
    known = {f"i{n}": facts("", price=float(n)) for n in range(40)}
    topics = {f"i{n}": np.eye(4, dtype=np.float32)[n // 10] for n in range(40)}
    (asked,) = questions([(item, 1.0) for item in known], known, topics, frozenset(), 5)
    assert [choice.text for choice in asked.choices] == [
        "under 9.75",
        "9.75 to 19.50",
        "19.50 to 29.25",
        "29.25 and more",
    ]
    assert [choice.item_ids[0] for choice in asked.choices] == ["i0", "i10", "i20", "i30"]
