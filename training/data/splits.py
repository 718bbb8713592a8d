"""Splits of a log: by time for all shoppers at once, the last of each shopper, and whole shoppers held out."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from training.data.canonical import Dataset


@dataclass(frozen=True)
class Split:
    """Events to learn from, to choose by and to test on; frames with the columns of the events table."""

    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame


def by_time(dataset: Dataset, validation: float = 0.08, test: float = 0.08) -> Split:
    """Two moments for the whole shop: the last events are the test, those before them the validation.

    The shares are of the events' number; all events of one moment fall on one side. Raises NoTime.
    """
    dataset.require_time("a split by time")
    events = dataset.events().sort("time", maintain_order=True)
    times = events["time"]
    last: datetime = times[int(len(times) * (1 - test))]
    middle: datetime = times[int(len(times) * (1 - test - validation))]
    return Split(
        events.filter(pl.col("time") < middle),
        events.filter(pl.col("time") >= middle, pl.col("time") < last),
        events.filter(pl.col("time") >= last),
    )


def leave_one_out(dataset: Dataset) -> Split:
    """Each shopper's last event is the test, the one before the validation (Kang and McAuley 2018, section 4.1).

    Shoppers of fewer than three events are all in train. Works on an order alone.
    """
    events = dataset.events().sort("shopper_id", "time", "order", maintain_order=True)
    events = events.with_columns(
        left=pl.int_range(pl.len(), 0, -1).over("shopper_id"), many=pl.len().over("shopper_id") > 2
    )
    held = [events.filter(pl.col("left") == number, "many").drop("left", "many") for number in (2, 1)]
    return Split(events.filter((pl.col("left") > 2) | ~pl.col("many")).drop("left", "many"), *held)


def by_shopper(dataset: Dataset, validation: float = 0.1, test: float = 0.1, seed: int = 0) -> Split:
    """Whole shoppers drawn by seed: those of validation and test are nowhere in train."""
    events = dataset.events()
    shoppers = np.sort(events["shopper_id"].unique().to_numpy())
    order = np.random.default_rng(seed).permutation(shoppers)
    first, second = (int(len(order) * share) for share in (test, test + validation))
    held = pl.Series(order[:first]), pl.Series(order[first:second])
    one, two = (pl.col("shopper_id").is_in(shoppers.implode()) for shoppers in held)
    return Split(events.filter(~one & ~two), events.filter(two), events.filter(one))
