"""What the words of a shop's titles are: numbers, units, describing words, and what kind of thing an item is."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import rjieba

from services.domain.words import fold
from souk.types.v1 import types_pb2

Phrase = tuple[str, ...]

_HAN = "一-鿿㐀-䶿"
_TOKEN = re.compile(rf"[{_HAN}]+|[^\W_{_HAN}]+(?:[-./'’+][^\W_{_HAN}]+)*")
# What is between two of these belongs together.
_BREAK = re.compile(r"[,;:|()\[\]{}，；：、（）【】!?。/]|\s[-–—]\s|\.\s")
_NUMBER = re.compile(r"\d+(?:[.,x×]\d+)*")
_QUANTITY = re.compile(rf"{_NUMBER.pattern}[a-z]{{0,3}}")
_FUNCTION_WORDS = frozenset(
    "a an and as at by for from in includes into is it of off on or per plus the to up w with your".split()  # noqa: SIM905
)
_LONGEST_KIND = 3
_LONGEST_UNIT = 5
_KINDS = 3
# A word is a unit, or describes, where so large a share of its places in titles says so.
_MOSTLY = 0.3


def pieces(text: str) -> list[list[str]]:
    """The words of a text as typed but folded, in the parts that punctuation makes of it; Chinese is segmented."""
    return [words for part in _BREAK.split(fold(text)) if (words := list(_words(part)))]


def typed(words: Sequence[str]) -> str:
    """Words as one types them: Chinese without spaces."""
    text = ""
    for word in words:
        text += f" {word}" if text and not (is_han(text[-1]) and is_han(word[0])) else word
    return text


def is_han(letter: str) -> bool:
    """Whether a character is Chinese."""
    return "一" <= letter <= "鿿" or "㐀" <= letter <= "䶿"


def is_number(word: str) -> bool:
    """Whether a word holds a digit."""
    return any(letter.isdigit() for letter in word)


def is_model(word: str) -> bool:
    """Whether a word looks like a model number: digits and letters that are no quantity, or five digits."""
    return is_number(word) and len(word) >= 4 and ((word.isdigit() and len(word) >= 5) or not _QUANTITY.fullmatch(word))


@dataclass(frozen=True)
class Wording:
    """What was learned of a shop's words."""

    describing: frozenset[str]
    """Words that are often the whole value of an attribute, measured by how often they stand in titles: colours,
    materials. Never those that name a category."""
    units: frozenset[str]
    """Words that mostly follow a number."""
    kinds: tuple[tuple[Phrase, ...], ...]
    """What kind of thing each item is, best name first: the leaf of its category, phrases of its title."""
    frequencies: dict[str, int]
    """Titles in which a word stands."""

    @classmethod
    def of(cls, items: Sequence[types_pb2.Item]) -> "Wording":
        """Learns the words of all items."""
        titles = [pieces(item.title) for item in items]
        frequencies, described, counted = Counter[str](), Counter[str](), Counter[str]()
        for item, title in zip(items, titles, strict=True):
            frequencies.update({word for piece in title for word in piece})
            described.update({fold(value) for attribute in item.attributes for value in attribute.values})
            pairs = (pair for piece in title for pair in pairwise(piece))
            counted.update({word for before, word in pairs if _NUMBER.fullmatch(before)})
        things = {word for item in items for word in leaf(item)}
        mostly = {word: _MOSTLY * count for word, count in frequencies.items() if not is_number(word)}
        describing = frozenset(w for w, least in mostly.items() if described[w] >= least and w not in things)
        units = frozenset(w for w, least in mostly.items() if counted[w] >= least and len(w) <= _LONGEST_UNIT)
        kinds = _kinds(items, titles, describing | units | _FUNCTION_WORDS)
        return cls(describing, units, kinds, dict(frequencies))

    def says_something(self, word: str) -> bool:
        """Whether a word may stand alone or at an end of a query."""
        return word not in _FUNCTION_WORDS and word not in self.units and (len(word) > 1 or is_han(word[0]))


def brand_words(item: types_pb2.Item) -> Phrase:
    """The brand as typed."""
    return tuple(word for piece in pieces(item.brand) for word in piece)


def leaf(item: types_pb2.Item) -> Phrase:
    """The item's category as typed; () without one."""
    return tuple(word for piece in pieces(item.category_path[-1]) for word in piece) if item.category_path else ()


def _words(part: str) -> Iterator[str]:
    for token in _TOKEN.findall(part):
        if is_han(token[0]):
            yield from rjieba.cut(token, False)
        else:
            yield token


def _kinds(
    items: Sequence[types_pb2.Item], titles: Sequence[list[list[str]]], never: frozenset[str]
) -> tuple[tuple[Phrase, ...], ...]:
    """Kinds by category and title.

    A thing is named at the end of a run of words ("toner cartridge" in "HP 12A toner cartridge black"); of such ends
    the ones that are frequent, of several brands and of one piece come first.
    """
    ends = [_ends(item, title, never) for item, title in zip(items, titles, strict=True)]
    counts = Counter(end for one in ends for end in one)
    brands: dict[Phrase, set[str]] = defaultdict(set)
    for item, one in zip(items, ends, strict=True):
        for end in one:
            brands[end].add(item.brand)
    several = min(2, len({item.brand for item in items}))
    least = 3 if len(items) >= 500 else 2

    def merit(end: Phrase) -> tuple[float, Phrase]:
        # A longer phrase must hold on to most of what its last word alone would stand for.
        return counts[end] ** 0.5 * len(end) * counts[end] / counts[end[-1:]], end

    def names(item: types_pb2.Item, one: set[Phrase]) -> tuple[Phrase, ...]:
        good = sorted((end for end in one if counts[end] >= least and len(brands[end]) >= several), key=merit)
        return tuple(dict.fromkeys(filter(None, (leaf(item), *reversed(good)))))[:_KINDS]

    return tuple(names(item, one) for item, one in zip(items, ends, strict=True))


def _ends(item: types_pb2.Item, title: list[list[str]], never: frozenset[str]) -> set[Phrase]:
    own = set(brand_words(item))
    found: set[Phrase] = set()
    for piece in title:
        run: list[str] = []
        for word in [*piece, ""]:
            if (
                word
                and not is_number(word)
                and word not in never
                and word not in own
                and len(word) > 1 - is_han(word[0])
            ):
                run.append(word)
            elif run:
                found.update(tuple(run[-length:]) for length in range(1, min(len(run), _LONGEST_KIND) + 1))
                run = []
    return found
