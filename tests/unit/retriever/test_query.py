"""What was meant is found, what was written comes first, and no number becomes another."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.domain.search import read_synonyms
from services.domain.words import analyse
from services.retriever.query import NO_SYNONYMS, Synonyms
from tests.unit.retriever.items import make_item
from tests.unit.retriever.test_lexical import Shelf

NAMES = ("headphones", "keyboard", "running", "kettle", "lamp", "umbrella", "wireless", "batteries")
NUMBERS = ("WH-1000XM4", "WH-1000XM5", "M402dn", "1234567", "iPhone13")


def shelf(*titles: str, **fields: object) -> Shelf:
    """Items called by their titles."""
    made = Shelf()
    for title in titles:
        made.write(make_item(title, title=title, **fields))
    return made


def found(shelf: Shelf, query: str, synonyms: Synonyms = NO_SYNONYMS) -> list[str]:
    columns = shelf.columns.view()
    slots = shelf.words.view().search(query, columns.shown, columns, 10, synonyms=synonyms).slots
    return [shelf.columns.ids[slot] for slot in slots]


def certainty(shelf: Shelf, query: str) -> float:
    columns = shelf.columns.view()
    return shelf.words.view().search(query, columns.shown, columns, 10).certainty


@st.composite
def faulty(draw: st.DrawFn) -> tuple[str, str]:
    """A word and the word with one letter wrong, missing, too many, or changed round with the next."""
    word = draw(st.sampled_from(NAMES))
    place = draw(st.integers(0, len(word) - 1))
    letter = draw(st.sampled_from("qxjz"))
    before, rest = word[:place], word[place:]
    forms = [
        before + letter + rest,
        before + letter + rest[1:],
        before + rest[1:],
        before + rest[1:2] + rest[:1] + rest[2:],
    ]
    return word, draw(st.sampled_from([form for form in forms if len(form) >= 4]))


NAMED = shelf(*NAMES)
NUMBERED = shelf(*NUMBERS)


@settings(deadline=None)
@given(faulty())
def test_a_fault_of_one_letter_still_finds(words: tuple[str, str]) -> None:
    right, wrong = words
    assert found(NAMED, wrong) == [right]
    assert certainty(NAMED, right) == 1
    assert 0 < certainty(NAMED, wrong) <= 1


@given(st.sampled_from(NUMBERS), st.integers(0, 9), st.sampled_from("0123456789abc"))
def test_no_number_and_no_model_number_becomes_another(number: str, place: int, sign: str) -> None:
    place %= len(number)
    other = number[:place] + sign + number[place + 1 :]
    assume(any(letter.isdigit() for letter in other))
    for held in found(NUMBERED, other):
        assert set(analyse(held)) & set(analyse(other)), (held, other)


def test_two_faults_are_forgiven_in_long_words_alone() -> None:
    shop = shelf("headphones", "kettle")
    assert found(shop, "hedfones") == []
    assert found(shop, "hedphoness") == ["headphones"]
    assert found(shop, "kettel") == ["kettle"]
    assert found(shop, "ketle x") == ["kettle"]
    assert found(shop, "katel") == []


def test_what_the_catalogue_has_is_not_corrected() -> None:
    assert found(shelf("lamp", "lamb", "damp"), "lamb") == ["lamb"]


def test_a_fault_of_the_catalogue_does_not_hide_the_rest() -> None:
    shop = shelf("hedphones")
    for number in range(60):
        shop.write(make_item(f"right{number}", title="headphones", popularity=number))
    assert found(shop, "hedphones")[:2] == ["hedphones", "right59"]


def test_a_corrected_word_counts_less_than_one_as_written() -> None:
    shop = shelf("red lamp", "blue kettle")
    assert shop.find("kettel") == pytest.approx({"blue kettle": 0.6 * shop.find("kettle")["blue kettle"]}, rel=1e-5)
    assert certainty(shop, "kettel") == pytest.approx(0.6)
    assert 0.6 < certainty(shop, "kettel red") < 1


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("head phones", "headphones"),
        ("headphones", "head phones"),
        ("wi-fi router", "wifi router"),
        ("wifi router", "wi-fi router"),
        ("key board", "Keyboards"),
        ("usbcable", "usb cable"),
        ("wh 1000 xm4", "WH-1000XM4"),
        ("wh1000xm4", "WH 1000 XM4"),
        ("wh-1000xm4", "WH 1000XM4"),
        ("iphone13", "iPhone 13"),
        ("iphone 13", "iPhone13"),
        ("t shirt", "t-shirt"),
    ],
)
def test_words_meet_apart_and_joined(query: str, title: str) -> None:
    assert found(shelf(title, "red lamp", "garden chair"), query) == [title]


def test_a_whole_number_wins_over_its_parts() -> None:
    shop = shelf("WH-1000XM4", "WH-1000XM5", "XM4 cable", "1000 tables", "wh cable 1000 xm4 set")
    for query in ("wh-1000xm4", "WH1000XM4", "wh 1000 xm4"):
        assert found(shop, query)[0] == "WH-1000XM4"


def test_joining_words_join_nothing() -> None:
    assert found(shelf("mat for cats", "format"), "for mat") == ["mat for cats"]


def test_words_like_for_say_next_to_nothing() -> None:
    shop = shelf("red bag for her", "white watch men steel", "white watch women steel", "white kettle", "width gauge")
    assert found(shop, "watch for men")[0] == "white watch men steel"
    assert found(shop, "red for")[0] == "red bag for her"
    assert found(shop, "with") == []


def test_the_s_of_a_possessive_is_no_word() -> None:
    shop = shelf("men jacket", "men belt", "white shirt", "size s")
    for query in ("men's shirt", "men’s shirt", "mens shirt"):
        assert found(shop, query)[0] == "white shirt", query


def whole(shelf: Shelf, query: str, synonyms: Synonyms = NO_SYNONYMS) -> set[str]:
    columns = shelf.columns.view()
    matches = shelf.words.view().search(query, columns.shown, columns, 10, synonyms=synonyms)
    return {shelf.columns.ids[slot] for slot in matches.slots[matches.whole(matches.slots)]}


@pytest.mark.parametrize(
    ("query", "holding"),
    [
        ("red watch", {"red steel watch", "red watches for men"}),
        ("watch in red for men", {"red watches for men"}),
        ("red wacth", {"red steel watch", "red watches for men"}),
        ("wh-1000xm4", {"sony wh-1000xm4 black"}),
        ("wh 1000 xm4", {"sony wh-1000xm4 black"}),
        ("head phones", {"headphones", "phones for every head"}),
        ("telly stand", {"tv stand"}),
        ("red qqqqzzzz", set()),
        ("for", set()),
        ("gone", set()),
    ],
)
def test_it_is_told_who_holds_all_of_a_query(query: str, holding: set[str]) -> None:
    shop = shelf("red steel watch", "red watches for men", "blue watch", "red kettle", "sony wh-1000xm4 black")
    for title in ("wh cable 1000", "headphones", "phones for every head", "tv stand", "stand", "gone"):
        shop.write(make_item(title, title=title))
    shop.remove("gone")
    assert whole(shop, query, Synonyms(read_synonyms("tv, telly"))) == holding


SAME = Synonyms(read_synonyms("tv, television\ncell phone, mobile\n连衣裙, 裙子\n"))


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("tv", ["tv stand", "television"]),
        ("television", ["television", "tv stand"]),
        ("televisions", ["television", "tv stand"]),
        ("mobile", ["mobile", "cell phone"]),
        ("cell phone", ["cell phone", "mobile", "phone box"]),
        ("裙子", ["裙子", "连衣裙"]),
    ],
)
def test_a_synonym_finds_behind_the_word_itself(query: str, order: list[str]) -> None:
    shop = shelf("tv stand", "television", "mobile", "cell phone", "phone box", "裙子", "连衣裙")
    assert found(shop, query, SAME) == order


def test_items_of_the_brand_come_first_and_words_still_count_more() -> None:
    shop = Shelf()
    shop.write(make_item("for sony", title="sony sony sony case", brand="Other"))
    shop.write(make_item("headphones", title="headphones", brand="Sony"))
    shop.write(make_item("case", title="sony headphones case", brand="Other"))
    shop.write(make_item("drive", title="portable drive", brand="Western Digital"))
    shop.write(make_item("digital", title="western digital clock", brand="Tick"))
    assert found(shop, "sony")[0] == "headphones"
    assert found(shop, "sony case")[0] in ("for sony", "case")
    assert found(shop, "western digital")[0] == "drive"


def test_a_query_of_nonsense_is_answered_soon() -> None:
    assert found(NAMED, " ".join(f"zzqqx{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(60))) == []
