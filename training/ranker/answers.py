"""Answers as shoppers saw them: what was shown to whom, when, and what became of it; from a dataset's impressions."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.data.canonical import Dataset
from training.ranker.log import Bools, Floats, Ints, Log

_SCENES = {name.removeprefix("SCENE_"): number for name, number in types_pb2.Scene.items()}
# Places looked at, as far as a log can tell: so many after the last click, or from the top where nothing was clicked.
_LOOKED_AFTER = 3
_LOOKED_AT_LEAST = 4
_NOBODY = -1


@dataclass(frozen=True)
class Answers:
    """n answers in order of time: the items of answer i are at starts[i] to starts[i + 1].

    `end`: the row of the log where what the shopper had done by then ends; `begin` where it begins. The arrays of
    items have one entry for each: `position` from 0, `propensity` of standing there, `looked_at` as far as a log can
    tell (the cascade of Craswell et al. 2008).
    """

    begin: Ints
    end: Ints
    time: Floats
    scene: Ints
    query: list[str]
    starts: Ints
    shopper: Ints
    """Whose each answer is: any numbers, one of its own for nobody in particular."""
    policy: list[str]
    items: Ints
    position: Ints
    propensity: Floats
    looked_at: Bools
    stock: Floats
    """Units left of each item when it was shown, NaN where that is not known: (items,)."""
    labels: Float32
    """Whether each item was clicked, carted, purchased; the deeper imply the others: (items, 3)."""

    def __len__(self) -> int:
        return len(self.time)

    @property
    def answer(self) -> Ints:
        """The number of the answer of each item."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def since(self, moment: float) -> "Answers":
        """Those given from a moment on, in seconds since 1970."""
        return self.take(np.flatnonzero(self.time >= moment))

    def until(self, moment: float) -> "Answers":
        """Those given before a moment, in seconds since 1970."""
        return self.take(np.flatnonzero(self.time < moment))

    def take(self, chosen: Ints) -> "Answers":
        """These answers alone; `chosen` rises."""
        rows = np.isin(self.answer, chosen)
        return Answers(
            self.begin[chosen],
            self.end[chosen],
            self.time[chosen],
            self.scene[chosen],
            [self.query[answer] for answer in chosen.tolist()],
            np.concatenate([[0], np.cumsum(np.diff(self.starts)[chosen])]),
            self.shopper[chosen],
            [self.policy[answer] for answer in chosen.tolist()],
            self.items[rows],
            self.position[rows],
            self.propensity[rows],
            self.looked_at[rows],
            self.stock[rows],
            self.labels[rows],
        )


def read_answers(dataset: Dataset, log: Log, everybody: bool = False) -> Answers:
    """The answers given to shoppers of the log; `everybody`: also to those without events and to nobody in particular,
    with nothing done by then. Those without time are left out, and items that the log does not know."""
    shopper_of = pl.DataFrame({"shopper_id": log.shopper_ids, "shopper": np.arange(len(log.shopper_ids))})
    item_of = pl.DataFrame({"item_id": log.item_ids, "item": np.arange(len(log.item_ids))})
    reached = [pl.col(name).fill_null(False) for name in ("clicked", "carted", "purchased")]
    answer = ("time", "request_id")
    rows = (
        dataset.impressions()
        .filter(pl.col("time").is_not_null())
        .join(shopper_of, on="shopper_id", how="left" if everybody else "inner")
        .join(item_of, on="item_id")
        .with_columns(clicked=pl.any_horizontal(reached), carted=pl.any_horizontal(reached[1:]), purchased=reached[2])
        .sort(*answer, "position")
        .with_columns(last=pl.col("position").filter("clicked").max().over(answer).cast(pl.Int64))
        .with_columns(until=pl.max_horizontal(pl.col("last") + _LOOKED_AFTER, pl.lit(_LOOKED_AT_LEAST - 1)))
        .with_columns(looked_at=pl.col("position").cast(pl.Int64) <= pl.col("until"))
    )
    first = rows.with_row_index("row").unique(answer, keep="first", maintain_order=True)
    shopper = first["shopper"].fill_null(_NOBODY).to_numpy()
    known = shopper != _NOBODY
    when = first["time"].dt.epoch("us").to_numpy() / 1e6
    end = np.array(
        [
            log.starts[one] + np.searchsorted(log.time[log.starts[one] : log.starts[one + 1]], moment)
            if one != _NOBODY
            else 0
            for one, moment in zip(shopper.tolist(), when.tolist(), strict=True)
        ],
        np.int64,
    )
    # Who has no events may still have several answers; whoever has no id stands alone.
    owner = first.select(pl.coalesce("shopper_id", pl.concat_str(pl.lit("\0"), "request_id")).rank("dense"))
    return Answers(
        np.where(known, log.starts[shopper], 0),
        end,
        when,
        first["scene"].replace_strict(_SCENES, default=0, return_dtype=pl.Int64).to_numpy(),
        first["query"].fill_null("").to_list(),
        np.append(first["row"].to_numpy().astype(np.int64), len(rows)),
        owner.to_series().to_numpy().astype(np.int64),
        first["policy"].fill_null("").to_list(),
        rows["item"].to_numpy(),
        rows["position"].to_numpy().astype(np.int64),
        rows["propensity"].to_numpy().astype(np.float64),
        rows["looked_at"].to_numpy(),
        rows["stock"].cast(pl.Float64).fill_null(float("nan")).to_numpy(),
        rows.select("clicked", "carted", "purchased").to_numpy().astype(np.float32),
    )
