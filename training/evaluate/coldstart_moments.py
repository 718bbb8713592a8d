"""What is asked of strategies for unknown items and shoppers: a fifth of either is held out, by fold."""

from dataclasses import dataclass, replace

import numpy as np

from training.evaluate.ranking import Moment, rows_before
from training.ranker.log import Bools, Floats, Ints, Log

FOLDS = 5
"""A seed holds out one fifth of the items and of the shoppers; five seeds in a row hold out each of them once."""


@dataclass(frozen=True)
class Asked:
    """m moments of a log, and what may be learned before them."""

    log: Log
    """Where histories are read; without the events of items that are held out."""
    known: Log
    """What may be learned from."""
    until: float
    able: Bools
    """Items that are ranked, (items,)."""
    unknown: Bools
    """Items of which nothing is known, (items,)."""
    new_only: bool
    shopper: Ints
    begin: Ints
    end: Ints
    """The rows of each history in `log`: (m,) both."""
    wanted: list[Ints]
    counts: Floats
    """How many moments each stands for, of those that there are: (m,)."""

    def __len__(self) -> int:
        return len(self.end)

    def history(self, number: int, reveal: int | None = None) -> slice:
        """The rows of a history, all or the latest `reveal`."""
        begin, end = int(self.begin[number]), int(self.end[number])
        return slice(begin if reveal is None else max(begin, end - reveal), end)

    def take(self, chosen: Ints) -> "Asked":
        """These moments alone."""
        return replace(
            self,
            shopper=self.shopper[chosen],
            begin=self.begin[chosen],
            end=self.end[chosen],
            wanted=[self.wanted[number] for number in chosen.tolist()],
            counts=self.counts[chosen],
        )


def fold_of(n: int, seed: int) -> Ints:
    """The fold 0 to 4 of each of n things; the same five folds for seeds that share seed // 5."""
    order = np.random.default_rng(seed // FOLDS).permutation(n)
    out = np.empty(n, np.int64)
    out[order] = (np.arange(n) + seed) % FOLDS
    return out


def items_asked(log: Log, moment: Moment, held: Bools, hidden: Bools, most: int, seed: int) -> Asked:
    """Moments where the items `held` are unknown but may be wanted, and `hidden` ones are not there at all.

    Their events are in no history and nothing is learned from them. At most so many moments, drawn by seed, each with
    an event of a known item before it; where they can, half of them want an unknown item.
    """
    kept = ~(held | hidden)[log.item]
    part = rows_before(log, kept)
    place = np.concatenate([[0], np.cumsum(kept)])
    known = rows_before(log, kept & moment.seen)
    asked = _asked(log, part, known, moment, ~hidden, place)
    useful = (asked.begin < asked.end) & np.array([len(one) > 0 for one in asked.wanted])
    rare = np.array([bool(asked.unknown[one].any()) for one in asked.wanted])
    groups = [np.flatnonzero(useful & group) for group in (rare, ~rare)]
    share = [min(len(group), max(most // 2, most - len(other))) for group, other in (groups, groups[::-1])]
    rng = np.random.default_rng(seed)
    for group, some in zip(groups, share, strict=True):
        asked.counts[group] = len(group) / max(some, 1)
    chosen = np.concatenate([rng.permutation(group)[:some] for group, some in zip(groups, share, strict=True)])
    return asked.take(np.sort(chosen))


def shoppers_asked(log: Log, moment: Moment, held: Bools, learned: Bools, most: int, seed: int) -> Asked:
    """Moments of the shoppers `held`; what may be learned is of the shoppers `learned` alone, (shoppers,) both."""
    everything = np.ones(len(log.item_ids), bool)
    known = rows_before(log, moment.seen & learned[log.shopper])
    asked = _asked(log, log, known, moment, everything, np.arange(len(log.item) + 1))
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(held[asked.shopper]))[:most]
    return asked.take(np.sort(chosen))


def _asked(whole: Log, part: Log, known: Log, moment: Moment, able: Bools, place: Ints) -> Asked:
    """`place`: the row of `part` at which each row of the whole log is, or would be."""
    examples = moment.examples
    n = len(whole.item_ids)
    items = [examples.items[examples.wanted(number)] for number in range(len(examples))]
    return Asked(
        part,
        known,
        moment.until,
        able,
        np.bincount(known.item[known.liked], minlength=n) == 0,
        moment.new_only,
        whole.shopper[examples.end],
        place[examples.begin],
        place[examples.end],
        [one[able[one]] for one in items],
        np.ones(len(items)),
    )
