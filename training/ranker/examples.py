"""Moments of a log to learn from: what a shopper had done by then, and what they liked next."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from souk.types.v1 import types_pb2
from training.ranker.log import Bools, Floats, Ints, Log

# What an event says of how much the next items were wanted.
WANTED = {
    types_pb2.EVENT_TYPE_VIEW: 1.0,
    types_pb2.EVENT_TYPE_CLICK: 1.0,
    types_pb2.EVENT_TYPE_CART: 2.0,
    types_pb2.EVENT_TYPE_PURCHASE: 4.0,
}


@dataclass(frozen=True)
class Examples:
    """n moments. History: rows begin to end of the log. Wanted: items[starts[i]:starts[i + 1]], with weights and types.

    `type` is the deepest event with the item; `row` the log's row where the moment is (its scene and query).
    """

    begin: Ints
    end: Ints
    now: Floats
    starts: Ints
    items: Ints
    weights: Floats
    types: Ints

    def __len__(self) -> int:
        return len(self.end)

    def wanted(self, example: int) -> slice:
        """Where an example's wanted items are."""
        return slice(int(self.starts[example]), int(self.starts[example + 1]))

    def take(self, chosen: Ints) -> "Examples":
        """These examples alone, in this order."""
        sizes = np.diff(self.starts)[chosen]
        rows = np.concatenate([np.arange(self.starts[i], self.starts[i + 1]) for i in chosen] or [np.empty(0, int)])
        return Examples(
            self.begin[chosen],
            self.end[chosen],
            self.now[chosen],
            np.concatenate([[0], np.cumsum(sizes)]),
            self.items[rows],
            self.weights[rows],
            self.types[rows],
        )


def session_examples(log: Log, seed: int, within: bool = True) -> Examples:
    """A moment before each session of a shopper, and, `within`, one inside each session that has several times.

    Wanted is what the shopper likes from then to the session's end; inside a session without what it had met already.
    Moments with no event before them are left out.
    """
    rng = np.random.default_rng(seed)
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(log.session)) + 1, [len(log.session)]])
    first_rows = log.starts[log.shopper] if len(log.shopper) else np.empty(0, np.int64)
    found: list[tuple[int, int, dict[int, int]]] = []
    items, types, times, liked = log.item.tolist(), log.type.tolist(), log.time.tolist(), log.liked.tolist()
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        first = int(first_rows[start])
        cuts = [start] if start > first else []
        if within and times[stop - 1] > times[start]:
            # Events of one moment stay together.
            able = [row for row in range(start + 1, stop) if times[row] != times[row - 1]]
            cuts.append(able[int(rng.integers(len(able)))])
        for cut in cuts:
            met = set(items[start:cut])
            deepest: dict[int, int] = {}
            for row in range(cut, stop):
                if liked[row] and items[row] not in met:
                    deepest[items[row]] = max(types[row], deepest.get(items[row], 0))
            if deepest:
                found.append((first, cut, deepest))
    sizes = np.array([len(deepest) for *_, deepest in found], np.int64)
    end = np.array([cut for _, cut, _ in found], np.int64)
    kinds = np.array([kind for *_, deepest in found for kind in deepest.values()], np.int64)
    wanted = np.zeros(max(WANTED) + 1)
    wanted[list(WANTED)] = list(WANTED.values())
    return Examples(
        np.array([first for first, *_ in found], np.int64),
        end,
        log.time[end] if len(end) else np.empty(0),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.array([item for *_, deepest in found for item in deepest], np.int64),
        wanted[kinds],
        kinds,
    )


def hold_out(log: Log, examples: Examples, share: float) -> tuple[Ints, Ints]:
    """Examples to learn from and the latest ones held out: by time of the whole shop, else each shopper's last."""
    if log.has_time:
        order = np.argsort(examples.now, kind="stable")
        moment = examples.now[order[int(len(order) * (1 - share))]] if len(order) else 0.0
        late = examples.now >= moment
    else:
        shopper = log.shopper[examples.end]
        late = np.concatenate([shopper[1:] != shopper[:-1], [True]]) if len(shopper) else np.empty(0, bool)
    return np.flatnonzero(~late), np.flatnonzero(late)


@dataclass(frozen=True)
class Histories:
    """Histories side by side, oldest first, padded on the right: (batch, length) each."""

    items: Ints
    types: Ints
    gaps: Ints
    mask: Bools


@dataclass(frozen=True)
class Batch(Histories):
    """Histories and what each wants next: `rows` and `columns` say where."""

    rows: Ints
    columns: Ints
    weights: Floats
    """They sum to 1 for each row."""


def history_batch(log: Log, begin: Ints, end: Ints, now: Floats, max_history: int) -> Histories:
    """The latest events of the rows begin to end of a log, as of now; (n,) each."""
    sizes = np.minimum(end - begin, max_history)
    longest = max(1, int(sizes.max(initial=0)))
    places = np.arange(longest)
    mask = places < sizes[:, None]
    at = np.where(mask, (end - sizes)[:, None] + places, 0)
    gaps = log.gaps(log.time[at], now[:, None])
    return Histories(np.where(mask, log.item[at], 0), np.where(mask, log.type[at], 0), np.where(mask, gaps, 0), mask)


def collate(log: Log, examples: Examples, chosen: Ints, max_history: int) -> Batch:
    """One batch of the chosen examples."""
    histories = history_batch(log, examples.begin[chosen], examples.end[chosen], examples.now[chosen], max_history)
    part = examples.take(chosen)
    counts = np.diff(part.starts)
    rows = np.repeat(np.arange(len(chosen)), counts)
    totals = np.bincount(rows, part.weights, len(chosen))
    return Batch(
        histories.items,
        histories.types,
        histories.gaps,
        histories.mask,
        rows,
        part.items,
        part.weights / totals[rows],
    )


def batches(
    log: Log, examples: Examples, chosen: Ints, size: int, max_history: int, rng: np.random.Generator | None
) -> Iterator[tuple[Ints, Batch]]:
    """Batches of examples of like length; shuffled by `rng`, else in the order of length."""
    lengths = np.minimum(examples.end - examples.begin, max_history)[chosen]
    # Shuffled first, so that those of one length mix; a stable sort then.
    order = rng.permutation(len(chosen)) if rng is not None else np.arange(len(chosen))
    order = order[np.argsort(lengths[order], kind="stable")]
    parts = [chosen[order[begin : begin + size]] for begin in range(0, len(order), size)]
    if rng is not None:
        rng.shuffle(parts)
    for part in parts:
        yield part, collate(log, examples, part, max_history)
