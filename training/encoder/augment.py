"""Queries as others would have typed them: with a slip, in another order, in another word."""

from collections.abc import Mapping, Sequence

import numpy as np

# The keys beside each letter on a QWERTY keyboard.
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_BESIDE: dict[str, str] = {
    letter: "".join(row[max(0, i - 1) : i] + row[i + 1 : i + 2])
    for row in _ROWS
    for i, letter in enumerate(row)
}  # fmt: skip
# Shorter words are left as they are: one slip makes another word of them.
_MIN_LETTERS = 4


def with_typo(query: str, rng: np.random.Generator) -> str:
    """One letter left out, doubled, swapped with the next or hit beside its key, in a word of four letters or more.

    Words that hold a digit are left alone: a model number with a slip is another model.
    """
    words = query.split(" ")
    open_to = [i for i, word in enumerate(words) if len(word) >= _MIN_LETTERS and word.isascii() and word.isalpha()]
    if not open_to:
        return query
    chosen = open_to[rng.integers(len(open_to))]
    word = words[chosen]
    # The first letter is seldom wrong.
    at = int(rng.integers(1, len(word) - 1))
    beside = _BESIDE[word[at].lower()]
    slips = (
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + beside[rng.integers(len(beside))] + word[at + 1 :],
    )
    words[chosen] = slips[rng.integers(len(slips))]
    return " ".join(words)


def in_another_order(query: str, rng: np.random.Generator) -> str:
    """Two neighbouring words change places; a query of one word stays."""
    words = query.split(" ")
    if len(words) < 2:
        return query
    at = int(rng.integers(len(words) - 1))
    words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def in_another_word(query: str, synonyms: Mapping[str, Sequence[str]], rng: np.random.Generator) -> str:
    """One word replaced by one of its synonyms; the same where no word has any."""
    words = query.split(" ")
    open_to = [i for i, word in enumerate(words) if word.lower() in synonyms]
    if not open_to:
        return query
    chosen = open_to[rng.integers(len(open_to))]
    others = synonyms[words[chosen].lower()]
    words[chosen] = others[int(rng.integers(len(others)))]
    return " ".join(words)
