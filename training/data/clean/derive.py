"""The catalogue and the shoppers of a log that comes without them: told by its purchases."""

import json

import polars as pl


def items_of(events: pl.LazyFrame, told_by: dict[str, str]) -> pl.DataFrame:
    """One row an item bought: the most frequent text of each field (the first by text among equals), the median price,
    the first purchase as `created_at`, units sold as `popularity`.

    `events`: canonical columns and the rules' own. `told_by`: field of an item -> column of events.
    """
    bought = events.filter(pl.col("type") == "PURCHASE", pl.col("item_id").is_not_null())
    facts = bought.group_by("item_id").agg(
        revision=pl.lit(1, pl.Int64).first(),
        price=pl.col("price").median(),
        currency=pl.col("currency").drop_nulls().first(),
        created_at=pl.col("time").min(),
        popularity=pl.col("quantity").fill_null(1).sum().cast(pl.Float64),
    )
    items = facts.collect(engine="streaming")
    for field, column in told_by.items():
        items = items.join(_most_frequent(bought, "item_id", column, field), on="item_id", how="left")
    return items.sort("item_id")


def shoppers_of(events: pl.LazyFrame, told_by: dict[str, str]) -> pl.DataFrame:
    """One row a shopper. `told_by`: name of an attribute -> column of events, its most frequent text."""
    shoppers = events.select("shopper_id").unique().collect(engine="streaming")
    for name, column in told_by.items():
        shoppers = shoppers.join(_most_frequent(events, "shopper_id", column, name), on="shopper_id", how="left")
    shoppers = shoppers.sort("shopper_id")
    texts = [
        json.dumps({name: [value] for name, value in row.items() if value is not None}, ensure_ascii=False)
        for row in shoppers.select(*told_by).iter_rows(named=True)
    ]
    attributes = pl.Series("attributes", [text if text != "{}" else None for text in texts], pl.String)
    return shoppers.select("shopper_id", attributes)


def _most_frequent(events: pl.LazyFrame, key: str, column: str, called: str) -> pl.DataFrame:
    counts = events.filter(pl.col(column).is_not_null()).group_by(key, pl.col(column).alias(called)).len()
    ordered = counts.collect(engine="streaming").sort([key, "len", called], descending=[False, True, False])
    return ordered.unique(key, keep="first", maintain_order=True).drop("len")
