"""Words of a text as the lexical index knows them: the same at index and at query time."""

import re
import threading
import unicodedata
from functools import lru_cache

import rjieba
import snowballstemmer

_HAN_RANGE = "一-鿿㐀-䶿"
_WORD = rf"[^\W_{_HAN_RANGE}]"
# A run of Chinese characters, or a word of letters and digits that may hold inner marks (wh-1000xm4, 13.3, o'neill).
_TOKEN = re.compile(rf"[{_HAN_RANGE}]+|{_WORD}+(?:[-./'’]{_WORD}+)*")
_HAN = re.compile(rf"[{_HAN_RANGE}]")
_INNER = re.compile(r"[-./'’]")
_ENGLISH = snowballstemmer.stemmer("english")
# The stemmer keeps the word it works on.
_STEMMING = threading.Lock()


def fold(text: str) -> str:
    """Lower case, full-width to half-width, accents off."""
    # Twice: styled capitals (𝕊) become letters first, and some letters fold into ones with accents.
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def analyse(text: str) -> list[str]:
    """Terms in order of appearance, repeats kept.

    Chinese runs are segmented, each long word followed by its shorter ones. A word with inner marks gives its parts
    and, joined, the whole, so that "WH-1000XM4", "wh1000xm4" and "1000xm4" meet.
    """
    terms: list[str] = []
    for match in _TOKEN.finditer(fold(text)):
        token = match.group()
        if _HAN.match(token):
            terms.extend(_segment(token))
        elif _INNER.search(token):
            parts = _INNER.split(token)
            terms.extend(stem(part) for part in parts if len(part) > 1 or part.isdigit())
            terms.append("".join(parts))
        else:
            terms.append(stem(token))
    return terms


@lru_cache(maxsize=65_536)
def _segment(run: str) -> tuple[str, ...]:
    return tuple(rjieba.cut_for_search(run, False))


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """The English stem (Porter 2, as in Snowball); words that are not English letters stay as they are."""
    if not word.isascii() or not word.isalpha():
        return word
    with _STEMMING:
        return str(_ENGLISH.stemWord(word))
