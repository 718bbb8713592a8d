"""Synthetic queries of a whole shop: forms of every item, kept where a search by words leads back to it."""

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from souk.types.v1 import types_pb2
from training.encoder.pairs import Pair
from training.encoder.queries.forms import ATTRIBUTES, CATEGORY, TITLE, Form, forms
from training.encoder.queries.round_trip import Found, RoundTrip
from training.encoder.queries.sessions import Together
from training.encoder.queries.wording import Phrase, Wording

COPURCHASE = "synthetic:copurchase"

# An item must be among so many first, or at least half of these must be of its kind.
FIRST = 10
# Share of each source among the queries of an item that has all of them.
_SHARES = {TITLE: 0.5, ATTRIBUTES: 0.25, CATEGORY: 0.25}
# Forms looked at for one that is kept.
_TRIED = 4
# The fewer items hold all words of a query, the surer it is that this one was meant.
_SINGLED_OUT, _FEW = 3, 50


@dataclass(frozen=True)
class Made:
    """Pairs in the order of the items, and how many forms the round trip dropped."""

    pairs: list[Pair]
    dropped: int


def make_queries(
    items: Sequence[types_pb2.Item],
    together: Together,
    per_item: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> Made:
    """Up to `per_item` queries for every visible item; the same for the same items and seed, in whatever order.

    Every word of a query stands in the shop's own text. A query is kept where it is consistent (Dai et al. 2023,
    Promptagator, section 3.2, with BM25 as the retriever): see `consistent`. The grade says how specific it is: 3 at
    most 3 items hold all its words, 2 at most 50 do, else 1. Where two items of a kind were met together, the least
    specific query of one is a query of the other, too, of grade 1.
    """
    items = sorted((item for item in items if item.visible or not item.HasField("visible")), key=lambda item: item.id)
    wording = Wording.of(items)
    search = RoundTrip(items)
    rows = {item.id: row for row, item in enumerate(items)}
    known: dict[str, Found] = {}
    pairs: list[Pair] = []
    broadest: dict[str, str] = {}
    dropped = 0
    for row, item in enumerate(items):
        rng = np.random.default_rng([seed, zlib.crc32(item.id.encode())])
        kept: list[tuple[int, Form]] = []
        for form in _drawn(forms(item, wording.kinds[row], wording, rng), _TRIED * per_item, rng):
            if form.query not in known:
                known[form.query] = search.find(form.query, FIRST)
            found = known[form.query]
            if not consistent(found, row, wording.kinds):
                dropped += 1
                continue
            kept.append((found.holders, form))
            if len(kept) == per_item:
                break
        pairs += [Pair(form.query, item.id, _grade(holders), form.source) for holders, form in kept]
        if kept:
            broadest[item.id] = max(kept, key=lambda one: one[0])[1].query
        progress(row + 1, len(items))
    for item_id, other_id in together:
        query, other = broadest.get(item_id), rows.get(other_id)
        if query is not None and other is not None and consistent(known[query], other, wording.kinds):
            pairs.append(Pair(query, other_id, 1.0, COPURCHASE))
    return Made(list({(pair.query, pair.item_id): pair for pair in reversed(pairs)}.values())[::-1], dropped)


def consistent(found: Found, row: int, kinds: Sequence[tuple[Phrase, ...]]) -> bool:
    """Whether a query finds the item of `row` among the first, or at least half of the first are of its kind."""
    if row in found.first:
        return True
    heads = {kind[-1] for kind in kinds[row][:1]}
    same = sum(not heads.isdisjoint(kind[-1] for kind in kinds[other]) for other in found.first)
    return len(found.first) == FIRST and same >= FIRST / 2


def _drawn(all_forms: Sequence[Form], count: int, rng: np.random.Generator) -> list[Form]:
    """Up to so many forms, drawn by how likely they are typed and by the share of their source."""
    if not all_forms:
        return []
    of_source = Counter[str]()
    for form in all_forms:
        of_source[form.source] += 1
    weights = np.array([form.weight * _SHARES[form.source] / of_source[form.source] for form in all_forms])
    order = rng.choice(len(all_forms), min(count, len(all_forms)), replace=False, p=weights / weights.sum())
    return [all_forms[i] for i in order.tolist()]


def _grade(holders: int) -> float:
    return 3.0 if holders <= _SINGLED_OUT else 2.0 if holders <= _FEW else 1.0
