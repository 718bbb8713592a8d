"""Words -> items, by BM25F over the fields of an item: an immutable base, a log of newer postings, ended slots passed
over.

Scores are a function of the items held and nothing else: document frequencies and mean lengths count the live items
only, so a merge changes no answer and a follower answers as its primary does.
"""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain, islice
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.domain.offers import describing
from services.domain.search import BRAND, FIELDS, Bm25f
from services.domain.words import Word, words
from services.retriever.brands import Brands
from services.retriever.columns import NOBODY, ColumnsView, pack_texts, unpack_texts
from services.retriever.growing import Growing
from services.retriever.order import Mask, Slots, best
from services.retriever.query import NO_SYNONYMS, Alternative, Part, Query, Synonyms, understand
from services.retriever.spelling import Spelling, SpellingView, is_correctable
from souk.types.v1 import types_pb2

DEFAULT = Bm25f()

MAX_COUNT = 255
MAX_LENGTH = 65_535
# Slots in the log that are worth a merge; at least, and as a share of the base.
MIN_STALE = 2_000
MAX_LOG_SHARE = 0.1

_TERMS, _SPELT = attrgetter("terms"), attrgetter("spelt")

Counts = NDArray[np.uint8]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Words:
    """The analysed text of an item: how often each term stands in each of FIELDS, how many words each of these has, and
    which words of letters it holds, as they are spelt, with the term of each."""

    counts: Mapping[str, bytes | bytearray]
    lengths: tuple[int, ...]
    letters: Mapping[str, str]


def words_of(item: types_pb2.Item) -> Words:
    """Words of every field of an item."""
    counts: dict[str, bytearray] = {}
    lengths = []
    letters: dict[str, str] = {}
    for number, found in enumerate(_fields(item)):
        lengths.append(min(len(found), MAX_LENGTH))
        letters.update(chain.from_iterable(map(_SPELT, found)))
        for term, count in Counter(chain.from_iterable(map(_TERMS, found))).items():
            held = counts.get(term)
            if held is None:
                held = counts[term] = bytearray(len(FIELDS))
            held[number] = count if count < MAX_COUNT else MAX_COUNT
    return Words(counts, tuple(lengths), letters)


def _fields(item: types_pb2.Item) -> Iterator[Sequence[Word]]:
    """The words of each of FIELDS."""
    yield words(item.title)
    yield words(item.description)
    yield _often(item.brand)
    yield [word for one in describing(item) for word in _often(f"{one.name} {' '.join(one.values)}")]
    yield _often(" ".join(item.category_path))


@lru_cache(maxsize=65_536)
def _often(text: str) -> Sequence[Word]:
    """The words of a text that many items share."""
    return words(text)


class Matches(NamedTuple):
    """Slots and scores, best first. `certainty`: 1, less where words of the query were corrected, above 0. `whole`
    tells which of some allowed slots hold every word of the query that says something, or what stands for it."""

    slots: Slots
    scores: Scores
    certainty: float
    whole: Callable[[Slots], Mask]


@dataclass(frozen=True)
class Postings:
    """Postings by term: those of term t are at starts[t] to starts[t + 1], in order of slots.

    counts[field] says how often the term stands in that field of the slot.
    """

    starts: NDArray[np.int64]
    slots: NDArray[np.int32]
    counts: tuple[Counts, ...]
    # Slots of the table that it knows: newer ones are in the log.
    until: int

    def of(self, term: int) -> slice:
        """Where the postings of a term are."""
        if term + 1 >= len(self.starts):
            return slice(0, 0)
        return slice(int(self.starts[term]), int(self.starts[term + 1]))


