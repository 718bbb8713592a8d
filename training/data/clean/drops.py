"""Rules that take single rows out: missing, malformed, out of range, out of time, of nothing that is known."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import polars as pl

from services.domain.checks import MAX_ID_BYTES
from training.data.clean.rule import Drop

ITEM_KNOWN, ITEM_CREATED, ITEM_PRICE, ITEM_CURRENCY = "_item", "_item_created", "_item_price", "_item_currency"
SHOPPER_KNOWN = "_shopper"


@dataclass(frozen=True, kw_only=True)
class Missing(Drop):
    """A row needs a value in each of the columns."""

    kind = "missing"
    columns: tuple[str, ...]

    def reads(self) -> tuple[str, ...]:
        return self.columns

    def bad(self) -> pl.Expr:
        return pl.any_horizontal(pl.col(self.columns).is_null())


@dataclass(frozen=True, kw_only=True)
class Pattern(Drop):
    """A text must match a regular expression (Rust's syntax)."""

    kind = "pattern"
    column: str
    matches: str

    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def check(self) -> None:
        try:
            pl.Series([""]).str.contains(self.matches)
        except pl.exceptions.ComputeError as error:
            raise ValueError(f"matches: {self.matches!r} is no regular expression: {error}") from None

    def bad(self) -> pl.Expr:
        return ~pl.col(self.column).str.contains(self.matches)


@dataclass(frozen=True, kw_only=True)
class OneOf(Drop):
    """A value must be one of those named."""

    kind = "one of"
    column: str
    values: tuple[str, ...]

    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def bad(self) -> pl.Expr:
        return ~pl.col(self.column).is_in(self.values)


@dataclass(frozen=True, kw_only=True)
class Range(Drop):
    """A number must lie between limits: outlier prices and quantities, stock corrections. `types`: events of these."""

    kind = "range"
    column: str
    above: float = -math.inf
    min: float = -math.inf
    max: float = math.inf
    types: tuple[str, ...] = ()

    def reads(self) -> tuple[str, ...]:
        return (self.column, "type") if self.types else (self.column,)

    def check(self) -> None:
        if self.min > self.max or self.above >= self.max:
            raise ValueError("min and above: must lie below max")
        if self.above == self.min == -self.max:
            raise ValueError("above, min or max: one must be given")

    def bad(self) -> pl.Expr:
        value = pl.col(self.column)
        outside = (value < self.min) | (value > self.max) | (value <= self.above)
        return outside & pl.col("type").is_in(self.types) if self.types else outside


@dataclass(frozen=True, kw_only=True)
class Moment(Drop):
    """Time travel: a moment before `earliest` or after `latest`; without `latest` after the cleaning itself."""

    kind = "time"
    column: str = "time"
    earliest: datetime | None = None
    latest: datetime | None = None

    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def bad(self) -> pl.Expr:
        late = pl.col(self.column) > (self.latest or datetime.now(UTC))
        return late if self.earliest is None else late | (pl.col(self.column) < self.earliest)


@dataclass(frozen=True, kw_only=True)
class BeforeItem(Drop):
    """Time travel: an event more than `days` before the item of the catalogue existed."""

    kind = "before its item"
    needs: ClassVar[tuple[str, ...]] = (ITEM_CREATED,)
    days: float = 0.0

    def reads(self) -> tuple[str, ...]:
        return ("time", "item_id")

    def bad(self) -> pl.Expr:
        return pl.col("time") < pl.col(ITEM_CREATED) - timedelta(days=self.days)


@dataclass(frozen=True, kw_only=True)
class UnknownItem(Drop):
    """A row about an item that the catalogue does not hold."""

    kind = "unknown item"
    needs: ClassVar[tuple[str, ...]] = (ITEM_KNOWN,)

    def reads(self) -> tuple[str, ...]:
        return ("item_id",)

    def bad(self) -> pl.Expr:
        return pl.col("item_id").is_not_null() & pl.col(ITEM_KNOWN).is_null()


@dataclass(frozen=True, kw_only=True)
class UnknownShopper(Drop):
    """A row of a shopper that the shoppers' table does not hold."""

    kind = "unknown shopper"
    needs: ClassVar[tuple[str, ...]] = (SHOPPER_KNOWN,)

    def reads(self) -> tuple[str, ...]:
        return ("shopper_id",)

    def bad(self) -> pl.Expr:
        return pl.col("shopper_id").is_not_null() & pl.col(SHOPPER_KNOWN).is_null()


@dataclass(frozen=True, kw_only=True)
class PriceRatio(Drop):
    """An outlier: more than `times` the catalogue's price of the item or less than that part of it, same currency."""

    kind = "price ratio"
    needs: ClassVar[tuple[str, ...]] = (ITEM_PRICE, ITEM_CURRENCY)
    times: float

    def reads(self) -> tuple[str, ...]:
        return ("price", "currency", "item_id")

    def check(self) -> None:
        if not self.times > 1:
            raise ValueError("times: must be above 1")

    def bad(self) -> pl.Expr:
        ratio = pl.col("price") / pl.col(ITEM_PRICE)
        outlier = (ratio > self.times) | (ratio < 1 / self.times)
        return outlier & (pl.col(ITEM_PRICE) > 0) & (pl.col("currency") == pl.col(ITEM_CURRENCY))


@dataclass(frozen=True, kw_only=True)
class Identifier(Drop):
    """The contract's limits of an id: 1 to 128 bytes without control characters (services/domain/checks.py)."""

    kind = "identifier"
    columns: tuple[str, ...]

    def reads(self) -> tuple[str, ...]:
        return self.columns

    def bad(self) -> pl.Expr:
        ids = pl.col(self.columns)
        return pl.any_horizontal((ids.str.len_bytes() > MAX_ID_BYTES) | ids.str.contains(r"[\x00-\x1f\x7f]"))
