"""Columns of any type as those of the canonical table; what cannot be read is null and told."""

import json
from string import Formatter
from typing import Any

import polars as pl

from souk.dataset import CATEGORY_SEPARATOR
from souk.types.v1 import types_pb2
from training.data.canonical import SCHEMAS
from training.data.clean.rules import ATTRIBUTE, TableRules

_FORMATTER = Formatter()
_MOMENT = pl.Datetime("us", "UTC")
_ISO = ("%Y-%m-%dT%H:%M:%S%.f%:z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M%:z", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
# What a price has beside its number, and thousands that no decimal comma can be taken for.
_SIGNS = " \t\u00a0$€£¥₹"
_THOUSANDS = r"^(\d{1,3}(?:,\d{3})+\.\d+)$"
_SINCE_1970 = {"s": 1_000_000, "ms": 1_000}
_ENUMS = {
    "type": [name.removeprefix("EVENT_TYPE_") for name, number in types_pb2.EventType.items() if number],
    "scene": [name.removeprefix("SCENE_") for name, number in types_pb2.Scene.items() if number],
}


def kinds(table: str) -> dict[str, pl.DataType]:
    """The types that rules see: signed where the format's are not, since dirt is negative."""
    frame = pl.from_arrow(SCHEMAS[table].empty_table())
    assert isinstance(frame, pl.DataFrame)
    return {name: pl.Int64() if kind.is_integer() else kind for name, kind in frame.schema.items()}


def typed(raw: pl.DataFrame, table: str, rules: TableRules, canonical: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A batch with all columns of `table`, `_row` and, unless the file is canonical, the rules' own.

    The second frame says where a value is null because what was there could not be read: a column of booleans for each
    column in which that can be. Empty texts are null and no fault.
    """
    own: dict[str, pl.DataType] = {} if canonical else dict.fromkeys(rules.own_columns(table), pl.String())
    columns, unread = [], []
    if "category" in raw.columns:
        raw = raw.with_columns(_paths(raw["category"]))
    if not canonical:
        raw = raw.with_columns(pl.lit(value).alias(name) for name, value in rules.constants.items())
        raw = _with_attributes(raw, rules).with_columns(
            pl.col(name).cast(pl.String).str.strip_chars().replace(values)
            for name, values in rules.values.items()
            if name in raw.columns
        )
    for name, kind in (kinds(table) | own).items():
        if name not in raw.columns:
            columns.append(pl.lit(None, kind).alias(name))
            continue
        had = raw.schema[name]
        there = pl.when(pl.col(name) != "").then(pl.col(name)) if had == pl.String else pl.col(name)
        time_format = "" if canonical else rules.time_format
        if not canonical and rules.decimal_comma and had == pl.String and kind.is_numeric():
            there = there.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
        if name == "price" and had == pl.String:
            there = there.str.strip_chars(_SIGNS)
            there = pl.when(there.str.contains(_THOUSANDS)).then(there.str.replace_all(",", "")).otherwise(there)
        value = _read(there, had, kind, time_format)
        if not canonical and name in rules.scale:
            value = value * rules.scale[name]
        if name in _ENUMS and table in ("events", "impressions"):
            value = pl.when(value.is_in(_ENUMS[name])).then(value)
        columns.append(value.alias(name))
        if had != kind or name in _ENUMS or kind == pl.Float64:
            unread.append((there.is_not_null() & value.is_null()).alias(name))
    frame = raw.select("_row", *columns)
    if not canonical and rules.event_id:
        frame = frame.with_columns(event_id=_id(rules.event_id))
    return frame, raw.select(unread)


def _paths(column: pl.Series) -> pl.Series:
    """Categories as one text where JSON or Parquet has a list of names."""
    if isinstance(column.dtype, pl.List):
        lists = column.to_list()
    elif column.dtype == pl.String and column.str.starts_with("[").any():
        lists = [_names(text) for text in column]
    else:
        return column
    texts = [_path(cell) if isinstance(cell, list) else cell for cell in lists]
    return pl.Series(column.name, texts, dtype=pl.String)


def _path(names: list[Any]) -> str:
    return CATEGORY_SEPARATOR.join(str(name).strip().replace(">", "/") for name in names if name)


def _names(text: str | None) -> list[Any] | str | None:
    """The texts of a JSON list; anything else as it is."""
    try:
        told = json.loads(text) if text and text.startswith("[") else text
    except ValueError:
        return text
    return [one for one in told if one is not None] if isinstance(told, list) else text


def _with_attributes(raw: pl.DataFrame, rules: TableRules) -> pl.DataFrame:
    """The columns of single attributes as the one that the format has."""
    if not rules.attributes:
        return raw
    columns = [ATTRIBUTE + name for name in rules.attributes]

    def of(cells: tuple[Any, ...]) -> str | None:
        told = {}
        for name, cell in zip(rules.attributes, cells, strict=True):
            parts = _names(cell) if isinstance(cell, str) else cell
            if not isinstance(parts, list):
                parts = str("" if parts is None else parts)
                parts = parts.split(rules.value_separator) if rules.value_separator else [parts]
            if values := [*dict.fromkeys(text for part in parts if part is not None and (text := str(part).strip()))]:
                told[name] = values
        return json.dumps(told, ensure_ascii=False) if told else None

    texts = [of(cells) for cells in raw.select(columns).iter_rows()]
    return raw.drop(columns).with_columns(attributes=pl.Series(texts, dtype=pl.String))


def _id(template: str) -> pl.Expr:
    """`{invoice}-{row}` with the values of a row; `row` counts from 1 over all files."""
    parts = pl.lit("")
    for text, name, _, _ in _FORMATTER.parse(template):
        parts = parts + pl.lit(text)
        if name:
            value = (pl.col("_row") + 1) if name == "row" else pl.col(name)
            parts = parts + value.cast(pl.String)
    return parts


def _read(value: pl.Expr, had: pl.DataType, kind: pl.DataType, time_format: str) -> pl.Expr:
    """`value` of the type `had` as `kind`, null where that cannot be."""
    if kind == pl.String:
        # 17850.0 is the number of a customer that some row lacks.
        return value.cast(pl.Int64, strict=False).cast(pl.String) if had.is_float() else value.cast(pl.String)
    if isinstance(kind, pl.Datetime):
        return _moment(value, had, time_format)
    if kind == pl.Boolean and had == pl.String:
        return value.str.to_lowercase().replace_strict(
            {"true": True, "false": False, "1": True, "0": False}, default=None, return_dtype=pl.Boolean
        )
    number = value.str.strip_chars() if had == pl.String else value
    real = number.cast(pl.Float64, strict=False)
    if kind.is_integer():
        whole = pl.when(real == real.floor()).then(real).cast(kind, strict=False)
        return whole if had.is_float() else pl.coalesce(number.cast(kind, strict=False), whole)
    return pl.when(real.is_finite()).then(real).cast(kind) if kind.is_float() else value.cast(kind, strict=False)


def _moment(value: pl.Expr, had: pl.DataType, time_format: str) -> pl.Expr:
    """Without an offset it is UTC."""
    if time_format in _SINCE_1970:
        since = (value.cast(pl.Float64, strict=False) * _SINCE_1970[time_format]).cast(pl.Int64, strict=False)
        moment = since.cast(_MOMENT)
        # What is no number may be a text as ISO 8601 has it.
        return pl.coalesce(moment, _moment(value, had, "")) if had == pl.String else moment
    if isinstance(had, pl.Datetime):
        moment = value.dt.cast_time_unit("us")
        return moment.dt.convert_time_zone("UTC") if had.time_zone else moment.dt.replace_time_zone("UTC")
    if had == pl.Date:
        return value.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if had != pl.String:
        return pl.lit(None, _MOMENT)
    text = value if time_format else value.str.replace(" ", "T", literal=True).str.replace(r"[zZ]$", "+00:00")
    read = []
    for one in (time_format,) if time_format else _ISO:
        moment = text.str.to_datetime(one, time_unit="us", strict=False)
        read.append(moment.dt.convert_time_zone("UTC") if "z" in one else moment.dt.replace_time_zone("UTC"))
    return pl.coalesce(read)
