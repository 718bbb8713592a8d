"""Rules on all events of a shopper: duplicates exact and near, bots, wholesalers, returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import polars as pl

from training.data.clean.rule import Applied, OfShopper

_EVENT = ("shopper_id", "type", "item_id", "query")


@dataclass(frozen=True, kw_only=True)
class Duplicates(OfShopper):
    """Events of a shopper alike in all `columns` are one: the first stays. Without `columns`: in all but the id."""

    kind = "duplicates"
    columns: tuple[str, ...] = ()

    def reads(self) -> tuple[str, ...]:
        return self.columns

    def applied(self, events: pl.DataFrame) -> Applied:
        content = [name for name in events.columns if name != "event_id" and not name.startswith("_")]
        columns = list(dict.fromkeys(("shopper_id", *(self.columns or content))))
        # Few rows share a hash with another: only these are compared.
        same = events.filter(events.select(columns).hash_rows().is_duplicated())
        first = same.select(pl.struct(columns).is_first_distinct()).to_series()
        return Applied.of(events, pl.col("_row").is_in(same["_row"].filter(~first).implode()))


@dataclass(frozen=True, kw_only=True)
class NearDuplicates(OfShopper):
    """The same again within `seconds`: a double click, a repeated request. The first of a run stays."""

    kind = "near duplicates"
    seconds: float
    types: tuple[str, ...]
    columns: tuple[str, ...] = _EVENT

    def reads(self) -> tuple[str, ...]:
        return ("time", *self.columns)

    def applied(self, events: pl.DataFrame) -> Applied:
        asked = events.filter(pl.col("type").is_in(self.types)).select("_row", "time", *self.columns)
        # Brought together by a hash and compared with what then stands before: grouping by texts takes much longer.
        asked = asked.with_columns(_key=asked.select(self.columns).hash_rows()).sort("_key", "time", "_row")
        same = pl.all_horizontal(pl.col(self.columns).eq_missing(pl.col(self.columns).shift()))
        again = same & (pl.col("time").diff() <= timedelta(seconds=self.seconds))
        return Applied.of(events, pl.col("_row").is_in(asked.filter(again)["_row"].implode()))


@dataclass(frozen=True, kw_only=True)
class Bots(OfShopper):
    """Shoppers faster than people: more than so many events of `types` in a minute or a day. All their events go."""

    kind = "bots"
    types: tuple[str, ...]
    per_minute: int = 0
    per_day: int = 0

    def reads(self) -> tuple[str, ...]:
        return ("shopper_id", "time", "type")

    def check(self) -> None:
        if not self.per_minute and not self.per_day:
            raise ValueError("per_minute or per_day: one must be given")

    def applied(self, events: pl.DataFrame) -> Applied:
        limits = {"1m": self.per_minute, "1d": self.per_day}
        asked = events.filter(pl.col("type").is_in(self.types)).select("shopper_id", "_hash", "time")
        # Who did less in all cannot have done more in a minute.
        busy = asked.group_by("_hash").len().filter(pl.col("len") > min(limit for limit in limits.values() if limit))
        asked = asked.join(busy, on="_hash", how="semi")
        found = [
            asked.group_by("shopper_id", pl.col("time").dt.truncate(every)).len().filter(pl.col("len") > limit)
            for every, limit in limits.items()
            if limit
        ]
        return _without(events, pl.concat([one["shopper_id"] for one in found]))


@dataclass(frozen=True, kw_only=True)
class Wholesalers(OfShopper):
    """Shoppers who buy to sell: more than so many units bought in one day. All their events go."""

    kind = "wholesalers"
    units_per_day: int

    def reads(self) -> tuple[str, ...]:
        return ("shopper_id", "time", "type", "quantity")

    def applied(self, events: pl.DataFrame) -> Applied:
        bought = events.filter(pl.col("type") == "PURCHASE")
        units = bought.group_by("shopper_id", pl.col("time").dt.truncate("1d")).agg(
            pl.col("quantity").fill_null(1).sum()
        )
        return _without(events, units.filter(pl.col("quantity") > self.units_per_day)["shopper_id"])


def _without(events: pl.DataFrame, shoppers: pl.Series) -> Applied:
    return (
        Applied.of(events, pl.col("shopper_id").is_in(shoppers.unique().implode()))
        if len(shoppers)
        else Applied(events, {})
    )


@dataclass(frozen=True, kw_only=True)
class Returns(OfShopper):
    """A return cancels what it undoes: the shopper's latest purchases of the item before it, as many units as it has.

    `matched = "cancel"`: the return goes, and each purchase it undoes wholly; of the last one the rest stays. "keep":
    both stay as events. `unmatched`: what becomes of a return of more units than the log saw this shopper buy.
    """

    kind = "returns"
    matched: Literal["cancel", "keep"]
    unmatched: Literal["drop", "keep"]

    def reads(self) -> tuple[str, ...]:
        return ("shopper_id", "item_id", "type", "time", "quantity")

    def applied(self, events: pl.DataFrame) -> Applied:
        pairs = events.filter(pl.col("type") == "RETURN").select("shopper_id", "item_id").unique()
        asked = events.filter(pl.col("type").is_in(["PURCHASE", "RETURN"])).join(
            pairs, on=["shopper_id", "item_id"], how="semi", nulls_equal=True
        )
        rest, met, unmet = _undone(asked)
        gone: dict[str, list[int]] = {"of more than the shopper had bought": unmet if self.unmatched == "drop" else []}
        changed: dict[int, int] = {}
        if self.matched == "cancel":
            gone["that undid a purchase"] = met
            gone["purchase wholly undone"] = [row for row, units in rest.items() if not units]
            changed = {row: units for row, units in rest.items() if units}
        dropped = {what: events.filter(_rows(rows)) for what, rows in gone.items() if rows}
        kept = events.filter(~_rows([row for rows in gone.values() for row in rows])) if dropped else events
        if not changed:
            return Applied(kept, dropped)
        new = pl.col("_row").replace_strict([*changed], [*changed.values()], default=None, return_dtype=pl.Int64)
        mended = kept.with_columns(quantity=new.fill_null(pl.col("quantity")))
        return Applied(mended, dropped, kept.filter(_rows([*changed])), ("quantity",))


def _rows(numbers: list[int]) -> pl.Expr:
    return pl.col("_row").is_in(pl.Series(numbers, dtype=pl.UInt64).implode())


def _undone(asked: pl.DataFrame) -> tuple[Mapping[int, int], list[int], list[int]]:
    """Purchases that returns take from, with the units left; returns met and unmet. All by row.

    At one moment purchases come first: a log of minutes holds both in the same one.
    """
    rest: dict[int, int] = {}
    met, unmet = [], []
    open_purchases: dict[tuple[Any, Any], list[list[int]]] = {}
    order = asked.sort("time", pl.col("type") == "RETURN", "_row", nulls_last=True)
    units_of = pl.col("quantity").fill_null(1)
    for row, shopper, item, kind, units in order.select("_row", "shopper_id", "item_id", "type", units_of).iter_rows():
        bought = open_purchases.setdefault((shopper, item), [])
        if kind == "PURCHASE":
            bought.append([row, units])
            continue
        if units < 1 or sum(left for _, left in bought) < units:
            unmet.append(row)
            continue
        met.append(row)
        while units:
            taken = min(units, bought[-1][1])
            units -= taken
            bought[-1][1] -= taken
            rest[bought[-1][0]] = bought[-1][1]
            if not bought[-1][1]:
                bought.pop()
    return rest, met, unmet
