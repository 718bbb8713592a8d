"""UCI Online Retail II (doi 10.24432/C5CG6D), a real gift shop's log, cleaned into a canonical dataset."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from training.data.canonical import DatasetWriter, Info

# A product's code: five digits and at most two letters. Postage, fees, vouchers, samples and tests have others.
_PRODUCT = r"^\d{5}[A-Z]{0,2}$"
_MISSING_TEXT = ("nan", "Unknown", "")
_RAW = ("year_2009_2010.parquet", "year_2010_2011.parquet")


@dataclass(frozen=True)
class Cleaned:
    """Tables in the canonical schema and what was left out: table -> reason -> rows."""

    items: pl.DataFrame
    shoppers: pl.DataFrame
    events: pl.DataFrame
    dropped: dict[str, dict[str, int]]


def load(source: Path, out: Path) -> None:
    """Clean `source` into the dataset directory `out`. Raises FileNotFoundError, DatasetError."""
    cleaned = clean(source)
    info = Info(
        name="online-retail-ii",
        version="1",
        origin="UCI Online Retail II, doi 10.24432/C5CG6D",
        licence="CC BY 4.0",
        dropped=cleaned.dropped,
        notes=(
            "popularity counts the units of the whole log: a split by time must count its own",
            "times are the shop's local clock, kept as if UTC",
        ),
    )
    with DatasetWriter(out, info) as writer:
        writer.write("items", cleaned.items.to_arrow(compat_level=pl.CompatLevel.oldest()))
        writer.write("shoppers", cleaned.shoppers.to_arrow(compat_level=pl.CompatLevel.oldest()))
        writer.write("events", cleaned.events.to_arrow(compat_level=pl.CompatLevel.oldest()))


def clean(source: Path) -> Cleaned:
    """The two raw files of `source`/raw cleaned, or the cleaned files of `source` where those are all there is."""
    raw = [source / "raw" / name for name in _RAW]
    if all(path.is_file() for path in raw):
        lines, dropped = _clean_lines(*(pl.read_parquet(path) for path in raw))
    elif (source / "events.parquet").is_file():
        lines, dropped = _given_lines(source), {}
    else:
        raise FileNotFoundError(f"{source}: neither raw/{' and raw/'.join(_RAW)} nor events.parquet")
    return Cleaned(_items(lines), _shoppers(lines), _events(lines), dropped)


def _clean_lines(first: pl.DataFrame, second: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, dict[str, int]]]:
    """Invoice lines that are a known customer's purchase or return of a product, and why the others are not."""
    names = ("invoice", "sku", "description", "quantity", "time", "price", "customer", "country")
    first = first.rename(dict(zip(first.columns, names, strict=True))).with_columns(pl.col("time").str.to_datetime())
    second = second.rename(dict(zip(second.columns, names, strict=True)))
    # The years overlap in December 2010: the second file is the later export, so it is the one kept.
    before = pl.col("time") < second["time"].min()
    dropped = {"in both files": first.filter(~before).height}
    lines = pl.concat([first.filter(before), second.cast({"customer": pl.Int64})], how="vertical_relaxed")
    lines = lines.with_row_index("line").with_columns(
        pl.col("sku").str.strip_chars().str.to_uppercase(),
        pl.when(~pl.col("description").is_in(_MISSING_TEXT)).then(pl.col("description").str.strip_chars()),
        returned=pl.col("invoice").str.starts_with("C"),
    )
    sold = lines.filter(~pl.col("returned"), pl.col("quantity") > 0, pl.col("price") > 0)
    rules = {
        "no customer": pl.col("customer").is_not_null(),
        "not a product (postage, fee, voucher, correction, test)": pl.col("sku").str.contains(_PRODUCT),
        "purchase without units (stock correction)": pl.col("returned") | (pl.col("quantity") > 0),
        "return that takes no units back": ~pl.col("returned") | (pl.col("quantity") < 0),
        "price is not above 0": pl.col("price") > 0,
    }
    for reason, keep in rules.items():
        kept = lines.filter(keep)
        dropped[reason] = lines.height - kept.height
        lines = kept
    kept = lines.unique([*names, "returned"], keep="first", maintain_order=True)
    dropped["same line twice in one invoice"] = lines.height - kept.height
    # A return of something that no kept customer ever bought says nothing about taste.
    bought = kept.filter(~pl.col("returned")).select("sku").unique()
    lines = kept.join(bought, on="sku", how="semi", maintain_order="left")
    dropped["return of an item never sold"] = kept.height - lines.height
    items = {
        "never bought by a known customer": sold.filter(pl.col("sku").str.contains(_PRODUCT))["sku"].n_unique()
        - bought.height
    }
    reasons = {"events": dropped, "items": items}
    return lines, {table: {why: n for why, n in counts.items() if n} for table, counts in reasons.items()}


def _given_lines(source: Path) -> pl.DataFrame:
    lines = pl.read_parquet(source / "events.parquet").with_row_index("line")
    items = pl.read_csv(source / "items.csv", columns=["sku", "description"], infer_schema=False)
    users = pl.read_csv(source / "users.csv", schema_overrides={"customer": pl.Int64})
    return (
        lines.join(items, on="sku", how="left", maintain_order="left")
        .join(users, on="customer", how="left", maintain_order="left")
        .with_columns(returned=pl.lit(value=False))
    )


def _most_frequent(lines: pl.DataFrame, key: str, value: str) -> pl.DataFrame:
    """One row a key with its most frequent value (the first by text among equals); keys without any are left out."""
    counted = lines.filter(pl.col(value).is_not_null()).group_by(key, value).len()
    return counted.sort([key, "len", value], descending=[False, True, False]).unique(key, keep="first").drop("len")


def _items(lines: pl.DataFrame) -> pl.DataFrame:
    sold = lines.filter(~pl.col("returned"))
    facts = sold.group_by("sku").agg(
        price=pl.col("price").median(), created_at=pl.col("time").min(), popularity=pl.col("quantity").sum()
    )
    titles = _most_frequent(sold, "sku", "description")
    return (
        facts.join(titles, on="sku", how="left")
        .sort("sku")
        .select(
            pl.col("sku").alias("item_id"),
            pl.lit(1, pl.UInt64).alias("revision"),
            pl.col("description").alias("title"),
            "price",
            pl.lit("GBP").alias("currency"),
            _utc("created_at"),
            pl.col("popularity").cast(pl.Float64),
        )
    )


def _shoppers(lines: pl.DataFrame) -> pl.DataFrame:
    countries = _most_frequent(lines, "customer", "country").sort("customer")
    known = ~pl.col("country").is_in(["Unspecified"])
    return countries.select(
        pl.col("customer").cast(pl.String).alias("shopper_id"),
        pl.when(known).then(pl.concat_str(pl.lit('{"country": ["'), "country", pl.lit('"]}'))).alias("attributes"),
    )


def _events(lines: pl.DataFrame) -> pl.DataFrame:
    number = pl.int_range(pl.len()).over("invoice")
    return lines.sort("time", "line").select(
        pl.format("{}-{}", "invoice", number).alias("event_id"),
        pl.col("customer").cast(pl.String).alias("shopper_id"),
        pl.when("returned").then(pl.lit("RETURN")).otherwise(pl.lit("PURCHASE")).alias("type"),
        _utc("time"),
        pl.col("sku").alias("item_id"),
        pl.col("quantity").abs().cast(pl.UInt32),
        "price",
        pl.lit("GBP").alias("currency"),
    )


def _utc(column: str) -> pl.Expr:
    return pl.col(column).dt.cast_time_unit("us").dt.replace_time_zone("UTC")
