"""What a rule is. Each is a dataclass whose fields are the keys of its TOML table; `name` is what reports call it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import polars as pl


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """Any rule. One whose columns the table does not have is left out (`reads`)."""

    kind: ClassVar[str]
    name: str = ""

    def reads(self) -> tuple[str, ...]:
        """Columns of the table that the rule cannot do without."""
        return ()

    def check(self) -> None:  # noqa: B027 - most rules have nothing to check
        """Raises ValueError where the values of the rule do not fit together."""

    def called(self) -> str:
        """Its name, else its kind and the columns it is given."""
        given = getattr(self, "columns", None) or (getattr(self, "column", ""),)
        return self.name or " ".join((self.kind, *given)).strip()


@dataclass(frozen=True, kw_only=True)
class Mend(Rule):
    """Changes values. Its own output it leaves as it is."""

    @abstractmethod
    def mended(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        """New columns by name; those in which nothing changes may be left out."""


@dataclass(frozen=True, kw_only=True)
class Drop(Rule):
    """Takes rows out, each for itself."""

    # What it must be told of the catalogue or the shoppers: columns of training/data/clean/rows.py.
    needs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def bad(self) -> pl.Expr:
        """True where a row goes; null counts as false."""


@dataclass(frozen=True, kw_only=True)
class OfShopper(Rule):
    """Looks at all events of a shopper at once. What it keeps it would also keep if other events were gone."""

    @abstractmethod
    def applied(self, events: pl.DataFrame) -> "Applied":
        """Events of whole shoppers, each one's by time. `_row`: place in the source; `_hash`: of the shopper."""


@dataclass(frozen=True)
class Applied:
    """What a rule on a shopper's events did."""

    kept: pl.DataFrame
    # Rows that went, by what is said of them beside the rule's name.
    dropped: dict[str, pl.DataFrame]
    # Rows as they were before a change, and the columns changed.
    before: pl.DataFrame | None = None
    columns: tuple[str, ...] = ()

    @classmethod
    def of(cls, events: pl.DataFrame, bad: pl.Expr) -> "Applied":
        """Rows go where `bad` holds; null counts as false."""
        flag = events.select(bad.fill_null(value=False).alias("bad"))["bad"]
        return cls(events.filter(~flag), {"": events.filter(flag)}) if flag.any() else cls(events, {})
