"""How a shop's log behaves: sparsity, popularity skew, repeat rate, baskets and sessions, of real and generated data.

The generated shop is fitted to these figures; docs/data.md states both side by side.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

SESSION_GAP_MINUTES = 30


@dataclass(frozen=True)
class Effects:
    """Figures of one log. Those of purchases compare across logs; NaN where the log cannot tell."""

    shoppers: int
    items: int
    purchases: int
    # 1 - distinct (shopper, item) pairs / (shoppers x items), over those that bought or were bought.
    sparsity: float
    # Gini coefficient of purchases over the items bought at least once: 0 all alike, 1 one item has all.
    popularity_gini: float
    # Share of purchases that go to the most bought 1% of items.
    top_percent_share: float
    # Share of purchases of an item that the shopper had bought in an earlier session.
    repeat_rate: float
    # Returns by purchases.
    return_rate: float
    purchases_per_shopper_mean: float
    purchases_per_shopper_median: float
    # Purchases in one session that has any.
    basket_mean: float
    basket_median: float
    # Sessions with a purchase per shopper with any.
    baskets_per_shopper_mean: float
    # Events in one session, of any type.
    session_events_mean: float
    session_events_median: float


def gini(counts: npt.NDArray[np.int64]) -> float:
    """Gini coefficient of non-negative counts, shape (n,): 0 all alike, towards 1 one has all. NaN without counts."""
    if not counts.sum():
        return float("nan")
    ordered = np.sort(counts).astype(np.float64)
    ranks = np.arange(1, len(ordered) + 1)
    return float((2 * ranks - len(ordered) - 1) @ ordered / (len(ordered) * ordered.sum()))


def measure(events: pl.DataFrame) -> Effects:
    """Effects of events with columns shopper_id, type, item_id and time, or order where the log has no time."""
    has_time = events.height > 0 and not events["time"].has_nulls()
    if has_time:
        new_session = pl.col("time").diff().over("shopper_id") > pl.duration(minutes=SESSION_GAP_MINUTES)
        events = events.sort("shopper_id", "time", maintain_order=True).with_columns(
            session=new_session.fill_null(value=False).cum_sum().over("shopper_id")
        )
    else:
        events = events.with_columns(session=pl.lit(0, pl.UInt32))
    bought = events.filter(pl.col("type") == "PURCHASE")
    pairs = bought.unique(["shopper_id", "item_id", "session"])
    first = pl.col("session").min().over("shopper_id", "item_id")
    by_item = bought.group_by("item_id").len()["len"].sort(descending=True).to_numpy().astype(np.int64)
    by_shopper = bought.group_by("shopper_id").len()["len"]
    baskets = bought.group_by("shopper_id", "session").len()["len"]
    sessions = events.group_by("shopper_id", "session").len()["len"]
    shoppers, items = len(by_shopper), len(by_item)
    distinct = bought.select("shopper_id", "item_id").n_unique() if bought.height else 0
    top = max(1, items // 100)
    nan = float("nan")

    def mean(values: pl.Series, known: bool = True) -> float:
        return float(np.mean(values.to_numpy())) if known and len(values) else nan

    def median(values: pl.Series, known: bool = True) -> float:
        return float(np.median(values.to_numpy())) if known and len(values) else nan

    return Effects(
        shoppers=shoppers,
        items=items,
        purchases=bought.height,
        sparsity=1 - distinct / (shoppers * items) if distinct else nan,
        popularity_gini=gini(by_item),
        top_percent_share=float(by_item[:top].sum() / by_item.sum()) if items else nan,
        repeat_rate=mean(pairs.select((pl.col("session") > first).alias("again"))["again"]) if has_time else nan,
        return_rate=events.filter(pl.col("type") == "RETURN").height / bought.height if bought.height else nan,
        purchases_per_shopper_mean=mean(by_shopper),
        purchases_per_shopper_median=median(by_shopper),
        basket_mean=mean(baskets, has_time),
        basket_median=median(baskets, has_time),
        baskets_per_shopper_mean=len(baskets) / shoppers if shoppers and has_time else nan,
        session_events_mean=mean(sessions, has_time),
        session_events_median=median(sessions, has_time),
    )


def real_logs(data: Path) -> dict[str, pl.DataFrame]:
    """The real logs found under `data`, each with the columns that `measure` needs."""
    logs = {}
    if (retail := data / "online_retail_ii").is_dir():
        from training.data import online_retail

        logs["Online Retail II"] = online_retail.clean(retail).events
    if (grocer := data / "completejourney" / "transactions_sample.parquet").is_file():
        logs["completejourney"] = pl.read_parquet(grocer).select(
            pl.col("household_id").alias("shopper_id"),
            pl.lit("PURCHASE").alias("type"),
            pl.col("product_id").alias("item_id"),
            pl.col("transaction_timestamp").alias("time"),
        )
    if (beauty := data / "amazon_beauty_2014" / "sequences.txt").is_file():
        rows = [line.split() for line in beauty.read_text(encoding="utf-8").splitlines()]
        logs["Amazon Beauty"] = (
            pl.DataFrame({"shopper_id": [row[0] for row in rows], "item_id": [row[1:] for row in rows]})
            .explode("item_id", empty_as_null=False)
            .with_columns(pl.lit("PURCHASE").alias("type"), pl.lit(None, pl.Datetime("us")).alias("time"))
        )
    return logs
