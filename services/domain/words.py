"""Words of a text as the lexical index knows them: the same at index and at query time."""

import re
import threading
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import chain

import rjieba
import snowballstemmer

# Goes up with every change of what `analyse` answers: an index that was saved by another version is of no use.
VERSION = 2

# Words that say how others belong together.
FUNCTION_WORDS = frozenset(
    ("a", "an", "and", "as", "at", "by", "for", "from", "in", "is", "it", "of", "on", "or", "the", "to", "with")
) | frozenset("的了和与及或")

_HAN_RANGE = "一-鿿㐀-䶿"
_WORD = rf"[^\W_{_HAN_RANGE}]"
_HAN = re.compile(rf"[{_HAN_RANGE}]")
_INNER = re.compile(r"[-.'’]")
# The s of men's is no word; a text is found by "mens", too.
_POSSESSIVE = re.compile(rf"(?<=[a-z])['’]s(?!{_WORD})")
_PIECE = re.compile(r"\d+|[^\W\d_]+")
# Pieces of a model number that are worth finding it by: 1000 of wh-1000xm4, not its 4.
_MIN_PIECE = 3
_ENGLISH = snowballstemmer.stemmer("english")
# The stemmer keeps the word it works on.
_STEMMING = threading.Lock()

# Unit as it is written -> the unit it is counted in, and how many of those it is. What is not exact stays apart: an
# inch is no number of centimetres, 1 TB is 1000 GB and not 1024.
_UNITS: dict[str, tuple[str, Decimal]] = {
    written: (unit, Decimal(factor))
    for unit, factor, names in (
        ("in", "1", ("inch", "inches", "in", '"', "''", "′′", "”", "“", "zoll", "英寸", "寸")),
        ("ft", "1", ("ft", "foot", "feet", "英尺")),
        ("m", "0.001", ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "毫米")),
        ("m", "0.01", ("cm", "centimeter", "centimeters", "centimetre", "centimetres", "厘米")),
        ("m", "1", ("m", "meter", "meters", "metre", "metres", "米")),
        ("m", "1000", ("km",)),
        ("kg", "0.001", ("g", "gram", "grams", "gr", "克")),
        ("kg", "1", ("kg", "kilo", "kilos", "kilogram", "kilograms", "公斤", "千克")),
        ("lb", "1", ("lb", "lbs", "pound", "pounds")),
        ("oz", "1", ("oz", "ounce", "ounces")),
        ("l", "0.001", ("ml", "milliliter", "milliliters", "millilitre", "millilitres", "毫升")),
        ("l", "0.01", ("cl",)),
        ("l", "1", ("l", "liter", "liters", "litre", "litres", "升")),
        ("gb", "0.001", ("mb", "megabyte", "megabytes")),
        ("gb", "1", ("gb", "gigabyte", "gigabytes")),
        ("gb", "1000", ("tb", "terabyte", "terabytes")),
        ("w", "1", ("w", "watt", "watts", "瓦")),
        ("w", "1000", ("kw", "kilowatt", "kilowatts", "千瓦")),
        ("v", "1", ("v", "volt", "volts", "伏")),
        ("a", "1", ("a", "amp", "amps", "ampere")),
        ("a", "0.001", ("ma",)),
        ("ah", "0.001", ("mah", "毫安")),
        ("ah", "1", ("ah",)),
        ("hz", "1", ("hz",)),
        ("hz", "1000", ("khz",)),
        ("hz", "1000000", ("mhz",)),
        ("hz", "1000000000", ("ghz",)),
        ("mp", "1", ("mp", "mpx", "mpix", "megapixel", "megapixels")),
        ("dpi", "1", ("dpi",)),
        ("rpm", "1", ("rpm",)),
        ("lm", "1", ("lm", "lumen", "lumens")),
        ("bit", "1", ("bit", "bits")),
    )
    for written in names
}
_HAN_UNITS = "|".join(sorted((name for name in _UNITS if _HAN.match(name)), key=len, reverse=True))
_MARKS = "|".join(re.escape(name) for name in _UNITS if not name[0].isalpha())
# "in" is a word of its own after a space, unless what stands before it is broken: 2 in 1, 13.3 in.
_LATIN_UNITS = "|".join(sorted((n for n in _UNITS if n.isascii() and n.isalpha() and n != "in"), key=len, reverse=True))
_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?)"
_END = rf"(?!{_WORD})"
_QUANTITY = re.compile(
    rf"(?P<number>{_NUMBER})(?:\s?(?P<mark>{_MARKS})|[\s-]?(?P<unit>{_LATIN_UNITS}|in)|\s?(?P<run>(?P<han>{_HAN_UNITS}).*))"
)
_BROKEN = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+[.,]\d+")
_TOKEN = re.compile(
    # A quantity: 13.3", 13,3 inch, 256GB, 2.4 GHz, 1000-mAh; 13.3 in, but not 2 in 1; 5米 with the run of Chinese
    # characters that begins with its unit.
    rf"{_NUMBER}(?:\s?(?:{_MARKS})|[\s-]?(?:{_LATIN_UNITS}){_END}|in{_END}|\s?(?:{_HAN_UNITS})[{_HAN_RANGE}]*)"
    rf"|\d+[.,]\d+[\s-]in{_END}"
    # A number with a decimal point or comma, or commas between its thousands.
    rf"|(?<!\d[.,])(?:{_BROKEN.pattern})(?![-.'’,]?{_WORD})"
    # A run of Chinese characters, or a word of letters and digits that may hold inner marks (wh-1000xm4, o'neill).
    rf"|[{_HAN_RANGE}]+|{_WORD}+(?:[-.'’]{_WORD}+)*"
)


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a text.

    `text`: folded, without inner marks; `terms`: what it is found by, the most telling last; `parts`: the words between
    its inner marks, itself where it has none; `letters`: whether it is a word of letters, which could be misspelt;
    `spelt`: how such a word and its parts are spelt, with the term of each; of any other nothing.
    """

    text: str
    terms: tuple[str, ...]
    parts: tuple[str, ...]
    letters: bool
    spelt: tuple[tuple[str, str], ...] = ()

    @property
    def whole(self) -> str:
        """The term that stands for all of it."""
        return self.terms[-1]


def fold(text: str) -> str:
    """Lower case, full-width to half-width, accents off."""
    if text.isascii():
        return text.lower()
    # Twice: styled capitals (𝕊) become letters first, and some letters fold into ones with accents.
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def words(text: str) -> list[Word]:
    """The words of a text in order of appearance."""
    return list(chain.from_iterable(map(_read, _TOKEN.findall(fold(text)))))


def asked(text: str) -> list[Word]:
    """The words of a query or a name: those joined by marks stand apart if they are all of letters."""
    apart: list[Word] = []
    for word in words(_POSSESSIVE.sub("s", fold(text))):
        if word.letters and len(word.parts) > 1:
            apart.extend(single for part in word.parts for single in _read(part))
        else:
            apart.append(word)
    return apart


def analyse(text: str) -> list[str]:
    """Terms in order of appearance, repeats kept.

    Words of English letters are stemmed. A word with inner marks gives its parts and, joined, the whole, so that
    "WH-1000XM4", "wh1000xm4" and "1000xm4" meet. A number with a unit gives the number and the quantity in one unit of
    its kind, so that "1 TB" and "1000GB" meet. Chinese runs are segmented; words of three characters and more, and
    runs of characters that make no known word, also give every pair of neighbours, so that 连衣裙 and 连衣 meet.
    """
    return [term for word in words(text) for term in word.terms]


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """The English stem (Porter 2, as in Snowball); words that are not English letters stay as they are."""
    if not word.isascii() or not word.isalpha():
        return word
    with _STEMMING:
        return str(_ENGLISH.stemWord(word))


@lru_cache(maxsize=262_144)
def _read(token: str) -> tuple[Word, ...]:
    """The words of what `_TOKEN` found."""
    if _HAN.match(token):
        return _segment(token)
    if measured := _QUANTITY.fullmatch(token):
        quantity = _quantity(measured["number"], measured["mark"] or measured["unit"] or measured["han"])
        return (quantity, *(_segment(measured["run"]) if measured["run"] else ()))
    if _BROKEN.fullmatch(token):
        return (_number(token),)
    parts = tuple(part for part in _INNER.split(token) if part)
    whole = "".join(parts)
    terms: list[str] = []
    for part in parts:
        if len(parts) == 1 or len(part) > 1 or part.isdigit():
            terms.append(stem(part))
        if not part.isalpha() and not part.isdigit():
            terms.extend(stem(piece) for piece in _PIECE.findall(part) if _MIN_PIECE <= len(piece) < len(part))
    spelt = tuple((part, stem(part)) for part in (whole, *parts)) if whole.isalpha() else ()
    return (Word(whole, _ending_in(stem(whole), terms), parts, bool(spelt), spelt),)


def _number(written: str) -> Word:
    value = _canonical(_value(written))
    whole, point, _ = value.partition(".")
    return Word(value, (whole, value) if point and whole != "0" else (value,), (value,), False)


def _quantity(number: str, written: str) -> Word:
    """A number with its unit: found by the number, too, as titles often leave the unit out."""
    unit, factor = _UNITS[written]
    value = _value(number)
    measured = f"{_canonical(value * factor)}{unit}"
    return Word(f"{_canonical(value)}{written}", _ending_in(measured, list(_number(number).terms)), (measured,), False)


def _value(number: str) -> Decimal:
    """13,3 and 13.3 are the same; 1,500 is a thousand and a half."""
    grouped = re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+(\.\d+)?", number)
    return Decimal(number.replace(",", "" if grouped else "."))


def _canonical(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _segment(run: str) -> tuple[Word, ...]:
    """The Chinese words of a run; characters that make no word with their neighbours stay together as one."""
    found = []
    unknown = ""
    for segment in (*rjieba.cut(run, False), ""):
        if len(segment) == 1:
            unknown += segment
            continue
        if unknown:
            terms = [*unknown, *_pairs(unknown)]
            found.append(Word(unknown, _ending_in(unknown, terms), (unknown,), False))
            unknown = ""
        if segment:
            terms = [*_pairs(segment), *rjieba.cut_for_search(segment, False)] if len(segment) > 2 else []
            found.append(Word(segment, _ending_in(segment, terms), (segment,), False))
    return tuple(found)


def _pairs(characters: str) -> list[str]:
    return [characters[i : i + 2] for i in range(len(characters) - 1)]


def _ending_in(whole: str, terms: list[str]) -> tuple[str, ...]:
    """Each term once, the whole last."""
    return (*dict.fromkeys(term for term in terms if term != whole), whole)
