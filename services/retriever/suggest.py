"""Completions of what is being typed: brands, category names and phrases of titles, with the visible items behind each.

What begins as it was typed comes first, then what holds the words in another order, and where there is none of either,
what was most likely meant. Counted item by item in the background; readers hold an immutable `Completions`.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import NamedTuple

import numpy as np
import rjieba
from numpy.typing import NDArray

from services.domain.words import FUNCTION_WORDS, fold
from services.retriever.columns import CATEGORY_SEPARATOR, Columns, ColumnsView
from services.retriever.growing import Growing
from services.retriever.order import contenders
from services.retriever.spelling import Spelling, SpellingView, faults_allowed, is_correctable
from services.runtime.threads import Pace

MAX_PHRASE_WORDS = 3
# Slots counted in one round: bounds how long it takes till completions are those of now.
ROUND_SLOTS = 5_000
# Above this, phrases that only one item has are forgotten.
MAX_COMPLETIONS = 1_000_000
# While slots remain to be counted, completions that are new wait to be so many of those known before they count.
MAX_UNSORTED_SHARE = 0.1

# Ends of an unfinished word, and words it may have been meant to be, that are tried with the others.
MAX_ENDS = 4
MAX_MEANT = 2
# Of near words so many are looked at.
MAX_NEAR = 64

# More than this decides nothing between completions.
MAX_POPULARITY = 1e9

_BREAK = re.compile(r"[,;:|()\[\]{}\"“”/+&•·，。、；：（）【】《》!?！？]|\s[-–—]\s")
_WORD = re.compile(r"[一-鿿㐀-䶿]+|[^\W_]+(?:[-.'’][^\W_]+)*")
_HAN = re.compile(r"[一-鿿㐀-䶿]")
_INNER = re.compile(r"(?<=\w)[-.'’](?=\w)")


@dataclass(frozen=True)
class Completions:
    """What can be completed at one moment: texts in order of their keys."""

    keys: list[str]
    texts: list[str]
    items: NDArray[np.int64]
    popularity: NDArray[np.float64]
    # Which row of `texts`, `items` and `popularity` each key has.
    rows: NDArray[np.int64]

    # Words of letters that completions begin with, by how they are spelt.
    spelling: SpellingView

    def complete(self, prefix: str, k: int) -> list[tuple[str, int]]:
        """At most k texts that the prefix (case and accents aside) may become, with the visible items behind each: in
        each kind of match most items first, then most popular, then by text."""
        start = normal_form(prefix)
        words = start.split()
        if not words:
            return []
        found = self._best(self._beginning(start), k)
        if len(words) <= MAX_PHRASE_WORDS:
            unfinished = not start.endswith(" ")
            if len(found) < k and len(words) > 1:
                found += self._among([[word] for word in words], unfinished, k)
            if not found:
                last = len(words) - 1
                meant = [self._meant(word, unfinished and place == last) for place, word in enumerate(words)]
                found = self._among(meant, unfinished, k)
        return [(self.texts[row], int(self.items[row])) for row in list(dict.fromkeys(found))[:k]]

    def _beginning(self, start: str) -> NDArray[np.int64]:
        """Rows of what begins so and has visible items."""
        low = bisect_left(self.keys, start)
        high = bisect_left(self.keys, start + "\U0010ffff")
        rows = self.rows[low:high]
        return rows[self.items[rows] > 0]

    def _best(self, rows: NDArray[np.int64], k: int) -> list[int]:
        # A row may stand here twice, by its key and by that without marks.
        rows = np.unique(rows[contenders(self.items[rows], 2 * k)])
        return sorted(rows.tolist(), key=lambda row: (-self.items[row], -self.popularity[row], self.texts[row]))[:k]

    def _among(self, forms: list[list[str]], unfinished: bool, k: int) -> list[int]:
        """Rows of what begins with one form of each word, in any order; the last word may be `unfinished`."""
        if unfinished:
            forms = [*forms[:-1], [*forms[-1], *(end for form in forms[-1] for end in self._ends(form))]]
        starts = {_joined(order) for words in product(*forms) for order in permutations(words)}
        return self._best(np.unique(np.concatenate([self._beginning(start) for start in starts])), k)

    def _ends(self, start: str) -> list[str]:
        """The words that an unfinished one most often becomes."""
        likely = (normal_form(self.texts[row]) for row in self._best(self._beginning(start), 4 * MAX_ENDS))
        return list(dict.fromkeys(key.split(" ")[0] for key in likely))[:MAX_ENDS]

    def _meant(self, word: str, unfinished: bool) -> list[str]:
        """The word itself where completions know it or it is not one of letters, else those it may have been meant to
        be."""
        known = self._beginning(word if unfinished else f"{word} ")
        at = bisect_left(self.keys, word)
        if len(known) or self.keys[at : at + 1] == [word] or not word.isalpha() or _HAN.match(word):
            return [word]
        for faults in range(1, faults_allowed(word) + 1):
            spelling = self.spelling
            near = spelling.beginning_near(word, faults) if unfinished else spelling.near(word, faults)[0]
            likely = []
            for other in map(spelling.word, near[:MAX_NEAR].tolist()):
                if len(rows := self._beginning(other)):
                    likely.append((-int(self.items[rows].max()), other))
            if likely:
                return [other for _, other in sorted(likely)[:MAX_MEANT]]
        return [word]


NO_COMPLETIONS = Completions(
    [], [], np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.int64), Spelling().view()
)


class _Form(NamedTuple):
    """How something that can be completed is written, and whether it is the name of a brand or category so."""

    is_name: bool
    text: str


class Suggester:
    """Counts completions as items come and go. Used by the background thread only."""

    def __init__(self) -> None:
        self._row_of: dict[str, int] = {}
        self._keys: list[str] = []
        self._rows: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        # What is in `_row_of` and not yet among the keys.
        self._added: list[str] = []
        self._spelling = Spelling()
        self._spelt: set[str] = set()
        self._texts: list[str] = []
        self._items = Growing(np.int64)
        self._popularity = Growing(np.float64)
        # How items write what has one key: those that have it as brand or category, and those that have it in a title
        # and write it with marks.
        self._forms: dict[int, Counter[_Form]] = {}
        self._counted = Growing(np.bool_)
        self._ended = 0

    def refresh(self, view: ColumnsView) -> Completions | None:
        """Counts the next round of new slots and all ended ones; None if there were none."""
        first = self._counted.size
        last = min(view.size, first + ROUND_SLOTS)
        if first == last and self._ended == len(view.table.ended):
            return None
        shown = view.shown[first:last]
        pace = Pace()
        self._count(view, (first + np.flatnonzero(shown)).tolist(), 1, pace.rest)
        self._counted.extend(shown)
        self._forget_ended(view, pace.rest)
        if len(self._row_of) > MAX_COMPLETIONS:
            self._prune()
        # Far behind, after a start or a load, most of the time would go into sorting.
        if last == view.size or len(self._added) > MAX_UNSORTED_SHARE * len(self._keys):
            self._sort()
        return Completions(
            self._keys,
            self._texts.copy(),
            self._items.view().copy(),
            self._popularity.view().copy(),
            self._rows,
            self._spelling.view(),
        )

    def move(self, view: ColumnsView, moved: NDArray[np.int32], compacted: Columns) -> None:
        """Goes over to a compacted table. view: of the old one as it is now; moved: new slot of each old one."""
        # Writes wait for this: no rest.
        self._forget_ended(view, lambda: None)
        done = self._counted.view()
        counted = np.zeros(int(moved[: len(done)].max(initial=0)) + 1, dtype=np.bool_)
        counted[moved[np.flatnonzero(done)]] = True
        counted[0] = False
        self._counted = Growing(np.bool_)
        self._counted.extend(counted)
        self._ended = len(compacted.ended)

    def _forget_ended(self, view: ColumnsView, rest: Callable[[], None]) -> None:
        ended = view.table.ended[self._ended :]
        counted = self._counted.view()
        # One not counted yet has ended in any later view, so it never will be.
        slots = [slot for slot in dict.fromkeys(ended) if slot < len(counted) and counted[slot]]
        self._count(view, slots, -1, rest)
        counted[slots] = False
        self._ended += len(ended)

    def _count(self, view: ColumnsView, slots: Sequence[int], sign: int, rest: Callable[[], None]) -> None:
        """Adds what items stand for to the counts, or takes it away; calls `rest` after each."""
        table = view.table
        rows: list[int] = []
        popularity: list[float] = []
        for slot in slots:
            forms = [*table.category_at(slot).split(CATEGORY_SEPARATOR), table.brand_at(slot)]
            written = {key: _Form(False, text) for key, text in phrases(table.titles[slot])}
            written |= {key: _Form(True, form) for form in forms if (key := normal_form(form))}
            before = len(rows)
            for key, form in written.items():
                row = self._row_of.get(key)
                if row is None:
                    if sign < 0:
                        continue
                    row = self._row_of[key] = len(self._texts)
                    self._added.append(key)
                    self._texts.append(key)
                rows.append(row)
                if form.is_name or form.text != key:
                    self._write_as(row, key, form, sign)
            # Whole thousandths: sums that do not depend on the order of adding.
            whole = sign * float(np.floor(min(table.popularity_at(slot), MAX_POPULARITY) * 1000))
            popularity += [whole] * (len(rows) - before)
            rest()
        new = np.zeros(len(self._texts) - self._items.size)
        self._items.extend(new)
        self._popularity.extend(new)
        np.add.at(self._items.view(), rows, sign)
        np.add.at(self._popularity.view(), rows, popularity)

    def _write_as(self, row: int, key: str, form: _Form, sign: int) -> None:
        """The completion is written as most items write it, as a brand or a category before as words of a title."""
        forms = self._forms.setdefault(row, Counter())
        forms[form] += sign
        if forms[form] <= 0:
            del forms[form]
        best = min(forms, key=lambda one: (not one.is_name, -forms[one], one.text), default=None)
        self._texts[row] = key if best is None else best.text

    def _sort(self) -> None:
        added, self._added = self._added, []
        # What holds inner marks is found without them, too.
        fresh = [(key, self._row_of[key]) for key in added]
        fresh = sorted(fresh + [(plain, row) for key, row in fresh if (plain := _INNER.sub("", key)) != key])
        if fresh:
            at = [bisect_right(self._keys, key) for key, _ in fresh]
            self._rows = np.insert(self._rows, at, [row for _, row in fresh])
            # A new list, since readers hold the old one; in pieces, which takes a third of the time of sorting it.
            keys: list[str] = []
            for start, end, (key, _) in zip([0, *at], at, fresh, strict=False):
                keys += self._keys[start:end]
                keys.append(key)
            self._keys = keys + self._keys[at[-1] :]
            firsts = dict.fromkeys(key.split(" ")[0] for key in added)
            new = {
                word: 0 for word in firsts if is_correctable(word) and word not in self._spelt and not _HAN.match(word)
            }
            self._spelt.update(new)
            self._spelling.add(new)

    def _prune(self) -> None:
        items, popularity = self._items.view(), self._popularity.view()
        old = [(key, row) for key, row in self._row_of.items() if items[row] > 1]
        texts, forms = self._texts, self._forms
        self._row_of = {key: number for number, (key, _) in enumerate(old)}
        rows = np.array([row for _, row in old], dtype=np.int64)
        self._texts = [texts[row] for _, row in old]
        self._forms = {number: forms[row] for number, (_, row) in enumerate(old) if row in forms}
        self._items, self._popularity = Growing(np.int64), Growing(np.float64)
        self._items.extend(items[rows])
        self._popularity.extend(popularity[rows])
        self._keys, self._rows, self._added = [], np.empty(0, dtype=np.int64), list(self._row_of)
        self._spelling, self._spelt = Spelling(), set()


def normal_form(text: str) -> str:
    """Text as it is compared: folded, one space between words; one at the end stays, as the last word is then whole."""
    folded = fold(text)
    words = " ".join(folded.split())
    whole = words and folded[-1].isspace() and not _HAN.match(words[-1])
    return f"{words} " if whole else words


def phrases(title: str) -> Iterator[tuple[str, str]]:
    """Runs of one to three words of a title: in their normal form, and in lower case with the marks as it has them.
    Chinese words stand without spaces."""
    folded, marked = fold(title), unicodedata.normalize("NFKC", title).lower()
    parts, marked_parts = _BREAK.split(folded), _BREAK.split(marked)
    if marked == folded or len(parts) != len(marked_parts):
        marked_parts = parts
    for part, marked_part in zip(parts, marked_parts, strict=True):
        words = _words_of(part)
        marked_words = words if marked_part is part else _words_of(marked_part)
        if len(marked_words) != len(words):
            marked_words = words
        for start, first in enumerate(words):
            # A phrase neither begins nor ends with these.
            if first in FUNCTION_WORDS:
                continue
            phrase, text = first, marked_words[start]
            if len(first) > 1 and not first.isdigit():
                yield phrase, text
            for at in range(start + 1, min(start + MAX_PHRASE_WORDS, len(words))):
                phrase, text = _joined((phrase, words[at])), _joined((text, marked_words[at]))
                if words[at] not in FUNCTION_WORDS:
                    yield phrase, text


def _words_of(part: str) -> list[str]:
    return [word for match in _WORD.finditer(part) for word in _words_in(match.group())]


def _joined(words: Sequence[str]) -> str:
    """Words as a phrase: a space between them but for Chinese ones."""
    phrase = words[0]
    for word in words[1:]:
        apart = "" if _HAN.match(word) and _HAN.match(phrase[-1]) else " "
        phrase += apart + word
    return phrase


def _words_in(token: str) -> list[str]:
    return list(rjieba.cut(token, False)) if _HAN.match(token) else [token]
