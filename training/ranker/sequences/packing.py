"""Histories laid side by side in rows of one length, so that short ones waste no places."""

from dataclasses import dataclass

import numpy as np

from training.ranker.log import Ints
from training.ranker.sequences.files import Sequences

NOTHING = -1


@dataclass(frozen=True)
class Windows:
    """Parts of what may be learned, each at most so long and followed by the event that its last place is to tell."""

    begin: Ints
    end: Ints

    @classmethod
    def of(cls, sequences: Sequences, length: int) -> "Windows":
        """Cut from the end of each shopper's history, which stops before the last two events."""
        begins, ends = [], []
        for first, last in zip(sequences.starts[:-1].tolist(), (sequences.starts[1:] - 3).tolist(), strict=True):
            for stop in range(last, first, -length):
                begins.append(max(first, stop - length))
                ends.append(stop)
        return cls(np.array(begins, np.int64), np.array(ends, np.int64))

    def steps(self, places: int, rng: np.random.Generator) -> list[Ints]:
        """All windows in random order, in parts of about so many places."""
        order = rng.permutation(len(self.begin))
        step = np.cumsum((self.end - self.begin)[order]) // places
        return np.split(order, np.flatnonzero(np.diff(step)) + 1)


@dataclass(frozen=True)
class Packed:
    """`event` (rows, length): the event at each place, NOTHING where none is. `segment` (rows, length): places of one
    history share a number, as all empty places do. `number` (rows, length): places before it in its history."""

    event: Ints
    segment: Ints
    number: Ints


def pack(begin: Ints, end: Ints, length: int) -> Packed:
    """Lays out histories from `begin` to `end`, none empty, none longer than `length`, in the order given."""
    sizes = end - begin
    row, free, offsets = -1, 0, []
    for size in sizes.tolist():
        if size > free:
            row, free = row + 1, length
        offsets.append((row + 1) * length - free)
        free -= size
    events, segments = (np.full((row + 1) * length, NOTHING) for _ in range(2))
    numbers = np.zeros_like(events)
    within = ranges(np.zeros_like(sizes), sizes)
    places = np.repeat(np.array(offsets, np.int64), sizes) + within
    events[places] = np.repeat(begin, sizes) + within
    segments[places] = np.repeat(np.arange(len(sizes)), sizes)
    numbers[places] = within
    return Packed(*(one.reshape(-1, length) for one in (events, segments, numbers)))


def ranges(begin: Ints, end: Ints) -> Ints:
    """All numbers from each begin to its end, one range after the other."""
    sizes = end - begin
    found: Ints = np.arange(sizes.sum()) + np.repeat(begin - np.cumsum(sizes) + sizes, sizes)
    return found
