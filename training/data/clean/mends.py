"""Rules that change values: encoding, markup, white space, placeholders, spellings, units, currencies, returns."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import polars as pl

from souk.dataset import CATEGORY_SEPARATOR
from training.data.clean import texts
from training.data.clean.rule import Mend


@dataclass(frozen=True, kw_only=True)
class _OfColumns(Mend):
    columns: tuple[str, ...]

    def reads(self) -> tuple[str, ...]:
        return self.columns


def _texts(frame: pl.DataFrame, columns: Iterable[str], odd: str, mend: Callable[[str], str]) -> dict[str, pl.Series]:
    """The columns in which a text changes."""
    new = {name: texts.mended(frame[name], odd, mend) for name in columns}
    return {name: column for name, column in new.items() if column is not None}


@dataclass(frozen=True, kw_only=True)
class Encoding(_OfColumns):
    """UTF-8 that was read as something else (ftfy), control characters, composed letters (NFC)."""

    kind = "encoding"

    def mended(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        return _texts(frame, self.columns, texts.ODD_ENCODING, texts.without_mojibake)


@dataclass(frozen=True, kw_only=True)
class Markup(_OfColumns):
    """HTML tags and entities."""

    kind = "html"

    def mended(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        return _texts(frame, self.columns, texts.ODD_MARKUP, texts.without_markup)


@dataclass(frozen=True, kw_only=True)
class Space(_OfColumns):
    """Runs of white space, white space at the ends, invisible characters."""

    kind = "space"

    def mended(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        return _texts(frame, self.columns, texts.ODD_SPACE, texts.one_space)


@dataclass(frozen=True, kw_only=True)
class Placeholder(_OfColumns):
    """Texts that stand for nothing, whatever their case, become null."""

    kind = "placeholder"
    values: tuple[str, ...]

    def mended(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        nothing = [value.lower() for value in self.values]
        return {name: frame[name].set(frame[name].str.to_lowercase().is_in(nothing), None) for name in self.columns}


@dataclass(frozen=True, kw_only=True)
class Case(_OfColumns):
    """Codes in one case."""

    kind = "case"
    to: Literal["upper", "lower"]

    def mended(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        def of(column: pl.Series) -> pl.Series:
            return column.str.to_uppercase() if self.to == "upper" else column.str.to_lowercase()

        return {name: of(frame[name]) for name in self.columns}


@dataclass(frozen=True, kw_only=True)
class Spelling(_OfColumns):
    """One spelling of each brand or category: `values` says which, `fold` takes the most frequent of those that differ
    in case, accents, spaces and punctuation alone (the first by text among equals; small tables only)."""

    kind = "spelling"
    values: dict[str, str] = field(default_factory=dict)
    fold: bool = False

    def check(self) -> None:
        if chained := sorted(set(self.values) & set(self.values.values())):
            raise ValueError(f"values: {chained[0]!r} is replaced and a replacement")
        if not self.values and not self.fold:
            raise ValueError("values: is missing, and fold is not set")

    def mended(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        new = {name: frame[name].replace(list(self.values), list(self.values.values())) for name in self.columns}
        return {name: _most_frequent_spelling(column) for name, column in new.items()} if self.fold else new


def _most_frequent_spelling(column: pl.Series) -> pl.Series:
    counts = column.drop_nulls().value_counts().rename({column.name: "text"})
    keys = pl.Series("key", [texts.folded(text) for text in counts["text"]], pl.String)
    best = (
        counts.with_columns(keys)
        .filter(pl.col("key") != "")
        .sort(["key", "count", "text"], descending=[False, True, False])
        .with_columns(best=pl.col("text").first().over("key"))
        .filter(pl.col("text") != pl.col("best"))
    )
    return column.replace(best["text"], best["best"])


@dataclass(frozen=True, kw_only=True)
class Category(Mend):
    """A category's path as the format has it: names joined by ` > `, none empty."""

    kind = "category"
    column: str = "category"
    separator: str = ">"

    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def mended(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        def path(text: str) -> str:
            names = (name.strip() for name in text.split(self.separator))
            # A path that is one already keeps its names, whatever else they hold.
            parts = (part.strip() for name in names for part in name.split(CATEGORY_SEPARATOR.strip()))
            return CATEGORY_SEPARATOR.join(part for part in parts if part)

        return _texts(frame, (self.column,), r"\S", path)


@dataclass(frozen=True, kw_only=True)
class Currency(Mend):
    """Prices in one currency: `rates` says what one unit of another is worth (also of a minor unit: GBX = 0.01)."""

    kind = "currency"
    to: str
    rates: dict[str, float]

    def reads(self) -> tuple[str, ...]:
        return ("price", "currency")

    def check(self) -> None:
        if self.to in self.rates:
            raise ValueError(f"rates: {self.to} is the currency that prices are brought to")
        if wrong := [code for code, rate in self.rates.items() if not rate > 0]:
            raise ValueError(f"rates: {wrong[0]} must be above 0")

    def mended(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        rate = pl.col("currency").replace_strict(self.rates, default=None, return_dtype=pl.Float64)
        new = frame.select(
            price=pl.when(rate.is_not_null()).then((pl.col("price") * rate).round(4)).otherwise("price"),
            currency=pl.when(rate.is_not_null()).then(pl.lit(self.to)).otherwise("currency"),
        )
        return {"price": new["price"], "currency": new["currency"]}


@dataclass(frozen=True, kw_only=True)
class Units(Mend):
    """Values of attributes in one unit: `0.5 kg` as `500 g` by to = { kg = ["g", 1000] }."""

    kind = "units"
    attributes: tuple[str, ...]
    to: dict[str, tuple[str, float]]

    def reads(self) -> tuple[str, ...]:
        return ("attributes",)

    def check(self) -> None:
        for unit, (base, factor) in self.to.items():
            if base in self.to:
                raise ValueError(f"to: {unit} becomes {base}, which is converted itself")
            if not factor > 0:
                raise ValueError(f"to: {unit} must have a factor above 0")

    def mended(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        names = frozenset(self.attributes)

        def convert(text: str) -> str:
            return texts.attributes_in_units(text, names, self.to)

        return _texts(frame, ("attributes",), r"\d", convert)


@dataclass(frozen=True, kw_only=True)
class Cancellations(Mend):
    """Purchases that are returns, told by a negative quantity or by `column` matching `pattern`, become RETURN events
    of as many units as they take back."""

    kind = "cancellations"
    column: str = "quantity"
    pattern: str = ""
    types: ClassVar[tuple[str, str]] = ("PURCHASE", "RETURN")

    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(("type", "quantity", self.column)))

    def check(self) -> None:
        if bool(self.pattern) == (self.column == "quantity"):
            raise ValueError("pattern: goes with another column than quantity, which needs none")

    def mended(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        bought, returned = self.types
        told = pl.col(self.column).str.contains(self.pattern) if self.pattern else pl.col("quantity") < 0
        is_return = (pl.col("type") == bought) & told
        new = frame.select(
            type=pl.when(is_return).then(pl.lit(returned)).otherwise("type"),
            quantity=pl.when(is_return).then(-pl.col("quantity")).otherwise("quantity"),
        )
        return {"type": new["type"], "quantity": new["quantity"]}
