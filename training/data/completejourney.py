"""completejourney (84.51°, CC0): a sample of a grocer's year, with what some households said of themselves."""

import json
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import polars as pl

from training.data.canonical import DatasetWriter, Info
from training.data.numbering import renumbered

# More units than this of one product in one basket are fuel and the like, told in another unit.
_MAX_UNITS = 100
# Of those that a coupon is about; what an attribute may hold.
_ABOUT = 32
_TYPES_IN_A_TITLE = 3
_TOLD = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")


def load(source: Path, out: Path, seed: int = 7) -> None:
    """Load `source` into the dataset directory `out`. Raises OSError, DatasetError."""
    products = pl.read_parquet(source / "products.parquet")
    told = pl.read_parquet(source / "demographics.parquet")
    lines = pl.read_parquet(source / "transactions_sample.parquet")
    info = Info(
        name="completejourney",
        version="2",
        origin="completejourney 1.1.1, Customer Journey study of 84.51°",
        licence="CC0",
        notes=(
            "a sample of 75,000 lines: baskets and repeats are thinner than in the shop",
            "brands are told as the number of the manufacturer",
            "a coupon of a campaign is an item of kind coupon, a redemption a click in CAMPAIGN at the day's start; "
            "who was sent which coupon is not told",
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
        coupons = _coupons(source, products.join(lines.group_by("product_id").len("sold"), on="product_id", how="left"))
        coupon_ids = renumbered(coupons["key"], "C", seed + 2)
        writer.write("items", _coupon_rows(coupons, coupon_ids, items))
        by_id = {row["household_id"]: row for row in told.to_dicts()}
        writer.write(
            "shoppers",
            [
                {"shopper_id": new, "attributes": _attributes(by_id.get(old, {}))}
                for old, new in sorted(shoppers.items(), key=lambda pair: pair[1])
            ],
        )
        redeemed = pl.read_parquet(source / "coupon_redemptions.parquet").with_columns(key=_COUPON).unique()
        kept = redeemed.filter(pl.col("key").is_in(list(coupon_ids)), pl.col("household_id").is_in(list(shoppers)))
        writer.drop(
            "events", "redeemed by no household of the sample, or of no known coupon", len(redeemed) - len(kept)
        )
        rows = pl.concat([_events(lines, items, shoppers), _redemptions(kept, coupon_ids, shoppers)], how="diagonal")
        writer.write("events", rows.sort("time", maintain_order=True).to_arrow(compat_level=pl.CompatLevel.oldest()))


_COUPON = pl.format("{}-{}", "campaign_id", "coupon_upc")


def _coupons(source: Path, products: pl.DataFrame) -> pl.DataFrame:
    """The coupons of every campaign: when they hold and the products they are about, those sold most first."""
    dates = pl.read_parquet(source / "campaign_descriptions.parquet")
    names = pl.concat_str(*(_name(column) for column in ("department", "product_category")), separator=" > ")
    return (
        pl.read_parquet(source / "coupons.parquet")
        .join(products, on="product_id")
        .join(dates, on="campaign_id")
        .sort(pl.col("sold").fill_null(0), "product_id", descending=[True, False])
        .group_by(_COUPON.alias("key"), "campaign_type", "start_date", "end_date")
        .agg(
            category=_most(names),
            types=pl.col("product_type").drop_nulls().unique(maintain_order=True).head(_TYPES_IN_A_TITLE),
            maker=_most(pl.col("manufacturer_id")),
            about=pl.col("product_id").head(_ABOUT),
        )
        .sort("key")
    )


def _coupon_rows(coupons: pl.DataFrame, ids: dict[str, str], items: dict[str, str]) -> list[dict[str, Any]]:
    rows = []
    for row in coupons.to_dicts():
        first, last = (datetime.combine(row[name], time(), UTC) for name in ("start_date", "end_date"))
        attributes = {
            "kind": ["coupon"],
            "campaign": [row["campaign_type"]],
            "offer_from": [str(int(first.timestamp()))],
            "offer_until": [str(int(last.timestamp()) + 86_399)],
            "about": [items[product] for product in row["about"]],
        }
        rows.append(
            {
                "item_id": ids[row["key"]],
                "revision": 1,
                "title": f"Coupon: {', '.join(one.title() for one in row['types'])}",
                "brand": f"Manufacturer {row['maker']}",
                "category": row["category"],
                "attributes": json.dumps(attributes),
                "created_at": first,
            }
        )
    return rows


def _redemptions(redeemed: pl.DataFrame, ids: dict[str, str], shoppers: dict[str, str]) -> pl.DataFrame:
    return redeemed.select(
        pl.format("{}-{}-{}", "key", "household_id", "redemption_date").alias("event_id"),
        pl.col("household_id").replace_strict(shoppers).alias("shopper_id"),
        pl.lit("CLICK").alias("type"),
        pl.col("redemption_date").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("time"),
        pl.col("key").replace_strict(ids).alias("item_id"),
        pl.lit("CAMPAIGN").alias("scene"),
    ).sort("time", "event_id")


def _most(values: pl.Expr) -> pl.Expr:
    """The most frequent value, of equals the first by name."""
    return values.drop_nulls().mode().sort().first()


def _name(column: str) -> pl.Expr:
    return pl.col(column).str.replace_all(">", "/")


def _items(products: pl.DataFrame, ids: dict[str, str]) -> pl.DataFrame:
    names = [_name(column) for column in ("department", "product_category", "product_type")]
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
