"""Items that shoppers met together: what a log without queries still says of what stands for what."""

from collections import Counter
from itertools import pairwise

import polars as pl

from training.data.canonical import Dataset

Together = list[tuple[str, str]]

_SESSION_SECONDS = 30 * 60
_LEAST = 2
_NEIGHBOURS = 2
# Items of one session that count: who looks at everything says nothing.
_LONGEST = 20


def met_together(dataset: Dataset) -> Together:
    """(item, other) of which at least two shoppers' sessions held both next to each other, at most two others an item.

    A session is what one shopper did without a break of 30 minutes; without times, everything they did. Most
    frequent first, then by id; empty where the dataset has no events.
    """
    events = dataset.events().filter(pl.col("item_id").is_not_null())
    if not events.height:
        return []
    timed = not events["time"].has_nulls()
    by = ["shopper_id", "time" if timed else "order", "event_id"]
    events = events.sort(by, maintain_order=True)
    begins = pl.col("shopper_id") != pl.col("shopper_id").shift(1, fill_value="")
    if timed:
        begins |= pl.col("time").diff().dt.total_seconds().fill_null(0) > _SESSION_SECONDS
    sessions = (
        events.with_columns(session=begins.cum_sum())
        .group_by("session", maintain_order=True)
        .agg(pl.col("item_id").unique(maintain_order=True).head(_LONGEST))
    )
    counts = Counter[tuple[str, str]]()
    for session in sessions["item_id"].to_list():
        for one, other in pairwise(session):
            counts[one, other] += 1
            counts[other, one] += 1
    taken = Counter[str]()
    together: Together = []
    for (item, other), count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        if count >= _LEAST and taken[item] < _NEIGHBOURS:
            taken[item] += 1
            together.append((item, other))
    return together
