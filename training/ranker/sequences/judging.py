"""Where what came next stands in a full ranking, and what HR and NDCG make of it."""

from collections.abc import Callable, Iterator

import numpy as np

from souk.vectors import Float32
from training.ranker.log import Floats, Ints
from training.ranker.measures import DEPTHS, gain
from training.ranker.measures import ranks as ranks_of_several
from training.ranker.sequences.files import Sequences

Scores = Callable[[list[Ints]], Float32]
"""From histories, oldest first, to (histories, items); the largest ranks first."""

_AT_ONCE = 256


def measures(ranks: Floats) -> dict[str, float]:
    """The means of `hr@k` and `ndcg@k` of training.ranker.measures for one wanted item each, from ranks from 0."""
    found = {f"hr@{k}": float((ranks < k).mean()) for k in DEPTHS}
    return found | {f"ndcg@{k}": float(gain(ranks, k).mean()) for k in DEPTHS}


def moments(sequences: Sequences, back: int, shoppers: Ints) -> Iterator[tuple[list[Ints], Ints]]:
    """In parts: histories up to the event `back` from the end of each of the shoppers, and that event's item."""
    for at in range(0, len(shoppers), _AT_ONCE):
        some = shoppers[at : at + _AT_ONCE]
        begins, ends = sequences.starts[some], sequences.starts[some + 1] - back
        yield [sequences.item[begin:end] for begin, end in zip(begins, ends, strict=True)], sequences.item[ends]


def ranks_of(sequences: Sequences, back: int, shoppers: Ints, scores: Scores, masked: bool) -> Floats:
    """Where the event `back` from the end of each of the shoppers stands among all items, by what came before it.

    `masked`: what was met before is left out of the ranking.
    """
    parts = []
    for histories, wanted in moments(sequences, back, shoppers):
        found = scores(histories)
        parts.append(ranks(leave_out(found, histories) if masked else found, wanted))
    return np.concatenate(parts)


def leave_out(scores: Float32, histories: list[Ints]) -> Float32:
    """The scores with minus infinity for what each history holds."""
    rows = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    scores[rows, np.concatenate(histories)] = -np.inf
    return scores


def ranks(scores: Float32, wanted: Ints) -> Floats:
    """How many items stand before the wanted one of each row, (rows,): of those that score the same, half do."""
    return ranks_of_several(scores, np.arange(len(wanted)), wanted)
