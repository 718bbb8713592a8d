"""Words of a shop that mean the same, found in its own catalogue: near for the encoder, and kept in like company."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, takewhile
from pathlib import Path
from typing import ClassVar

import numpy as np

from services.domain.checks import Invalid
from services.domain.search import read_synonyms as groups_of
from services.domain.words import analyse, fold, stem
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.encoder.config import Config
from training.encoder.model import Model, encode

# Shorter ones are codes more often than words.
_WORD = re.compile(r"[a-z]{4,}|[一-鿿]+")
# A chain of words near each other drifts: a group that grows longer is no group.
_LONGEST_GROUP = 6
# Letters that siblings share at one end, and those in which two spellings of one word may differ.
_ALIKE, _SPELLING = 3, 2


@dataclass(frozen=True)
class SynonymsConfig(Config):
    """What counts as the same."""

    min_items: int = 5
    """Items whose text holds the word."""
    max_words: int = 5_000
    """The most frequent ones."""
    nearness: float = 0.65
    """Lowest cosine of the two words for the encoder."""
    company: float = 0.3
    """Lowest cosine of what stands beside them in the shop."""
    together: float = 0.1
    """At most this share of the rarer word's items holds the other, too: who says both means two things."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "min_items": (2, 1_000_000),
        "max_words": (2, 20_000),
        "nearness": (0, 1),
        "company": (0, 1),
        "together": (0, 1),
    }


def mine_synonyms(items: Sequence[types_pb2.Item], model: Model, config: SynonymsConfig) -> list[tuple[str, ...]]:
    """Groups of words that mean the same, each of two to six, the words of a group in order of how many items say them.

    Two words are taken for the same where the encoder finds them near, where the words that stand beside them in
    titles are alike (cosine of positive pointwise mutual information, Bullinaria and Levy 2007), and where items
    seldom say both. Values of one attribute (red and blue) are never the same, nor are siblings (singlepack and
    multipack), nor a word and its own plural, which the lexical index makes one already. What is left still holds
    opposites and rivals now and then: it is for somebody to read.
    """
    texts = [_words(f"{item.title} {item.description}") for item in items]
    counts = Counter(word for text in texts for word in text)
    vocabulary = [word for word, count in counts.most_common(config.max_words) if count >= config.min_items]
    if len(vocabulary) < 2:
        return []
    number = {word: i for i, word in enumerate(vocabulary)}
    company, both = _company([[number[word] for word in text if word in number] for text in texts], len(vocabulary))
    vectors = encode(model, vocabulary, max_tokens=16)
    apart = _values_of_one_attribute(items, number)
    pairs = []
    for row, word in enumerate(vocabulary):
        near = np.flatnonzero(vectors[row + 1 :] @ vectors[row] >= config.nearness) + row + 1
        for other in near.tolist():
            if stem(word) == stem(vocabulary[other]) or (row, other) in apart or _siblings(word, vocabulary[other]):
                continue
            # The rarer of the two is the later one.
            if both[row, other] <= config.together * counts[vocabulary[other]]:
                alike = float(company[row] @ company[other])
                if alike >= config.company:
                    pairs.append((alike, row, other))
    return [tuple(vocabulary[row] for row in group) for group in _groups(pairs)]


def write_synonyms(path: Path, groups: Sequence[Sequence[str]]) -> None:
    """Writes the groups as `SearchManifest.synonyms` wants them: a line each, separated by commas."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    draft.write_text("".join(", ".join(group) + "\n" for group in groups), encoding="utf-8")
    os.replace(draft, path)


def read_synonyms(path: Path) -> dict[str, list[str]]:
    """Each word of the file with the others of its groups. Raises ValueError with the line named."""
    try:
        groups = groups_of(path.read_text(encoding="utf-8"))
    except (Invalid, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    found: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        for word in group:
            found[fold(word)].extend(other for other in group if other != word)
    return dict(found)


def _words(text: str) -> set[str]:
    """Words of letters as they stand, Chinese ones as the lexical index cuts them."""
    found: set[str] = set()
    for run in _WORD.findall(fold(text)):
        found.update([run] if run.isascii() else analyse(run))
    return found


def _siblings(one: str, other: str) -> bool:
    """Whether they begin or end alike and differ by more than a spelling does: names of one line of products."""
    begin, end = (
        sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
        for a, b in ((one, other), (one[::-1], other[::-1]))
    )
    differ = max(len(one), len(other)) - min(begin + end, len(one), len(other))
    return one.isascii() and max(begin, end) >= _ALIKE and differ > _SPELLING


def _company(texts: Sequence[Sequence[int]], words: int) -> tuple[Float32, Float32]:
    """What stands beside each word, rows of length 1, and how many texts hold both: (words, words) each."""
    both = np.zeros((words, words), np.float32)
    for text in texts:
        if text:
            both[np.ix_(text, text)] += 1
    alone = np.diagonal(both).copy()
    np.fill_diagonal(both, 0)
    expected = np.outer(alone, alone) / max(len(texts), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.nan_to_num(np.maximum(np.log(both / expected), 0), posinf=0, neginf=0)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return found.astype(np.float32), both


def _values_of_one_attribute(items: Sequence[types_pb2.Item], number: dict[str, int]) -> set[tuple[int, int]]:
    """Pairs of words, the lower number first, that are values of the same attribute."""
    values: dict[str, set[int]] = defaultdict(set)
    for item in items:
        for attribute in item.attributes:
            values[attribute.name].update(number[fold(value)] for value in attribute.values if fold(value) in number)
    return {pair for rows in values.values() for pair in combinations(sorted(rows), 2)}


def _groups(pairs: Sequence[tuple[float, int, int]]) -> list[list[int]]:
    """Words joined by pairs, the most alike first; a pair that would make a group too long is left out."""
    group: dict[int, list[int]] = {}
    for _, one, other in sorted(pairs, reverse=True):
        a, b = group.get(one, [one]), group.get(other, [other])
        if a is not b and len(a) + len(b) <= _LONGEST_GROUP:
            for word in (joined := sorted([*a, *b])):
                group[word] = joined
    return sorted({tuple(rows): rows for rows in group.values()}.values())
