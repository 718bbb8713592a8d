"""Where what came next stands in a full ranking, and what HR and NDCG make of it."""

from collections.abc import Callable, Iterator

import numpy as np

from souk.vectors import Float32
from training.ranker.log import Floats, Ints
from training.ranker.sequences.files import Sequences

CUTS = (5, 10, 20)
Scores = Callable[[list[Ints]], Float32]
"""From histories, oldest first, to (histories, items); the largest ranks first."""

_AT_ONCE = 256


def measures(ranks: Floats) -> dict[str, float]:
    """`hr@k`: share of ranks below k, which count from 0. `ndcg@k`: mean of 1 / log2(rank + 2) of those, else 0
    (Järvelin and Kekäläinen 2002, for one wanted item)."""
    gains = 1 / np.log2(ranks + 2)
    found = {f"hr@{k}": float((ranks < k).mean()) for k in CUTS}
    return found | {f"ndcg@{k}": float(np.where(ranks < k, gains, 0).mean()) for k in CUTS}


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
    """How many items stand before the wanted one of each row, (rows,): of those that score the same, half do. What is
    not a number ranks last."""
    scores = np.where(np.isnan(scores), -np.inf, scores)
    own = scores[np.arange(len(wanted)), wanted][:, None]
    found: Floats = (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
    return found
