"""A search is about the items whose titles hold its words."""

import pytest

from services.coldstart.titles import Titles


def filled() -> Titles:
    titles = Titles()
    for item, title in {
        "sofa": "blue sofa",
        "cover": "cover for a blue sofa, machine washable",
        "mug": "blue mug",
        "rug": "green rug",
        "tea": "绿茶 茶叶",
    }.items():
        titles.put(item, title)
    return titles


def test_most_words_first_and_of_equals_the_shorter_title() -> None:
    titles = filled()
    assert titles.find("Blue Sofas") == ["sofa", "cover"]
    assert titles.find("绿茶") == ["tea"]
    # A common word is less than half of what is asked for, and what no title holds says nothing.
    assert titles.find("blue rug") == ["rug"]
    assert titles.find("rug, please") == ["rug"]
    assert titles.find("nothing like it") == titles.find("?!") == []


def test_at_most_three_and_a_new_title_stands_for_the_old() -> None:
    titles = filled()
    for n in range(5):
        titles.put(f"lamp-{n}", "lamp")
    assert titles.find("lamp") == ["lamp-0", "lamp-1", "lamp-2"]
    titles.put("lamp-0", "candle")
    titles.put("lamp-1", "lamp")
    assert titles.find("lamp") == ["lamp-1", "lamp-2", "lamp-3"]
    assert titles.find("candle") == ["lamp-0"]


def test_titles_that_were_replaced_take_no_room_and_make_no_word_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.coldstart.titles._MIN_REPLACED", 10)
    monkeypatch.setattr("services.coldstart.titles._COMMON", 50)
    titles = filled()
    for n in range(500):
        titles.put("lamp", f"lamp of type{n}")
    assert titles.find("lamp type499") == ["lamp"]
    assert titles.find("type498") == []
    assert titles.find("Blue Sofas") == ["sofa", "cover"]
    assert len(titles._items) < 40
    assert sum(map(len, titles._postings.values())) < 120
