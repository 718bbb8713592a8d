"""What a query asks of the words of the catalogue: each part as it was written, and what else may have been meant.

A part is one word, or several that have a meaning together. Beside its words as written stand: those joined ("head
phones", "wh 1000 xm4") or taken apart ("usbcable", "iphone13"), synonyms, and, where the catalogue lacks a word, the
words it may have been meant to be. Words with a digit are never corrected: another number is another thing.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from services.domain.search import FUNCTION_WORD, MAX_BRAND_WORDS
from services.domain.words import FUNCTION_WORDS, Word, asked, stem
from services.retriever.brands import Brands
from services.retriever.spelling import SpellingView, faults_allowed

# What a match counts that is not one of the words as written.
SYNONYM = 0.8
JOINED = 0.8
# A whole model number says more than its pieces somewhere in a text.
MODEL = 1.25
CORRECTED = {1: 0.6, 2: 0.4}
"""By the number of faults."""

# A word that so few items hold may be their fault of spelling, if so many times more hold the one next to it.
RARE = 2
COMMON = 50
MAX_CORRECTIONS = 3
# Among words that it may have been meant to be those so many times rarer than the most common are not.
MUCH_RARER = 10
# Words of a query that are corrected at most: bounds what a query of nonsense costs.
MAX_CORRECTED = 8
# Words in one span.
# Words written as one: two of letters, or those of a model number.
MAX_JOINED = 4
MAX_PHRASE = 5
MIN_HALF = 3

_ATOM = re.compile(r"\d+|[^\W\d_]+")

Phrase = tuple[str, ...]


class Synonyms:
    """What else a phrase may be called; phrases by the terms of their words."""

    def __init__(self, groups: Iterable[Sequence[str]] = ()) -> None:
        self._others: dict[Phrase, list[Phrase]] = {}
        for group in groups:
            phrases = list(dict.fromkeys(tuple(word.whole for word in asked(phrase)) for phrase in group))
            for phrase in phrases:
                if 0 < len(phrase) <= MAX_PHRASE:
                    others = self._others.setdefault(phrase, [])
                    others.extend(other for other in phrases if other and other != phrase and other not in others)

    def of(self, phrase: Phrase) -> Sequence[Phrase]:
        """Other names of a phrase."""
        return self._others.get(phrase, ())


NO_SYNONYMS = Synonyms()


class Vocabulary(Protocol):
    """What the catalogue holds, as one search sees it."""

    @property
    def terms(self) -> Mapping[str, int]:
        """The number of each term."""

    @property
    def spelling(self) -> SpellingView:
        """The words by how they are spelt."""

    def holders(self, term: int) -> int:
        """How many live items hold a term."""

    def rarity(self, term: int) -> float:
        """What a match of a term counts for being rare, above 0."""

    def branded(self, term: int, codes: Sequence[int]) -> bool:
        """Whether a live item that holds a term is of one of these brands."""


@dataclass(frozen=True)
class Alternative:
    """Terms that may stand for a part, and what a match counts. `whole`: those that say all of it together; none where
    the catalogue lacks one. `together`: only for items that hold all of them."""

    terms: tuple[int, ...]
    whole: tuple[int, ...]
    factor: float = 1.0
    together: bool = False


@dataclass(frozen=True)
class Part:
    """A part of a query: an item has the best of what its alternatives give it, times `weight`. `certainty`: 1, less
    where the part is only known by a correction."""

    alternatives: tuple[Alternative, ...]
    certainty: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True)
class Query:
    """A query understood. `brands`: terms of the brand names in it, each with the brands' codes. `known`: whether every
    word of it that says something has a part."""

    parts: tuple[Part, ...]
    brands: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    known: bool


def understand(text: str, vocabulary: Vocabulary, synonyms: Synonyms, brands: Brands) -> Query:
    """What a query asks of the words of the catalogue."""
    return _Reader(asked(text), vocabulary, synonyms, brands).read()


class _Reader:
    """Reads one query from its first word to its last."""

    def __init__(self, query: list[Word], vocabulary: Vocabulary, synonyms: Synonyms, brands: Brands) -> None:
        self._query = query
        self._vocabulary = vocabulary
        self._synonyms = synonyms
        self._brands = brands
        # Words by their place, those corrected as the word that was most likely meant.
        self._meant = [word.whole for word in query]
        self._corrected = 0

    def read(self) -> Query:
        parts = []
        place = 0
        known = True
        while place < len(self._query):
            length, part = self._part_at(place)
            if part.alternatives:
                parts.append(part)
            elif part.weight == 1:
                known = False
            place += length
        return Query(tuple(parts), tuple(self._brands_in()), known)

    def _part_at(self, place: int) -> tuple[int, Part]:
        """The longest span from a place that means something together, or the word alone; how many words it has."""
        for length in range(min(MAX_PHRASE, len(self._query) - place), 0, -1):
            span = self._query[place : place + length]
            others = [*self._joined(span), *self._synonymous(span)]
            if others:
                return length, Part((*self._written(span), *others))
        return 1, self._single(place)

    def _written(self, span: Sequence[Word]) -> list[Alternative]:
        known = [number for word in span for number in self._known(word.terms)]
        whole = self._known(word.whole for word in span)
        return [Alternative(tuple(known), whole if len(whole) == len(span) else ())] if known else []

    def _joined(self, span: Sequence[Word]) -> list[Alternative]:
        """The words of a span written as one."""
        # "for mat" is no format.
        if not 1 < len(span) <= MAX_JOINED or any(word.text in FUNCTION_WORDS for word in span):
            return []
        if len(span) > 2 and all(word.letters for word in span):
            return []
        texts = [word.text for word in span]
        if any(one[-1].isdigit() and other[0].isdigit() for one, other in pairwise(texts)):
            return []
        number = self._live(stem("".join(texts)))
        if number is None:
            return []
        letters = all(word.letters for word in span)
        return [Alternative((number,), (number,), (JOINED if letters else MODEL) * self._worth(span, (number,)))]

    def _synonymous(self, span: Sequence[Word]) -> list[Alternative]:
        found = []
        for phrase in self._synonyms.of(tuple(word.whole for word in span)):
            numbers = [number for term in phrase if (number := self._live(term)) is not None]
            if len(numbers) == len(phrase):
                factor = SYNONYM * self._worth(span, numbers)
                found.append(Alternative(tuple(numbers), tuple(numbers), factor, len(phrase) > 1))
        return found

    def _worth(self, span: Sequence[Word], terms: Sequence[int]) -> float:
        """What terms must be multiplied by to count as the words of a span do: an item is not to stand before others
        for writing the same in a rarer way. Where the catalogue lacks a word of the span they count at least as they
        are."""
        live = [number for word in span if (number := self._live(word.whole)) is not None]
        ratio = sum(map(self._vocabulary.rarity, live)) / sum(map(self._vocabulary.rarity, terms))
        return ratio if len(live) == len(span) else max(1.0, ratio)

    def _single(self, place: int) -> Part:
        word = self._query[place]
        written = self._written([word])
        if word.text in FUNCTION_WORDS:
            # Not corrected either: "with" is no width.
            return Part(tuple(written), weight=FUNCTION_WORD)
        number = self._vocabulary.terms.get(word.whole)
        holders = 0 if number is None else self._vocabulary.holders(number)
        if holders > RARE:
            return Part(tuple(written))
        if not word.letters:
            return Part((*written, *(self._atoms(word) if not holders else ())))
        if holders:
            return Part((*written, *self._corrections(place, 1, COMMON * holders)))
        certainty = CORRECTED[1]
        others = self._corrections(place, 1, 1)
        if not others and (others := self._halves(word)):
            certainty = 1.0
        if not others:
            others, certainty = self._corrections(place, 2, 1), CORRECTED[2]
        return Part((*written, *others), certainty if others else 1.0)

    def _atoms(self, word: Word) -> list[Alternative]:
        """A model number taken apart between letters and digits, if the catalogue holds all of the pieces."""
        pieces = self._grouped([atom for part in word.parts for atom in _ATOM.findall(part)])
        return [Alternative(tuple(pieces), tuple(pieces), together=True)] if len(pieces) > 1 else []

    def _grouped(self, atoms: list[str]) -> list[int]:
        """Numbers of the terms that atoms make when taken together, longest first; empty where one is unknown."""
        numbers: list[int] = []
        place = 0
        while place < len(atoms):
            for end in range(len(atoms), place, -1):
                number = self._live(stem("".join(atoms[place:end])))
                if number is not None:
                    numbers.append(number)
                    place = end
                    break
            else:
                return []
        return numbers

    def _halves(self, word: Word) -> list[Alternative]:
        """Two words written as one, where the catalogue holds both: those of which the rarer is the most common."""
        best: tuple[int, tuple[int, ...]] = (0, ())
        for cut in range(MIN_HALF, len(word.text) - MIN_HALF + 1):
            halves = [self._live(stem(half)) for half in (word.text[:cut], word.text[cut:])]
            numbers = tuple(number for number in halves if number is not None)
            if len(numbers) == len(halves):
                best = max(best, (min(map(self._vocabulary.holders, numbers)), numbers))
        return [Alternative(best[1], best[1], together=True)] if best[1] else []

    def _corrections(self, place: int, faults: int, least: int) -> list[Alternative]:
        """Words that the one at a place may have been meant to be, which at least so many items hold."""
        word = self._query[place].text
        if faults_allowed(word) < faults or self._corrected >= MAX_CORRECTED:
            return []
        self._corrected += 1
        spelling, vocabulary = self._vocabulary.spelling, self._vocabulary
        rows, distances = spelling.near(word, faults)
        # By term: whether the first letter is right, which few get wrong; how many hold it; where it is.
        likely: dict[int, tuple[bool, int, int]] = {}
        for row, distance, number in zip(rows.tolist(), distances.tolist(), spelling.terms[rows].tolist(), strict=True):
            holders = vocabulary.holders(number) if distance == faults else 0
            if holders >= least:
                first = bool(spelling.letters[row, 0] == ord(word[0]))
                likely[number] = max(likely.get(number, (False, 0, 0)), (first, holders, row))
        if not likely:
            return []
        best_first, most, row = max(likely.values())
        if least == 1:
            self._meant[place] = stem(spelling.word(row))
        chosen = [
            number
            for number, (first, holders, _) in sorted(likely.items(), key=lambda entry: entry[1], reverse=True)
            if first == best_first and holders * MUCH_RARER >= most
        ]
        return [Alternative((number,), (number,), CORRECTED[faults]) for number in chosen[:MAX_CORRECTIONS]]

    def _brands_in(self) -> Iterable[tuple[tuple[int, ...], tuple[int, ...]]]:
        place = 0
        while place < len(self._query):
            for length in range(min(MAX_BRAND_WORDS, len(self._query) - place), 0, -1):
                codes = self._brands.codes(self._meant[place : place + length])
                terms = self._known(self._meant[place : place + length]) if codes else ()
                # Names outlive their items: one that no live item has must not hide a shorter one in it.
                if any(self._vocabulary.branded(term, codes) for term in terms):
                    yield terms, codes
                    break
            else:
                length = 1
            place += length

    def _known(self, terms: Iterable[str]) -> tuple[int, ...]:
        return tuple(number for term in terms if (number := self._vocabulary.terms.get(term)) is not None)

    def _live(self, term: str) -> int | None:
        number = self._vocabulary.terms.get(term)
        return number if number is not None and self._vocabulary.holders(number) else None
