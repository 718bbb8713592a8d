"""Words meet however they are written."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.words import analyse, words


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("headphone", "Wireless Headphones"),
        ("shoes", "a shoe"),
        ("berries", "Berry bowl"),
        ("cafe", "Café au lait cup"),
        ("ＡＢＣ", "abc blocks"),
        ("𝕊𝕠𝕗𝕒", "sofa"),
        ("wh1000xm4", "Sony WH-1000XM4"),
        ("1000xm4", "Sony WH-1000XM4"),
        ("WH-1000XM4", "sony wh1000xm4"),
        ("耳机", "无线蓝牙耳机"),
        ("蓝牙 耳机", "无线蓝牙耳机 pro"),
        ("耳机", "sony耳机wh-1000xm4"),
        ("wh1000xm4", "sony耳机wh-1000xm4"),
    ],
)
def test_a_query_shares_a_term_with_what_it_means(query: str, title: str) -> None:
    assert set(analyse(query)) & set(analyse(title))


@pytest.mark.parametrize(
    "forms",
    [
        ("13.3 inch", '13.3"', "13.3in", "13,3 inch", "13.3-inch", "13.3 in", "13.30 inches", "１３．３英寸", "13.3”"),
        ("1 TB", "1tb", "1000 GB", "1,000GB", "1000000 MB"),
        ("3 m", "3m", "300 cm", "3000mm", "3米"),
        ("2.4 GHz", "2400MHz", "2,4ghz"),
        ("1.5 kg", "1500g", "1500 grams", "1.5公斤"),
        ("300 W", "0.3 kW", "300 watts"),
    ],
)
def test_a_quantity_is_one_however_it_is_written(forms: tuple[str, ...]) -> None:
    assert len({words(form)[0].whole for form in forms}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("1 TB", "1024 GB"), ("13.3 inch", "33.8 cm"), ("1 lb", "16 oz"), ("256GB", "256 MB"), ("3 m", "3")],
)
def test_what_is_not_exactly_the_same_is_another_quantity(one: str, other: str) -> None:
    assert words(one)[0].whole != words(other)[0].whole


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("13.3 laptop", '13.3" notebook'),
        ("13 inch", "13.3in"),
        ("bluetooth 5.0", "Bluetooth 5"),
        ("iphone 6", "iPhone 5,6,7"),
        ("数据线", "5米数据线"),
        ("升级", "3升级"),
        ("连衣", "红色连衣裙"),
        ("连衣裙", "连衣"),
        ("t-shirts", "tshirt"),
        ("wh-1000xm4", "WH-1000XM4/B"),
    ],
)
def test_parts_meet(query: str, title: str) -> None:
    assert set(analyse(query)) & set(analyse(title))


def test_a_preposition_is_no_inch() -> None:
    assert [word.whole for word in words("2 in 1 laptop")] == ["2", "in", "1", "laptop"]


@given(st.decimals(0, 10_000, places=2).map(lambda number: f"{number.normalize():f}"))
def test_any_number_meets_itself_with_a_comma_a_space_or_a_unit(number: str) -> None:
    told = words(f"{number} gb")[0].whole
    assert words(f"{number}GB")[0].whole == told
    assert words(number.replace(".", ",") + "gb")[0].whole == told
    assert words(number)[0].whole in analyse(f"{number}gb")


def test_repeats_and_order_are_kept() -> None:
    assert analyse("red red mug") == ["red", "red", "mug"]


def test_other_words_do_not_meet() -> None:
    assert not set(analyse("mug")) & set(analyse("rug"))
    assert not set(analyse("耳机")) & set(analyse("手机"))


@given(st.text(max_size=200))
def test_any_text_has_clean_terms(text: str) -> None:
    for term in analyse(text):
        assert term
        assert term == term.casefold()
        assert not any(c.isspace() for c in term)


def test_threads_do_not_mix_words() -> None:
    forms = [f"{stem}{ending}" for stem in ("walk", "jump", "paint", "print") for ending in ("ing", "ed", "s")] * 50
    alone = [analyse(form) for form in forms]
    from services.domain.words import stem

    stem.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(analyse, forms)) == alone
