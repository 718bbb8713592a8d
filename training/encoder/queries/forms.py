"""The forms in which an item may be asked for: what a person would type of its words, 1 to 5 of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from services.domain.words import fold, stem
from souk.types.v1 import types_pb2
from training.encoder.queries.wording import Phrase, Wording, brand_words, is_model, is_number, leaf, pieces, typed

TITLE, ATTRIBUTES, CATEGORY = "synthetic:title", "synthetic:attributes", "synthetic:category"

_MOST_WORDS = 5
_MOST_CHARACTERS = 60
# How often queries of 1 to 5 words are typed: most have two.
_LENGTHS = (0.0, 0.25, 0.4, 0.2, 0.1, 0.05)
_SPANS = 6
_DROPPED = 0.3
# The thing last is how most put it: "sony headphones" before "headphones sony".
_TURNED = 0.4
# Truths describe nothing.
_TRUTHS = frozenset({"yes", "no", "true", "false", "y", "n", "是", "否", "有", "无"})


@dataclass(frozen=True)
class Form:
    """One way to ask for an item, and where its words came from."""

    query: str
    source: str
    weight: float
    """How likely it is typed, against the other forms of the item."""


def forms(item: types_pb2.Item, kinds: tuple[Phrase, ...], wording: Wording, rng: np.random.Generator) -> list[Form]:
    """Every form of an item, each query once."""
    found: dict[str, Form] = {}
    for words, source, likely in _phrases(item, kinds, wording, rng):
        words = tuple(dict.fromkeys(words))
        query = typed(words)
        if not 1 <= len(words) <= _MOST_WORDS or not 2 <= len(query) <= _MOST_CHARACTERS or query in found:
            continue
        if len({stem(word) for word in words}) < len(words):
            continue
        if not any(wording.says_something(word) and not _plain(word) for word in words):
            continue
        found[query] = Form(query, source, _LENGTHS[len(words)] * likely)
    return list(found.values())


def _phrases(
    item: types_pb2.Item, kinds: tuple[Phrase, ...], wording: Wording, rng: np.random.Generator
) -> Iterator[tuple[Phrase, str, float]]:
    """Words, their source, and how likely they are typed against others as long."""
    brand = brand_words(item)
    category = leaf(item)
    for kind in kinds:
        source = CATEGORY if kind == category else TITLE
        yield kind, source, 1.0
        if brand:
            yield (*brand, *kind), source, 1.0
            yield (*kind, *brand), source, _TURNED
    kind = kinds[0] if kinds else ()
    yield from ((words, TITLE, likely) for words, likely in _title(item, kind, brand, wording, rng))
    for value in _values(item, wording):
        if kind:
            yield (*value, *kind), ATTRIBUTES, 1.0
            yield (*kind, *value), ATTRIBUTES, _TURNED
        if brand and kind:
            yield (*brand, *value, *kind), ATTRIBUTES, 1.0


def _title(
    item: types_pb2.Item, kind: Phrase, brand: Phrase, wording: Wording, rng: np.random.Generator
) -> Iterator[tuple[Phrase, float]]:
    """Model numbers, what the title says of the kind, spans of the title, some words of it dropped."""
    title = pieces(item.title)
    for word in dict.fromkeys(word for piece in title for word in piece if is_model(word)):
        yield (word,), 1.0
        yield (*brand, word), 1.0
        yield (*brand, *kind, word), 1.0
    said = [
        word
        for word in dict.fromkeys(word for piece in title for word in piece)
        if wording.says_something(word) and not _plain(word) and word not in kind and word not in brand
    ]
    if kind and said:
        # The rarer a word, the more it says.
        rarity = np.array([1 / np.log(2 + wording.frequencies[word]) for word in said])
        for word in rng.choice(said, min(3, len(said)), replace=False, p=rarity / rarity.sum()).tolist():
            yield (word, *kind), 1.0
            yield (*kind, word), _TURNED
            yield (*brand, word, *kind), 1.0
    for piece in title:
        for number, unit in pairwise(piece):
            if kind and is_number(number) and unit in wording.units:
                yield (number, unit, *kind), 1.0
    for _ in range(_SPANS if title else 0):
        piece = title[int(rng.integers(len(title)))]
        begin = int(rng.integers(len(piece)))
        span = piece[begin : begin + int(rng.choice(len(_LENGTHS), p=_LENGTHS))]
        if rng.random() < _DROPPED and len(span) > 2:
            span.pop(int(rng.integers(1, len(span) - 1)))
        if span and wording.says_something(span[0]) and wording.says_something(span[-1]):
            yield tuple(span), 1.0


def _values(item: types_pb2.Item, wording: Wording) -> Iterator[Phrase]:
    """Values of attributes that describe in one or two words."""
    for attribute in item.attributes:
        for value in attribute.values:
            words = tuple(word for piece in pieces(value) for word in piece)
            if not words or len(words) > 2 or _TRUTHS.issuperset(words):
                continue
            if fold(value) in wording.describing or not any(map(is_number, words)):
                yield words


def _plain(word: str) -> bool:
    """Whether a word is a bare number, which names nothing."""
    return is_number(word) and not is_model(word)
