"""A shop's log as integer arrays, its items and shoppers renumbered by a seed: numbers say nothing."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from services.domain.ages import gap_buckets
from services.domain.features import LIKED
from souk.types.v1 import types_pb2
from training.data.canonical import Dataset

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_TYPES = {name.removeprefix("EVENT_TYPE_"): number for name, number in types_pb2.EventType.items()}
_SCENES = {name.removeprefix("SCENE_"): number for name, number in types_pb2.Scene.items()}
_SESSION_SECONDS = 1800.0
_NOBODY = -1


@dataclass(frozen=True)
class Log:
    """Events with an item, ordered by shopper, then time; arrays have one row an event.

    `time` is in seconds since 1970, or the order within the shopper where the dataset has no time. A session ends
    after 30 minutes without an event; without time every event is its own.
    """

    item_ids: list[str]
    shopper_ids: list[str]
    has_time: bool
    shopper: Ints
    item: Ints
    type: Ints
    time: Floats
    session: Ints
    """Numbers sessions in the order of the rows."""
    scene: Ints
    query: NDArray[np.object_]

    @cached_property
    def liked(self) -> NDArray[np.bool_]:
        """Events that speak for their item."""
        return np.isin(self.type, list(LIKED))

    @cached_property
    def starts(self) -> Ints:
        """First row of each shopper, and the number of rows: (shoppers + 1,)."""
        return np.searchsorted(self.shopper, np.arange(len(self.shopper_ids) + 1))

    def gaps(self, times: Floats, now: Floats) -> Ints:
        """Bucket 0 to 15 of log2(1 + hours from an event to now); 0 without time."""
        if not self.has_time:
            return np.zeros(times.shape, np.int64)
        return gap_buckets(now - times)


def read_log(dataset: Dataset, events: pl.DataFrame, seed: int) -> Log:
    """The events as a Log over all items of the dataset; events without an item, or of an unknown one, are left out."""
    has_time = not dataset.events()["time"].has_nulls()
    items = _permuted(dataset.items()["item_id"], seed)
    shoppers = _permuted(events["shopper_id"], seed + 1)
    when = pl.col("time").dt.epoch("us").cast(pl.Float64) / 1e6 if has_time else pl.col("order").cast(pl.Float64)
    rows = events.select(
        shopper=pl.col("shopper_id").replace_strict(shoppers, np.arange(len(shoppers)), return_dtype=pl.Int64),
        item=pl.col("item_id").replace_strict(items, np.arange(len(items)), default=_NOBODY, return_dtype=pl.Int64),
        type=pl.col("type").replace_strict(_TYPES, return_dtype=pl.Int64),
        time=when,
        scene=pl.col("scene").replace_strict(_SCENES, default=0, return_dtype=pl.Int64),
        query=pl.col("query").fill_null(""),
    ).filter(pl.col("item") != _NOBODY)
    rows = rows.sort("shopper", "time", maintain_order=True)
    shopper, time = rows["shopper"].to_numpy(), rows["time"].to_numpy()
    new = np.ones(len(rows), bool)
    if has_time:
        new[1:] = (np.diff(shopper) != 0) | (np.diff(time) > _SESSION_SECONDS)
    return Log(
        items.to_list(),
        shoppers.to_list(),
        has_time,
        shopper,
        rows["item"].to_numpy(),
        rows["type"].to_numpy(),
        time,
        np.cumsum(new) - 1,
        rows["scene"].to_numpy(),
        rows["query"].to_numpy(),
    )


def _permuted(ids: pl.Series, seed: int) -> pl.Series:
    """Each id once. The permutation is of the sorted ids: the order of the file says nothing either."""
    return ids.unique().sort().sample(fraction=1.0, shuffle=True, seed=seed)
