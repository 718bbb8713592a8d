"""What lists of recommendations are like beside what they hit: coverage, tail, diversity, novelty, popularity, groups.

L_s is the list of shopper s, the first DEPTH of the ranking; what is popular is what shoppers had liked before the
test.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.ranker.examples import Examples
from training.ranker.log import Bools, Floats, Ints, Log
from training.ranker.measures import NOTHING

DEPTH = 10
# Items that together hold so much of what was liked are the head; the others are the tail.
_HEAD = 0.8
# A group is told by the brand, or else the category, where so many items have one.
_TOLD = 0.5
_NO_GROUP = "(none)"


@dataclass(frozen=True)
class Before:
    """What was known of n items when the test began. `shoppers`: how many had liked anything.

    `grouped_by` is "brand", "category" (the first of the path) or "" where most items have neither.
    """

    likers: Ints
    """Shoppers who had liked each item."""
    shoppers: int
    tail: Bools
    content: Float32
    grouped_by: str
    group: Ints
    groups: list[str]

    @classmethod
    def of(cls, items: Sequence[types_pb2.Item], content: Float32, log: Log, seen: Bools) -> "Before":
        """Of items in the order of their numbers; `content` (n, dim), normalised or zeros; `seen` rows of the log."""
        rows = seen & log.liked
        pairs = np.unique(np.stack([log.shopper[rows], log.item[rows]]), axis=1)
        likers = np.bincount(pairs[1], minlength=len(items))
        events = np.bincount(log.item[rows], minlength=len(items))
        kinds = {
            "brand": [item.brand for item in items],
            "category": [item.category_path[0] if item.category_path else "" for item in items],
        }
        by = next((kind for kind, names in kinds.items() if sum(map(bool, names)) >= _TOLD * len(items)), "")
        names = [name or _NO_GROUP for name in kinds[by]] if by else [_NO_GROUP] * len(items)
        groups, group = np.unique(names, return_inverse=True)
        return cls(likers, len(np.unique(pairs[0])), in_tail(events), content, by, group, groups.tolist())


@dataclass(frozen=True)
class Lists:
    """`values`: one number a shopper, (n,) each, NaN where it is not defined; `totals`: one number of all lists.

    `exposure`: share of what is shown, by group; empty where there are no groups.
    """

    values: dict[str, Floats]
    totals: dict[str, float]
    exposure: dict[str, float]


def in_tail(events: Ints) -> Bools:
    """Whether an item is outside the head: the fewest items, most liked first, that hold 80% of the events (the short
    head of Abdollahpouri, Burke and Mobasher 2017). Of equals, the lower number is in the head. (n,) -> (n,)."""
    order = np.argsort(-events, kind="stable")
    before = np.cumsum(events[order]) - events[order]
    tail = np.empty(len(events), bool)
    tail[order] = before >= _HEAD * events.sum()
    return tail


def judge_lists(first: Ints, examples: Examples, log: Log, before: Before) -> Lists:
    """Of the items ranked first, (n, at least DEPTH), for n examples of a log.

    Values:
    - tail_recall@10: |W in L and in the tail| / |W in the tail|; NaN where nothing of the tail is wanted.
    - diversity@10: mean over pairs of L of 1 - cosine of their content vectors (Ziegler et al. 2005); pairs without
      vectors are left out.
    - novelty@10: mean over L of -log2((shoppers who liked it + 1) / (shoppers + 1)), in bits (Zhou et al. 2010).
    - popularity@10: mean over L of the share of shoppers who liked it (Yin et al. 2012).

    Totals:
    - coverage@10: share of all items that stand in some list (Ge, Delgado-Battenfeld and Jannach 2010).
    - popularity_lift@10: by how much, as a share, lists are more popular than the histories they follow; 0 is none
      (Abdollahpouri et al. 2019).
    - exposure_gap@10, where there are groups: half the sum over groups of |share of exposure - share of what is
      wanted|; 0 is fair, 1 the opposite. An item at rank r is exposed 1 / log2(r + 1) (Singh and Joachims 2018).
    """
    lists = first[:, :DEPTH]
    there = lists != NOTHING
    share = before.likers / max(before.shoppers, 1)
    wanted = np.repeat(np.arange(len(examples)), np.diff(examples.starts))
    bits = -np.log2((before.likers + 1) / (before.shoppers + 1))
    values = {
        f"tail_recall@{DEPTH}": _tail_recall(lists, examples, wanted, before.tail),
        f"diversity@{DEPTH}": np.array([_diversity(before.content[line[line != NOTHING]]) for line in lists]),
        f"novelty@{DEPTH}": _mean(bits[lists], there),
        f"popularity@{DEPTH}": _mean(share[lists], there),
    }
    histories = [
        share[log.item[begin:end][log.liked[begin:end]]]
        for begin, end in zip(examples.begin.tolist(), examples.end.tolist(), strict=True)
    ]
    met = float(np.mean([one.mean() for one in histories if len(one)] or [np.nan]))
    totals = {
        f"coverage@{DEPTH}": len(np.unique(lists[there])) / len(before.likers),
        f"popularity_lift@{DEPTH}": float(np.nanmean(values[f"popularity@{DEPTH}"])) / met - 1,
    }
    if not before.grouped_by:
        return Lists(values, totals, {})
    gains = np.broadcast_to(1 / np.log2(np.arange(2, DEPTH + 2)), lists.shape)
    shown = np.bincount(before.group[lists[there]], gains[there], len(before.groups)) / gains[there].sum()
    asked = wanted_shares(examples, before)
    totals[f"exposure_gap@{DEPTH}"] = float(np.abs(shown - asked).sum() / 2)
    return Lists(values, totals, dict(zip(before.groups, shown.tolist(), strict=True)))


def wanted_shares(examples: Examples, before: Before) -> Floats:
    """Share of each group in what is wanted, all examples alike: (groups,)."""
    sizes = np.diff(examples.starts)
    weights = np.repeat(1 / (sizes * len(sizes)), sizes)
    return np.bincount(before.group[examples.items], weights, len(before.groups)).astype(np.float64)


def _tail_recall(lists: Ints, examples: Examples, wanted: Ints, tail: Bools) -> Floats:
    rare = tail[examples.items]
    found = (lists[wanted[rare]] == examples.items[rare, None]).any(axis=1)
    counts = np.bincount(wanted[rare], minlength=len(examples)).astype(float)
    hits = np.bincount(wanted[rare], found, len(examples))
    return np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)


def _diversity(vectors: Float32) -> float:
    vectors = vectors[vectors.any(axis=1)]
    count = len(vectors)
    if count < 2:
        return float("nan")
    total = float((vectors.sum(axis=0, dtype=np.float64) ** 2).sum()) - float((vectors.astype(np.float64) ** 2).sum())
    return 1 - total / (count * (count - 1))


def _mean(values: Floats, there: Bools) -> Floats:
    """The mean of each row over what is there; NaN where nothing is."""
    counts = there.sum(axis=1)
    return np.where(counts > 0, np.where(there, values, 0).sum(axis=1) / np.maximum(counts, 1), np.nan)
