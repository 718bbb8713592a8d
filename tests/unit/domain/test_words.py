"""Words meet however they are written."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.words import analyse


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
    words = [f"{stem}{ending}" for stem in ("walk", "jump", "paint", "print") for ending in ("ing", "ed", "s")] * 50
    alone = [analyse(word) for word in words]
    from services.domain.words import stem

    stem.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(analyse, words)) == alone
