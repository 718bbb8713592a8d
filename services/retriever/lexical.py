"""Words -> items, by BM25F over the fields of an item: an immutable base, a log of newer postings, ended slots passed
over.

Scores are a function of the items held and nothing else: document frequencies and mean lengths count the live items
only, so a merge changes no answer and a follower answers as its primary does.
"""

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.domain.search import FIELDS, Bm25f
from services.domain.words import analyse
from services.retriever.columns import NOBODY, ColumnsView, pack_texts, unpack_texts
from services.retriever.growing import Growing
from services.retriever.order import Mask, Slots, best
from souk.types.v1 import types_pb2

DEFAULT = Bm25f()

MAX_COUNT = 255
MAX_LENGTH = 65_535
# Slots in the log that are worth a merge; at least, and as a share of the base.
MIN_STALE = 2_000
MAX_LOG_SHARE = 0.1

Counts = NDArray[np.uint8]


@dataclass(frozen=True)
class Words:
    """The analysed text of an item: how often each term stands in each field, and how long each field is."""

    counts: dict[str, list[int]]
    lengths: tuple[int, ...]


def words_of(item: types_pb2.Item) -> Words:
    """Terms of every field of an item."""
    attributes = " ".join(f"{a.name} {' '.join(a.values)}" for a in item.attributes)
    texts = (item.title, item.description, item.brand, attributes, " ".join(item.category_path))
    counts: dict[str, list[int]] = {}
    lengths = []
    for number, text in enumerate(texts):
        terms = analyse(text)
        lengths.append(min(len(terms), MAX_LENGTH))
        for term, count in Counter(terms).items():
            counts.setdefault(term, [0] * len(FIELDS))[number] = min(count, MAX_COUNT)
    return Words(counts, tuple(lengths))


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
    scratch: threading.local

    def search(
        self, query: str, mask: Mask, columns: ColumnsView, k: int, bm25f: Bm25f = DEFAULT
    ) -> tuple[Slots, NDArray[np.float32]]:
        """The k allowed items that match a query best: slots and scores, best first. One word in common is enough."""
        wanted = [(self.terms[term], count) for term, count in Counter(analyse(query)).items() if term in self.terms]
        sums = self._sums(columns.size)
        touched: list[NDArray[np.int32]] = []
        try:
            for term, count in wanted:
                slots, scores = self._score(term, mask, columns, bm25f)
                # A term's slots are distinct, so this adds once for each.
                touched.append(slots[sums[slots] == 0])
                sums[slots] += scores * np.float32(count)
            found = np.concatenate(touched).astype(np.int64) if touched else np.empty(0, dtype=np.int64)
            scores = sums[found]
        finally:
            for slots in touched:
                sums[slots] = 0
        first = best(scores, found, columns.popularity, columns.key, k)
        return found[first], scores[first]

    def _score(
        self, term: int, mask: Mask, columns: ColumnsView, bm25f: Bm25f
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Allowed slots that hold a term, and its part of the score of each."""
        part = self.base.of(term)
        new = np.flatnonzero(self.log_terms == term)
        slots = np.concatenate((self.base.slots[part], self.log_slots[new]))
        frequency = int(np.count_nonzero(columns.alive[slots]))
        allowed = np.flatnonzero(mask[slots])
        slots = slots[allowed]
        weight = np.zeros(len(slots), dtype=np.float32)
        for field, (total, field_weight) in enumerate(zip(self.totals, bm25f.weights, strict=True)):
            if not field_weight:
                continue
            counts = np.concatenate((self.base.counts[field][part], self.log_counts[field][new]))[allowed]
            held = np.flatnonzero(counts)
            if len(held):
                relative = self.lengths[field][slots[held]] * np.float32(columns.items / total)
                norm = np.float32(1 - bm25f.b) + np.float32(bm25f.b) * relative
                weight[held] += np.float32(field_weight) * counts[held] / norm
        if not all(bm25f.weights):
            # An item that holds the word only where it counts for nothing does not match.
            counted = np.flatnonzero(weight)
            slots, weight = slots[counted], weight[counted]
        rarity = np.log1p((columns.items - frequency + 0.5) / (frequency + 0.5))
        return slots, np.float32(rarity) * weight / (np.float32(bm25f.k1) + weight)

    def _sums(self, size: int) -> NDArray[np.float32]:
        """This thread's array of zeros, one a slot; given back as zeros."""
        sums: NDArray[np.float32] | None = getattr(self.scratch, "sums", None)
        if sums is None or len(sums) < size:
            sums = self.scratch.sums = np.zeros(size + size // 4, dtype=np.float32)
        return sums


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
        self._scratch = threading.local()

    def add(self, slot: int, words: Words) -> None:
        """The words of the item in a new slot, the next one."""
        numbers = [self._terms.setdefault(term, len(self._terms)) for term in words.counts]
        self._log_terms.extend(np.array(numbers, dtype=np.int32))
        self._log_slots.extend(np.full(len(numbers), slot, dtype=np.int32))
        counts = np.array(list(words.counts.values()), dtype=np.uint8).reshape(-1, len(FIELDS))
        for field, length in enumerate(words.lengths):
            self._log_counts[field].extend(counts[:, field])
            self._lengths[field].append(length)
            self._totals[field] += length

    def end(self, slot: int) -> None:
        """The item in a slot is no longer so."""
        for field, lengths in enumerate(self._lengths):
            self._totals[field] -= int(lengths.view()[slot])

    def view(self) -> LexicalView:
        """The index as it is now."""
        return LexicalView(
            self._terms,
            self._base,
            self._log_terms.view(),
            self._log_slots.view(),
            tuple(counts.view() for counts in self._log_counts),
            tuple(lengths.view() for lengths in self._lengths),
            tuple(self._totals),
            self._scratch,
        )

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