@dataclass(frozen=True)
class LexicalView:
    """The index as it was at one moment."""

    terms: dict[str, int]
    base: Postings
    log_terms: NDArray[np.int32]
    log_slots: NDArray[np.int32]
    log_counts: tuple[Counts, ...]
    lengths: tuple[NDArray[np.uint16], ...]
    # Sum of each field's length over the live items.
    totals: tuple[int, ...]
    spelling: SpellingView
    brands: Brands
    scratch: threading.local

    def search(
        self,
        query: str,
        mask: Mask,
        columns: ColumnsView,
        k: int,
        bm25f: Bm25f = DEFAULT,
        synonyms: Synonyms = NO_SYNONYMS,
    ) -> Matches:
        """The k allowed items that match a query best, best first. One word in common is enough."""
        self.brands.read(columns.table.brands)
        scoring = _Scoring(self, mask, columns, bm25f)
        asked = understand(query, scoring, synonyms, self.brands)
        sums = self._zeros("sums", columns.size)
        touched: list[NDArray[np.int32]] = []
        try:
            for part in asked.parts:
                for slots, scores in self._matches(part, scoring, columns.size):
                    # Slots are distinct, so this adds once for each.
                    touched.append(slots[sums[slots] == 0])
                    sums[slots] += np.float32(part.weight) * scores
            for terms, codes in asked.brands:
                for term in terms:
                    slots, scores = scoring.of(term)
                    theirs = np.flatnonzero(_one_of(columns.brand[slots], codes))
                    sums[slots[theirs]] += np.float32(BRAND) * scores[theirs]
            found = np.concatenate(touched).astype(np.int64) if touched else np.empty(0, dtype=np.int64)
            scores = sums[found]
        finally:
            for slots in touched:
                sums[slots] = 0
        first = best(scores, found, columns.popularity, columns.key, k)
        return Matches(found[first], scores[first], scoring.certainty(asked.parts), partial(scoring.whole, asked))

    def _matches(self, part: Part, scoring: "_Scoring", size: int) -> Iterator[tuple[NDArray[np.int32], Scores]]:
        """What a part gives each item that matches it; several times for one item means the sum."""
        first, *others = part.alternatives
        if not others and not first.together:
            for term in first.terms:
                slots, scores = scoring.of(term)
                yield slots, scores * np.float32(first.factor)
            return
        peaks = self._zeros("peaks", size)
        touched = []
        for alternative in part.alternatives:
            for slots, scores in self._given(alternative, scoring, size):
                touched.append(slots[peaks[slots] == 0])
                given = scores * np.float32(alternative.factor)
                # Terms of what was written add up; what may have been meant instead counts where it counts for more.
                peaks[slots] = peaks[slots] + given if alternative is first else np.maximum(peaks[slots], given)
        slots = np.concatenate(touched)
        scores = peaks[slots]
        peaks[slots] = 0
        yield slots, scores

    def _given(
        self, alternative: Alternative, scoring: "_Scoring", size: int
    ) -> list[tuple[NDArray[np.int32], Scores]]:
        """Slots and scores of each term; where all must be there, of the slots that have all, in one."""
        found = [scoring.of(term) for term in alternative.terms]
        if not alternative.together:
            return found
        (slots, scores), *rest = found
        joint = self._zeros("joint", size)
        for more_slots, more in rest:
            joint[more_slots] = more
            shared = np.flatnonzero(joint[slots])
            slots, scores = slots[shared], scores[shared] + joint[slots[shared]]
            joint[more_slots] = 0
        return [(slots, scores)]

    def _zeros(self, name: str, size: int) -> Scores:
        """An array of zeros of this thread, one a slot; to be given back as zeros."""
        zeros: Scores | None = getattr(self.scratch, name, None)
        if zeros is None or len(zeros) < size:
            zeros = np.zeros(size + size // 4, dtype=np.float32)
            setattr(self.scratch, name, zeros)
        return zeros


class _Scoring:
    """Scores of terms for one search, each computed once."""

    def __init__(self, view: LexicalView, mask: Mask, columns: ColumnsView, bm25f: Bm25f) -> None:
        self.terms = view.terms
        self.spelling = view.spelling
        self._view = view
        self._mask = mask
        self._columns = columns
        self._bm25f = bm25f
        self._postings: dict[int, tuple[slice, NDArray[np.int64], NDArray[np.int32], int]] = {}
        self._scores: dict[int, tuple[NDArray[np.int32], Scores]] = {}

    def holders(self, term: int) -> int:
        """How many live items hold a term."""
        return self._posting(term)[3]

    def of(self, term: int) -> tuple[NDArray[np.int32], Scores]:
        """Allowed slots that hold a term, and its part of the score of each."""
        if term not in self._scores:
            self._scores[term] = self._score(term)
        return self._scores[term]

    def certainty(self, parts: Sequence[Part]) -> float:
        """How sure it is that the parts were meant: their certainties, each as its rarest word is rare."""
        known = [
            part.weight * max((self.rarity(term) for one in part.alternatives for term in one.terms), default=0.0)
            for part in parts
        ]
        total = sum(known)
        return sum(part.certainty * rarity for part, rarity in zip(parts, known, strict=True)) / total if total else 1.0

    def whole(self, query: Query, slots: Slots) -> Mask:
        """Which of some allowed slots hold all parts of a query that say something."""
        parts = [part for part in query.parts if part.weight == 1]
        holding = np.full(len(slots), query.known and bool(parts))
        for part in parts:
            some = np.zeros(len(slots), dtype=np.bool_)
            for one in part.alternatives:
                if one.whole:
                    some |= np.logical_and.reduce([self._holding(slots, term) for term in one.whole])
            holding &= some
        return holding

    def _holding(self, slots: Slots, term: int) -> Mask:
        held = self.of(term)[0]
        if not len(held):
            return np.zeros(len(slots), dtype=np.bool_)
        at = np.minimum(np.searchsorted(held, slots), len(held) - 1)
        found: Mask = held[at] == slots
        return found

    def rarity(self, term: int) -> float:
        """What a match of a term counts for being rare, above 0."""
        holders = self.holders(term)
        return math.log1p((self._columns.items - holders + 0.5) / (holders + 0.5))

    def branded(self, term: int, codes: Sequence[int]) -> bool:
        """Whether a live item that holds a term is of one of these brands."""
        slots = self._posting(term)[2]
        return bool(np.any(self._columns.alive[slots] & _one_of(self._columns.brand[slots], codes)))

    def _posting(self, term: int) -> tuple[slice, NDArray[np.int64], NDArray[np.int32], int]:
        """Where a term's postings are in the base and in the log, their slots, and how many of these are live."""
        if term not in self._postings:
            view = self._view
            part = view.base.of(term)
            # `nonzero` itself: for the few hundred postings of a word flatnonzero's way there takes longer.
            new = (view.log_terms == term).nonzero()[0]
            slots = _both(view.base.slots[part], view.log_slots, new)
            self._postings[term] = part, new, slots, int(np.count_nonzero(self._columns.alive[slots]))
        return self._postings[term]

    def _score(self, term: int) -> tuple[NDArray[np.int32], Scores]:
        view, columns, bm25f = self._view, self._columns, self._bm25f
        part, new, slots, _ = self._posting(term)
        allowed = self._mask[slots].nonzero()[0]
        some = len(allowed) < len(slots)
        slots = slots[allowed] if some else slots
        weight = np.zeros(len(slots), dtype=np.float32)
        for field, (total, field_weight) in enumerate(zip(view.totals, bm25f.weights, strict=True)):
            if not field_weight:
                continue
            counts = _both(view.base.counts[field][part], view.log_counts[field], new)
            counts = counts[allowed] if some else counts
            held = counts.nonzero()[0]
            if len(held):
                relative = view.lengths[field][slots[held]] * np.float32(columns.items / total)
                norm = np.float32(1 - bm25f.b) + np.float32(bm25f.b) * relative
                weight[held] += np.float32(field_weight) * counts[held] / norm
        if not all(bm25f.weights):
            # An item that holds the word only where it counts for nothing does not match.
            counted = np.flatnonzero(weight)
            slots, weight = slots[counted], weight[counted]
        return slots, np.float32(self.rarity(term)) * weight / (np.float32(bm25f.k1) + weight)


def _one_of(brands: NDArray[np.int32], codes: Sequence[int]) -> Mask:
    return brands == codes[0] if len(codes) == 1 else np.isin(brands, codes)


def _both(base: NDArray[Any], log: NDArray[Any], new: NDArray[np.int64]) -> NDArray[Any]:
    """Values of the base and those of the log behind them."""
    return np.concatenate((base, log[new])) if len(new) else base


class Lexical:
    """The writer's side. One thread writes; what it wrote counts for the views taken after."""

    def __init__(self) -> None:
        self._terms: dict[str, int] = {}
        self._base = Postings(np.zeros(1, np.int64), np.empty(0, np.int32), (np.empty(0, np.uint8),) * len(FIELDS), 1)
        self._log_terms = Growing(np.int32)
        self._log_slots = Growing(np.int32)
        self._log_counts = tuple(Growing(np.uint8) for _ in FIELDS)
        self._lengths = tuple(Growing(np.uint16) for _ in FIELDS)
        for lengths in self._lengths:
            lengths.append(0)
        self._totals = [0] * len(FIELDS)
        # Of items added since the last view: their terms, slots, counts and lengths, put in the log all at once.
        self._added: list[tuple[list[int], int, bytes, tuple[int, ...]]] = []
        # Words as they are spelt, with the number of each's term. Like terms they are kept when their items have ended.
        self._spelt: dict[str, int] = {}
        self._spelling = Spelling()
        self._brands = Brands()
        self._scratch = threading.local()

    def add(self, slot: int, words: Words) -> None:
        """The words of the item in a new slot, the next one."""
        terms = self._terms
        numbers = [terms.setdefault(term, len(terms)) for term in words.counts]
        self._added.append((numbers, slot, b"".join(words.counts.values()), words.lengths))
        for word, term in words.letters.items():
            if word not in self._spelt and is_correctable(word):
                self._spelt[word] = terms[term]

    def end(self, slot: int) -> None:
        """The item in a slot is no longer so."""
        self._log()
        for field, lengths in enumerate(self._lengths):
            self._totals[field] -= int(lengths.view()[slot])

    def view(self) -> LexicalView:
        """The index as it is now."""
        self._log()
        self._spelling.add(dict(islice(self._spelt.items(), self._spelling.size, None)))
        return LexicalView(
            self._terms,
            self._base,
            self._log_terms.view(),
            self._log_slots.view(),
            tuple(counts.view() for counts in self._log_counts),
            tuple(lengths.view() for lengths in self._lengths),
            tuple(self._totals),
            self._spelling.view(),
            self._brands,
            self._scratch,
        )

    def _log(self) -> None:
        """Puts what was added in the log: all at once, since a call of numpy costs more than the words of an item."""
        if not self._added:
            return
        terms, slots, counts, lengths = zip(*self._added, strict=True)
        self._added = []
        self._log_terms.extend(np.fromiter(chain.from_iterable(terms), np.int32))
        self._log_slots.extend(np.repeat(np.array(slots, dtype=np.int32), list(map(len, terms))))
        by_field = np.frombuffer(b"".join(counts), dtype=np.uint8).reshape(-1, len(FIELDS))
        of_items = np.array(lengths, dtype=np.uint16)
        for field in range(len(FIELDS)):
            self._log_counts[field].extend(by_field[:, field])
            self._lengths[field].extend(of_items[:, field])
            self._totals[field] += int(of_items[:, field].sum(dtype=np.int64))

    def due(self, slots: int) -> bool:
        """Whether a merge is worth it, the table having so many slots."""
        return slots - self._base.until > max(MIN_STALE, MAX_LOG_SHARE * self._base.until)

    def swap(self, merged: Postings, view: LexicalView) -> None:
        """Puts merged postings in place of the view they were made from; what was written since stays in the log."""
        since = len(view.log_terms)
        self._base = merged
        self._log_terms = _rest(self._log_terms, since)
        self._log_slots = _rest(self._log_slots, since)
        self._log_counts = tuple(_rest(counts, since) for counts in self._log_counts)

    def moved(self, merged: Postings, view: LexicalView, moved: NDArray[np.int32], alive: Mask) -> "Lexical":
        """This index over a compacted table. merged: of the view, already moved; moved: new slot of each old one;
        alive: of the new table."""
        fresh = Lexical()
        fresh._terms, fresh._base, fresh._scratch = self._terms, merged, self._scratch
        fresh._spelt, fresh._spelling, fresh._brands = self._spelt, self._spelling, self._brands
        since = len(view.log_terms)
        slots = moved[self._log_slots.view()[since:]]
        kept = slots != NOBODY
        fresh._log_terms.extend(self._log_terms.view()[since:][kept])
        fresh._log_slots.extend(slots[kept])
        old = np.flatnonzero(moved)
        for field in range(len(FIELDS)):
            fresh._log_counts[field].extend(self._log_counts[field].view()[since:][kept])
            lengths = np.zeros(len(alive), dtype=np.uint16)
            lengths[moved[old]] = self._lengths[field].view()[old]
            fresh._lengths[field].extend(lengths[1:])
            fresh._totals[field] = int(lengths[alive].sum(dtype=np.int64))
        return fresh

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "Lexical":
        """The index that `arrays` was made of."""
        index = cls()
        index._terms = {term: number for number, term in enumerate(unpack_texts("terms", arrays))}
        counts = tuple(arrays[f"counts_{name}"] for name in FIELDS)
        index._base = Postings(arrays["starts"], arrays["slots"], counts, int(arrays["until"][0]))
        index._log_terms.extend(arrays["log_terms"])
        index._log_slots.extend(arrays["log_slots"])
        index._totals = arrays["totals"].tolist()
        index._spelt = dict(zip(unpack_texts("spelt", arrays), arrays["spelt_terms"].tolist(), strict=True))
        for field, name in enumerate(FIELDS):
            index._log_counts[field].extend(arrays[f"log_counts_{name}"])
            index._lengths[field].extend(arrays[f"lengths_{name}"][1:])
        return index


def merge(view: LexicalView, columns: ColumnsView, moved: NDArray[np.int32] | None = None) -> Postings:
    """The live postings of base and log as one; with `moved`, under the new slot of each old one. Runs beside reads
    and writes."""
    base, words = view.base, len(view.base.starts) - 1
    if len(view.log_terms):
        words = max(words, int(view.log_terms.max()) + 1)
    old = np.repeat(np.arange(len(base.starts) - 1, dtype=np.int32), np.diff(base.starts))
    order = np.argsort(view.log_terms, kind="stable")
    order = order[columns.alive[view.log_slots[order]]]
    new = view.log_terms[order]
    live = np.flatnonzero(columns.alive[base.slots])
    old = old[live]
    old_counts, new_counts = np.bincount(old, minlength=words), np.bincount(new, minlength=words)
    starts = np.zeros(words + 1, dtype=np.int64)
    np.cumsum(old_counts + new_counts, out=starts[1:])
    # A term's postings: those of the base, then those of the log, whose slots are all newer.
    old_at = np.arange(len(old)) + (starts[:-1] - (np.cumsum(old_counts) - old_counts))[old]
    new_at = np.arange(len(new)) + (starts[:-1] + old_counts - (np.cumsum(new_counts) - new_counts))[new]

    def joined(old_values: NDArray[Any], new_values: NDArray[Any]) -> NDArray[Any]:
        values = np.empty(len(old_at) + len(new_at), dtype=old_values.dtype)
        values[old_at] = old_values[live]
        values[new_at] = new_values[order]
        return values

    slots = joined(base.slots, view.log_slots)
    counts = tuple(joined(base.counts[field], view.log_counts[field]) for field in range(len(FIELDS)))
    until = columns.size
    if moved is not None:
        slots, until = moved[slots], int(moved.max(initial=NOBODY)) + 1
    return Postings(starts, slots, counts, until)


def arrays(view: LexicalView) -> dict[str, NDArray[Any]]:
    """All of a view, for a snapshot. The vocabulary may be newer than the view: it only grows."""
    packed: dict[str, NDArray[Any]] = {
        "starts": view.base.starts,
        "slots": view.base.slots,
        "until": np.array([view.base.until]),
        "log_terms": view.log_terms,
        "log_slots": view.log_slots,
        "totals": np.array(view.totals, dtype=np.int64),
        "spelt_terms": view.spelling.terms,
        **pack_texts("spelt", [view.spelling.word(row) for row in range(len(view.spelling.terms))]),
        **pack_texts("terms", list(view.terms)),
    }
    for field, name in enumerate(FIELDS):
        packed[f"counts_{name}"] = view.base.counts[field]
        packed[f"log_counts_{name}"] = view.log_counts[field]
        packed[f"lengths_{name}"] = view.lengths[field]
    return packed


def _rest(values: Growing, since: int) -> Growing:
    rest = Growing(values.view().dtype)
    rest.extend(values.view()[since:])
    return rest
