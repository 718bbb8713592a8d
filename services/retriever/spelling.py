"""Words of the catalogue by how they are spelt: which of them a misspelt word may have been.

A distance is the number of letters wrong, missing or too many, two neighbours changed round counting one (optimal
string alignment; Damerau 1964). Words that cannot be near are passed over by which letters they hold, the rest are
compared all at once: 0.7 to 2.2 ms over 300,000 words (2 vCPU AMD EPYC, 2026-11-22).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.retriever.growing import Growing

MIN_LETTERS = 4
MAX_LETTERS = 24
# From so many letters on two faults are one too few to make it another word.
TWO_FAULTS_LETTERS = 8


def faults_allowed(word: str) -> int:
    """How many faults a word of this length may have."""
    if not MIN_LETTERS <= len(word) <= MAX_LETTERS:
        return 0
    return 2 if len(word) >= TWO_FAULTS_LETTERS else 1


def is_correctable(word: str) -> bool:
    """Whether a word is one of letters alone and of a length that is kept here."""
    return MIN_LETTERS <= len(word) <= MAX_LETTERS and word.isalpha() and max(word) <= "\uffff"


@dataclass(frozen=True)
class SpellingView:
    """The words as they were at one moment, one a row: letters, which letters, how many, and the term of each."""

    letters: NDArray[np.uint16]
    held: NDArray[np.uint32]
    lengths: NDArray[np.uint8]
    terms: NDArray[np.int32]

    def near(self, word: str, faults: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Rows of the words that are at most so many faults away (1 or 2), and how many each is; the word itself is
        not among them."""
        letters, held, _ = _encoded([word])
        # A wrong letter changes two bits of those held at most.
        unlike = np.bitwise_count(self.held ^ held[0])
        apart = np.abs(self.lengths.astype(np.int16) - len(word))
        rows = np.flatnonzero((unlike <= 2 * faults) & (apart <= faults))
        table = _last_row(letters[0, : len(word)], self.letters[rows], faults)
        distances = np.full(len(rows), faults + 1, dtype=np.uint8)
        for length, counted in table.items():
            ending = np.flatnonzero(self.lengths[rows] == length)
            distances[ending] = counted[ending]
        near = np.flatnonzero((distances > 0) & (distances <= faults))
        return rows[near], distances[near]

    def beginning_near(self, word: str, faults: int) -> NDArray[np.int64]:
        """Rows of the words that begin with something at most so many faults away, the first letter being right."""
        letters, held, _ = _encoded([word])
        missing = np.bitwise_count(held[0] & ~self.held)
        rows = np.flatnonzero((self.letters[:, 0] == letters[0, 0]) & (missing <= faults))
        table = _last_row(letters[0, : len(word)], self.letters[rows], faults)
        near = [counted <= faults for counted in table.values()]
        return rows[np.flatnonzero(np.logical_or.reduce(near))]

    def word(self, row: int) -> str:
        """The word of a row."""
        return "".join(map(chr, self.letters[row, : self.lengths[row]]))


class Spelling:
    """The writer's side: words are only added."""

    def __init__(self) -> None:
        self._letters = Growing(np.uint16, width=MAX_LETTERS)
        self._held = Growing(np.uint32)
        self._lengths = Growing(np.uint8)
        self._terms = Growing(np.int32)

    @property
    def size(self) -> int:
        """How many words there are."""
        return self._terms.size

    def add(self, terms: Mapping[str, int]) -> None:
        """Words that are new, each of which `is_correctable`, and the number of each's term."""
        if not terms:
            return
        letters, held, lengths = _encoded(list(terms))
        self._letters.extend(letters)
        self._held.extend(held)
        self._lengths.extend(lengths)
        self._terms.extend(np.fromiter(terms.values(), np.int32, len(terms)))

    def view(self) -> SpellingView:
        """The words as they are now."""
        return SpellingView(self._letters.view(), self._held.view(), self._lengths.view(), self._terms.view())


def _encoded(words: list[str]) -> tuple[NDArray[np.uint16], NDArray[np.uint32], NDArray[np.uint8]]:
    """Letters of shape (words, MAX_LETTERS), zeros behind the last; a bit for each letter held; how many letters.

    Letters beyond the basic plane are no word's here: in a query they are like no other.
    """
    points = np.array(words, dtype=f"U{MAX_LETTERS}").view(np.uint32).reshape(len(words), MAX_LETTERS)
    letters = np.minimum(points, 0xFFFF).astype(np.uint16)
    bits = np.where(letters > 0, np.uint32(1) << (letters & 31).astype(np.uint32), np.uint32(0))
    held = np.bitwise_or.reduce(bits, axis=1)
    return letters, held, np.count_nonzero(letters, axis=1).astype(np.uint8)


def _last_row(word: NDArray[np.uint16], others: NDArray[np.uint16], most: int) -> dict[int, NDArray[np.uint8]]:
    """How many faults are between a word (letters,) and the first j letters of each of `others` (others, MAX_LETTERS),
    by j; more than `most` reads as more, not how many. Only cells of the table within `most` of its diagonal can lead
    to so few."""
    far = np.uint8(most + 1)
    size, columns = len(word), np.ascontiguousarray(others.T)
    outside = np.full(len(others), far, dtype=np.uint8)
    # before[j], row[j], ... : faults between the first letters of the word and the first j of the other.
    earlier: dict[int, NDArray[np.uint8]] = {}
    before = {j: np.full(len(others), j, dtype=np.uint8) for j in range(most + 1)}
    for i in range(1, size + 1):
        row: dict[int, NDArray[np.uint8]] = {}
        for j in range(max(0, i - most), min(MAX_LETTERS, i + most) + 1):
            if j == 0:
                row[0] = np.full(len(others), i, dtype=np.uint8)
                continue
            least = before.get(j - 1, outside) + (columns[j - 1] != word[i - 1])
            np.minimum(least, before.get(j, outside) + np.uint8(1), out=least)
            np.minimum(least, row.get(j - 1, outside) + np.uint8(1), out=least)
            if i > 1 and j > 1:
                swapped = (columns[j - 2] == word[i - 1]) & (columns[j - 1] == word[i - 2])
                around = np.where(swapped, earlier.get(j - 2, outside) + np.uint8(1), far)
                np.minimum(least, around, out=least)
            row[j] = least
        earlier, before = before, row
    return before
