"""A cleaned log in three datasets that know nothing of each other: by time for the whole shop, or by shopper."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
import polars as pl

from training.data.canonical import NoTime


class Split(StrEnum):
    """What keeps the three apart."""

    TIME = "time"
    SHOPPER = "shopper"


@dataclass(frozen=True)
class Part:
    """One dataset of several. `rows`: which events and impressions it holds."""

    name: str
    rows: pl.Expr
    # Items are those known before then, and told by what happened before then; None: all.
    until: datetime | None = None


def parts_of(events: pl.LazyFrame, split: Split, share: float, seed: int) -> list[Part]:
    """train, validation and test, the latter two with `share` of the events (by time) or of the shoppers each.

    All events of one moment are in one part; so are all of a shopper's, drawn by `seed`. Raises NoTime.
    """
    return _by_time(events, share) if split is Split.TIME else _by_shopper(events, share, seed)


def _by_time(events: pl.LazyFrame, share: float) -> list[Part]:
    times = events.select("time").collect(engine="streaming")["time"].sort()
    if times.has_nulls() or not len(times):
        raise NoTime("--split time: not every event has its time; --split shopper needs none")
    middle, last = (times[int(len(times) * (1 - part * share))] for part in (2, 1))
    time = pl.col("time")
    return [
        Part("train", time < middle, middle),
        Part("validation", (time >= middle) & (time < last), last),
        Part("test", time >= last),
    ]


def _by_shopper(events: pl.LazyFrame, share: float, seed: int) -> list[Part]:
    shoppers = events.select("shopper_id").unique().collect(engine="streaming")["shopper_id"].sort()
    order = shoppers.gather(np.random.default_rng(seed).permutation(len(shoppers)))
    size = int(len(shoppers) * share)
    test, validation = (pl.col("shopper_id").is_in(held.implode()) for held in (order[:size], order[size : 2 * size]))
    return [
        # Who is nobody in particular is nowhere else.
        Part("train", ~(test | validation).fill_null(value=False)),
        Part("validation", validation),
        Part("test", test),
    ]


def catalogue_of(items: pl.DataFrame, events: pl.LazyFrame, met: pl.LazyFrame, train: Part, part: Part) -> pl.DataFrame:
    """The items that a part may know, with the units that train sold as their popularity.

    `met`: shopper_id, item_id and time of all events and impressions.
    """
    sold = events.filter(train.rows, pl.col("type") == "PURCHASE").group_by("item_id")
    units = sold.agg(popularity=pl.col("quantity").fill_null(1).sum().cast(pl.Float64)).collect(engine="streaming")
    if part.until is not None:
        before = met.filter(pl.col("time") < part.until).select("item_id").unique().collect(engine="streaming")
        known = pl.col("created_at").is_null() | (pl.col("created_at") < part.until)
        items = items.filter(known | pl.col("item_id").is_in(before["item_id"].implode()))
    return items.drop("popularity").join(units, on="item_id", how="left", maintain_order="left")


def shoppers_in(shoppers: pl.DataFrame, met: pl.LazyFrame, part: Part, first: bool) -> pl.DataFrame:
    """The shoppers of a part; the first also has those who met nothing. `met`: as above."""
    ids = met.select("shopper_id", _here=part.rows).group_by("shopper_id").agg(pl.col("_here").any())
    here = ids.collect(engine="streaming")
    beside = shoppers.join(here, on="shopper_id", how="left", maintain_order="left")
    return beside.filter(pl.col("_here").fill_null(value=first)).drop("_here")
