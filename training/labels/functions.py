"""Labelling functions: what each seed word says of a text, straight, negated or before a contrast."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from training.labels.task import Ints, Task

_CLAUSE = re.compile(r"[,.;:!?，。；：！？、~～…\s]")
_ENGLISH_CLAUSE = re.compile(r"[,.;:!?]")
# What a negation reaches: characters of Chinese, words of English.
_REACH = {"zh": 4, "en": 4}
STRAIGHT, NEGATED, EARLIER = 0, 1, 2
_STATES = ("", " negated", " before a contrast")


@dataclass(frozen=True, slots=True)
class Votes:
    """Which function fired on which text: `fired` (texts, functions), bool, sparse; `says` (functions,): its class.

    The last `models` functions are what models say (see voters.py), the others are of seed words.
    """

    fired: sparse.csr_matrix
    says: Ints
    names: tuple[str, ...]
    models: int = 0

    def take(self, rows: Ints) -> "Votes":
        """Some of the texts, in that order."""
        return Votes(self.fired[rows], self.says, self.names, self.models)

    def words(self) -> "Votes":
        """What the seed words alone say."""
        count = len(self.says) - self.models
        return Votes(self.fired[:, :count], self.says[:count], self.names[:count])


def vote(task: Task, texts: Sequence[str]) -> Votes:
    """What the seed words say of each text.

    A word that a negation precedes in its clause speaks for the class's opposite, or not at all; what stands before the
    last contrast ("good, but ...") is a function of its own, since the label model may find it worth less.
    """
    words = [(word, place) for place, one in enumerate(task.classes) for word in one.words]
    says, names = [], []
    for word, place in words:
        opposite = task.classes[place].opposite
        for state, suffix in enumerate(_STATES):
            says.append(task.number(opposite) if state == NEGATED and opposite else place)
            names.append(word + suffix)
    finders = [_finder(word, task.language) for word, _ in words]
    contrast = _any(task.contrasts, task.language)
    negation = _any(task.negations, task.language)
    rows, columns = [], []
    for row, raw in enumerate(texts):
        text = raw.lower()
        turns = [match.start() for match in contrast.finditer(text)] if contrast else []
        for number, (word, place) in enumerate(words):
            if task.language == "zh" and word not in text:
                continue
            states = set()
            for match in finders[number].finditer(text):
                if negation and negation.search(_before(text, match.start(), task.language)):
                    if task.classes[place].opposite:
                        states.add(NEGATED)
                elif turns and match.start() < turns[-1]:
                    states.add(EARLIER)
                else:
                    states.add(STRAIGHT)
            rows += [row] * len(states)
            columns += [3 * number + state for state in states]
    ones = np.ones(len(rows), np.float64)
    fired = sparse.csr_matrix((ones, (rows, columns)), shape=(len(texts), len(says)))
    return Votes(fired, np.array(says), tuple(names))


def _before(text: str, start: int, language: str) -> str:
    """What a negation of the word at `start` would stand in."""
    if language == "zh":
        return _CLAUSE.split(text[max(0, start - _REACH["zh"]) : start])[-1]
    return " ".join(_ENGLISH_CLAUSE.split(text[max(0, start - 60) : start])[-1].split()[-_REACH["en"] :])


def _finder(word: str, language: str) -> re.Pattern[str]:
    """Chinese wherever it stands; English as a word, with an ending of up to two letters."""
    return re.compile(re.escape(word) if language == "zh" else rf"\b{re.escape(word)}\w{{0,2}}\b")


def _any(words: Sequence[str], language: str) -> re.Pattern[str] | None:
    if not words:
        return None
    parts = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(parts if language == "zh" else rf"(?:\b(?:{parts})|n't)\b")
