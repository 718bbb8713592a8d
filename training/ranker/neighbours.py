"""Items met together by the same shoppers: item-kNN (Sarwar et al. 2001), as coldstart counts its leg "together"."""

import numpy as np

from services.domain.neighbours import Neighbours
from training.ranker.log import Floats, Ints

# As coldstart counts: pairs among so many latest items of a shopper, so many partners of an item.
WINDOW = 24
PARTNERS = 40


def find_neighbours(group: Ints, item: Ints, n: int, partners: int = PARTNERS, window: int = WINDOW) -> Neighbours:
    """From liked events of n items, in order: (groups with both) / sqrt(groups with one * groups with the other).

    A group is a shopper or a session; both are met within `window` different items of it. The most frequent partners
    of an item are kept.
    """
    # Each item once a group, at its first event.
    _, first = np.unique(group * n + item, return_index=True)
    first = np.sort(first)
    group, item = group[first], item[first]
    counts = np.bincount(item, minlength=n)
    codes = []
    for lag in range(1, min(window, len(item) - 1) + 1):
        same = group[lag:] == group[:-lag]
        one, two = item[lag:][same], item[:-lag][same]
        codes.append(np.minimum(one, two) * n + np.maximum(one, two))
    pairs, both = np.unique(np.concatenate(codes or [np.empty(0, np.int64)]), return_counts=True)
    one, two = np.concatenate([pairs // n, pairs % n]), np.concatenate([pairs % n, pairs // n])
    both = np.concatenate([both, both])
    kept = strongest(one, both, n, partners)
    one, two, both = one[kept], two[kept], both[kept]
    scores = np.minimum(1, both / np.sqrt(counts[one] * counts[two])).astype(np.float32)
    return Neighbours(np.searchsorted(one, np.arange(n + 1)), two, scores)


def strongest(item: Ints, weight: Ints | Floats, n: int, most: int) -> Ints:
    """Rows of pairs, those of each of n items together, the heaviest first, at most `most` of an item."""
    order = np.lexsort((-weight, item))
    item = item[order]
    kept: Ints = order[np.arange(len(order)) - np.searchsorted(item, np.arange(n + 1))[item] < most]
    return kept
