"""What a cross-encoder reads of a query and a candidate, and how what it says joins the score: training's and
serving's alike."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
# A query takes at most this share of what is read, so that something of the item is.
_QUERY_SHARE = 0.5


def candidate_text(title: str, brand: str, category: str) -> str:
    """What is read of a candidate: what the retriever's answer carries, so that nobody has to be asked for more.

    `category` is the path joined by " > ".
    """
    return ". ".join(part for part in (title, brand, category) if part)


def joined(query: Sequence[int], item: Sequence[int], max_tokens: int) -> tuple[list[int], int]:
    """Token ids of the two texts as one, and how many of them are the query's.

    Both come as tokenised alone, [CLS] ... [SEP]; the query is cut to half of `max_tokens`, the item to what is left.
    """
    asked = _cut(query, int(max_tokens * _QUERY_SHARE))
    return [*asked, *_cut(item[1:], max_tokens - len(asked))], len(asked)


def batch(pairs: Sequence[tuple[list[int], int]]) -> dict[str, Ints]:
    """What `joined` made, padded: input_ids, attention_mask and token_type_ids (1: the item), int64 (n, longest)."""
    longest = max(len(ids) for ids, _ in pairs)
    ids, mask, types = (np.zeros((len(pairs), longest), np.int64) for _ in range(3))
    for row, (own, asked) in enumerate(pairs):
        ids[row, : len(own)] = own
        mask[row, : len(own)] = 1
        types[row, asked : len(own)] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def fused(scores: NDArray[np.float64], relevance: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """(1 - weight) times the score's share of the best + weight times the relevance (0 to 1, NaN: not read): (n,).

    What was not read counts as irrelevant: it may stand above what was read only by its score.
    """
    best = max(float(scores.max()), 1e-12)
    return (1 - weight) * np.clip(scores / best, 0, 1) + weight * np.nan_to_num(relevance, nan=0.0)


def _cut(ids: Sequence[int], limit: int) -> list[int]:
    return list(ids) if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]
