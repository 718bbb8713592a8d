"""Answers as shoppers saw them: what was shown to whom, when, and what became of it; from a dataset's impressions."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.data.canonical import Dataset
from training.ranker.log import Floats, Ints, Log

_SCENES = {name.removeprefix("SCENE_"): number for name, number in types_pb2.Scene.items()}
# Places looked at, as far as a log can tell: so many after the last click, or from the top where nothing was clicked.
_LOOKED_AFTER = 3
_LOOKED_AT_LEAST = 4


@dataclass(frozen=True)
class Answers:
    """n answers in order of time: the items of answer i are at starts[i] to starts[i + 1].

    `end`: the row of the log where what the shopper had done by then ends; `begin` where it begins.
    """

    begin: Ints
    end: Ints
    time: Floats
    scene: Ints
    query: list[str]
    starts: Ints
    items: Ints
    labels: Float32
    """Whether each item was clicked, carted, purchased; the deeper imply the others: (items, 3)."""

    def __len__(self) -> int:
        return len(self.time)


def read_answers(dataset: Dataset, log: Log) -> Answers:
    """The answers given to shoppers of the log, of each the places that were probably looked at (the cascade of
    Craswell et al. 2008). Those without time, or to nobody in particular, are left out; none where there are none."""
    shopper_of = pl.DataFrame({"shopper_id": log.shopper_ids, "shopper": np.arange(len(log.shopper_ids))})
    item_of = pl.DataFrame({"item_id": log.item_ids, "item": np.arange(len(log.item_ids))})
    reached = [pl.col(name).fill_null(False) for name in ("clicked", "carted", "purchased")]
    answer = ("time", "request_id")
    rows = (
        dataset.impressions()
        .filter(pl.col("time").is_not_null())
        .join(shopper_of, on="shopper_id")
        .join(item_of, on="item_id")
        .with_columns(clicked=pl.any_horizontal(reached), carted=pl.any_horizontal(reached[1:]), purchased=reached[2])
        .sort(*answer, "position")
        .with_columns(last=pl.col("position").filter("clicked").max().over(answer).cast(pl.Int64))
        .with_columns(until=pl.max_horizontal(pl.col("last") + _LOOKED_AFTER, pl.lit(_LOOKED_AT_LEAST - 1)))
        .filter(pl.col("position").cast(pl.Int64) <= pl.col("until"))
    )
    first = rows.with_row_index("row").unique(answer, keep="first", maintain_order=True)
    shopper = first["shopper"].to_numpy()
    when = first["time"].dt.epoch("us").to_numpy() / 1e6
    end = np.array(
        [
            log.starts[one] + np.searchsorted(log.time[log.starts[one] : log.starts[one + 1]], moment)
            for one, moment in zip(shopper.tolist(), when.tolist(), strict=True)
        ],
        np.int64,
    )
    return Answers(
        log.starts[shopper],
        end,
        when,
        first["scene"].replace_strict(_SCENES, default=0, return_dtype=pl.Int64).to_numpy(),
        first["query"].fill_null("").to_list(),
        np.append(first["row"].to_numpy().astype(np.int64), len(rows)),
        rows["item"].to_numpy(),
        rows.select("clicked", "carted", "purchased").to_numpy().astype(np.float32),
    )
