"""Completions of what is being typed: brands, category names and phrases of titles, with the visible items behind each.

Counted item by item in the background; readers hold an immutable `Completions`.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import rjieba
from numpy.typing import NDArray

from services.domain.words import fold
from services.retriever.columns import CATEGORY_SEPARATOR, Columns, ColumnsView
from services.retriever.growing import Growing
from services.retriever.order import contenders

MAX_PHRASE_WORDS = 3
# Slots counted in one round: bounds how long the interpreter is kept busy.
ROUND_SLOTS = 5_000
# Above this, phrases that only one item has are forgotten.
MAX_COMPLETIONS = 1_000_000

# More than this decides nothing between completions.
MAX_POPULARITY = 1e9

_BREAK = re.compile(r"[,;:|()\[\]{}\"“”/+&•·，。、；：（）【】《》!?！？]|\s[-–—]\s")
_WORD = re.compile(r"[一-鿿㐀-䶿]+|[^\W_]+(?:[-.'’][^\W_]+)*")
_HAN = re.compile(r"[一-鿿㐀-䶿]")
# A phrase neither begins nor ends with these.
_ENGLISH_JOINTS = (
    "a",
    "an",
    "and",
    "as",
    "at",
    "by",
    "for",
    "from",
    "in",
    "is",
    "it",
    "of",
    "on",
    "or",
    "the",
    "to",
    "with",
)
_JOINTS = frozenset((*_ENGLISH_JOINTS, *"的和与及了"))


@dataclass(frozen=True)
class Completions:
    """What can be completed at one moment: texts in order of their keys."""

    keys: list[str]
    texts: list[str]
    items: NDArray[np.int64]
    popularity: NDArray[np.float64]
    # Which row of `texts`, `items` and `popularity` each key has.
    rows: NDArray[np.int64]

    def complete(self, prefix: str, k: int) -> list[tuple[str, int]]:
        """At most k texts that begin with the prefix (case and accents aside), with the visible items behind each: most
        items first, then most popular, then by text."""
        start = normal_form(prefix)
        if not start:
            return []
        low = bisect_left(self.keys, start)
        high = bisect_left(self.keys, start + "\U0010ffff")
        rows = self.rows[low:high]
        rows = rows[self.items[rows] > 0]
        rows = rows[contenders(self.items[rows], k)]
        order = sorted(rows.tolist(), key=lambda row: (-self.items[row], -self.popularity[row], self.texts[row]))
        return [(self.texts[row], int(self.items[row])) for row in order[:k]]


NO_COMPLETIONS = Completions([], [], np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.int64))


class Suggester:
    """Counts completions as items come and go. Used by the background thread only."""

    def __init__(self) -> None:
        self._row_of: dict[str, int] = {}
        self._keys: list[str] = []
        self._rows: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._texts: list[str] = []
        self._items = Growing(np.int64)
        self._popularity = Growing(np.float64)
        # How brands and categories write what has one key.
        self._forms: dict[int, Counter[str]] = {}
        self._counted = Growing(np.bool_)
        self._ended = 0

    def refresh(self, view: ColumnsView) -> Completions | None:
        """Counts the next round of new slots and all ended ones; None if there were none."""
        first = self._counted.size
        last = min(view.size, first + ROUND_SLOTS)
        if first == last and self._ended == len(view.table.ended):
            return None
        shown = view.shown[first:last]
        for slot in (first + np.flatnonzero(shown)).tolist():
            self._count(view, slot, 1)
        self._counted.extend(shown)
        self._forget_ended(view)
        if len(self._row_of) > MAX_COMPLETIONS:
            self._prune()
        self._sort()
        return Completions(
            self._keys, self._texts.copy(), self._items.view().copy(), self._popularity.view().copy(), self._rows
        )

    def move(self, view: ColumnsView, moved: NDArray[np.int32], compacted: Columns) -> None:
        """Goes over to a compacted table. view: of the old one as it is now; moved: new slot of each old one."""
        self._forget_ended(view)
        done = self._counted.view()
        counted = np.zeros(int(moved[: len(done)].max(initial=0)) + 1, dtype=np.bool_)
        counted[moved[np.flatnonzero(done)]] = True
        counted[0] = False
        self._counted = Growing(np.bool_)
        self._counted.extend(counted)
        self._ended = len(compacted.ended)

    def _forget_ended(self, view: ColumnsView) -> None:
        ended = view.table.ended
        counted = self._counted.view()
        while self._ended < len(ended):
            slot = ended[self._ended]
            # One not counted yet has ended in any later view, so it never will be.
            if slot < len(counted) and counted[slot]:
                self._count(view, slot, -1)
                counted[slot] = False
            self._ended += 1

    def _count(self, view: ColumnsView, slot: int, sign: int) -> None:
        table = view.table
        # Whole thousandths: sums that do not depend on the order of adding.
        popularity = sign * float(np.floor(min(table.popularity_at(slot), MAX_POPULARITY) * 1000))
        forms = [*table.category_at(slot).split(CATEGORY_SEPARATOR), table.brand_at(slot)]
        keys = {normal_form(form): form for form in forms}
        for key in keys.keys() | set(phrases(table.titles[slot])):
            if not key:
                continue
            row = self._row_of.get(key)
            if row is None:
                if sign < 0:
                    continue
                row = self._row_of[key] = len(self._texts)
                self._texts.append(key)
                self._items.append(0)
                self._popularity.append(0.0)
            self._items.view()[row] += sign
            self._popularity.view()[row] += popularity
            if key in keys:
                self._write_as(row, key, keys[key], sign)

    def _write_as(self, row: int, key: str, form: str, sign: int) -> None:
        """The completion is written as most items write it, as a brand or a category."""
        forms = self._forms.setdefault(row, Counter())
        forms[form] += sign
        if forms[form] <= 0:
            del forms[form]
        self._texts[row] = min(forms, key=lambda text: (-forms[text], text)) if forms else key

    def _sort(self) -> None:
        fresh = sorted(list(self._row_of)[len(self._keys) :])
        if fresh:
            at = [bisect_left(self._keys, key) for key in fresh]
            self._rows = np.insert(self._rows, at, [self._row_of[key] for key in fresh])
            # Two sorted runs: merged in one pass. A new list, since readers hold the old one.
            self._keys = sorted(self._keys + fresh)

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
        self._keys, self._rows = [], np.empty(0, dtype=np.int64)


def normal_form(text: str) -> str:
    """Text as it is compared: folded, one space between words; one at the end stays, as the last word is then whole."""
    folded = fold(text)
    words = " ".join(folded.split())
    whole = words and folded[-1].isspace() and not _HAN.match(words[-1])
    return f"{words} " if whole else words


def phrases(title: str) -> Iterator[str]:
    """Runs of one to three words of a title in their normal form; Chinese words stand without spaces."""
    for part in _BREAK.split(fold(title)):
        words = [word for match in _WORD.finditer(part) for word in _words_in(match.group())]
        for start, first in enumerate(words):
            if first in _JOINTS:
                continue
            phrase = first
            if len(first) > 1 and not first.isdigit():
                yield phrase
            for word in words[start + 1 : start + MAX_PHRASE_WORDS]:
                apart = "" if _HAN.match(word) and _HAN.match(phrase[-1]) else " "
                phrase += apart + word
                if word not in _JOINTS:
                    yield phrase


def _words_in(token: str) -> list[str]:
    return list(rjieba.cut(token, False)) if _HAN.match(token) else [token]
