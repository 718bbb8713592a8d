"""completejourney (84.51°, CC0): a sample of a grocer's year, with what some households said of themselves."""

import json
from pathlib import Path

import polars as pl

from training.data.canonical import DatasetWriter, Info
from training.data.numbering import renumbered

# More units than this of one product in one basket are fuel and the like, told in another unit.
_MAX_UNITS = 100
_TOLD = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")


def load(source: Path, out: Path, seed: int = 7) -> None:
    """Load `source` into the dataset directory `out`. Raises OSError, DatasetError."""
    products = pl.read_parquet(source / "products.parquet")
    told = pl.read_parquet(source / "demographics.parquet")
    lines = pl.read_parquet(source / "transactions_sample.parquet")
    info = Info(
        name="completejourney",
        version="1",
        origin="completejourney 1.1.1, Customer Journey study of 84.51°",
        licence="CC0",
        notes=(
            "a sample of 75,000 lines: baskets and repeats are thinner than in the shop",
            "brands are told as the number of the manufacturer; coupons and campaigns are not loaded",
            "times are the shop's local clock, kept as if UTC",
        ),
    )
    with DatasetWriter(out, info) as writer:
        rules = {
            "the product is not in the catalogue": pl.col("product_id").is_in(products["product_id"].implode()),
            "no units": pl.col("quantity") > 0,
            "no price": pl.col("sales_value") > 0,
            f"more than {_MAX_UNITS} units (fuel)": pl.col("quantity") <= _MAX_UNITS,
        }
        for reason, keep in rules.items():
            kept = lines.filter(keep)
            writer.drop("events", reason, lines.height - kept.height)
            lines = kept
        items = renumbered(products["product_id"], "I", seed)
        shoppers = renumbered([*lines["household_id"], *told["household_id"]], "S", seed + 1)
        prices = lines.group_by("product_id").agg(price=(pl.col("sales_value") / pl.col("quantity")).median())
        rows = _items(products.join(prices, on="product_id", how="left"), items)
        writer.write("items", rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
        by_id = {row["household_id"]: row for row in told.to_dicts()}
        writer.write(
            "shoppers",
            [
                {"shopper_id": new, "attributes": _attributes(by_id.get(old, {}))}
                for old, new in sorted(shoppers.items(), key=lambda pair: pair[1])
            ],
        )
        rows = _events(lines, items, shoppers)
        writer.write("events", rows.to_arrow(compat_level=pl.CompatLevel.oldest()))


def _items(products: pl.DataFrame, ids: dict[str, str]) -> pl.DataFrame:
    names = [pl.col(name).str.replace_all(">", "/") for name in ("department", "product_category", "product_type")]
    title = pl.concat_str(
        pl.coalesce("product_type", "product_category", "department").str.to_titlecase(),
        pl.col("package_size").fill_null("").str.to_lowercase(),
        separator=" ",
    )
    return products.select(
        pl.col("product_id").replace_strict(ids).alias("item_id"),
        pl.lit(1, pl.UInt64).alias("revision"),
        title.str.strip_chars().alias("title"),
        pl.concat_str(pl.lit("Manufacturer "), pl.col("manufacturer_id").cast(pl.String)).alias("brand"),
        pl.concat_str(*names, separator=" > ", ignore_nulls=True).alias("category"),
        "price",
        pl.when(pl.col("price").is_not_null()).then(pl.lit("USD")).alias("currency"),
        pl.concat_str(pl.lit('{"label": ["'), "brand", pl.lit('"]}')).alias("attributes"),
    ).sort("item_id")


def _attributes(told: dict[str, str | None]) -> str | None:
    known = {name: [value] for name in _TOLD if (value := told.get(name)) is not None}
    return json.dumps(known) if known else None


def _events(lines: pl.DataFrame, items: dict[str, str], shoppers: dict[str, str]) -> pl.DataFrame:
    return (
        lines.with_columns(
            item_id=pl.col("product_id").replace_strict(items),
            shopper_id=pl.col("household_id").replace_strict(shoppers),
            time=pl.col("transaction_timestamp").dt.cast_time_unit("us").dt.replace_time_zone("UTC"),
        )
        .sort("time", "basket_id", "item_id")
        .select(
            pl.format("{}-{}", "basket_id", pl.int_range(pl.len()).over("basket_id")).alias("event_id"),
            "shopper_id",
            pl.lit("PURCHASE").alias("type"),
            "time",
            "item_id",
            pl.col("quantity").round().clip(1).cast(pl.UInt32),
            (pl.col("sales_value") / pl.col("quantity")).alias("price"),
            pl.lit("USD").alias("currency"),
        )
    )
