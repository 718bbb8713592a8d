"""Figures of a dataset by dimension: accuracy, completeness, uniqueness, timeliness, consistency, diversity, sparsity.

A figure is a number by a name like `completeness.items.brand`; all are shares from 0 to 1 but those that say otherwise.
One that the dataset cannot tell (no items, no times, no such rows) is None. Events are counted by streaming queries, so
a log that is larger than memory will do.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from souk.dataset import find_table
from training.data.canonical import Dataset
from training.data.clean import texts
from training.data.clean.types import kinds
from training.data.effect_sizes import gini

Figures = dict[str, float | None]
Counts = npt.NDArray[np.int64]

# What the format may hold and no shop means.
_MAX_PRICE, _MAX_QUANTITY, _EARLIEST = 1e6, 100_000, datetime(1995, 1, 1, tzinfo=UTC)
# A shopper or an item of fewer events tells next to nothing.
FEW = 5
# So many times the catalogue's price, or that part of it, is hardly the same thing's.
_DIFFERS = 2.0
_CONTENT = ("shopper_id", "type", "item_id", "query", "time", "order", "quantity", "price")
_TEXT_FAULTS = (
    (texts.ODD_ENCODING, texts.without_mojibake),
    (texts.ODD_MARKUP, texts.without_markup),
    (texts.ODD_SPACE, texts.one_space),
)


@dataclass(frozen=True)
class Quality:
    """Of one dataset: figures, and what the curves are drawn from."""

    name: str
    rows: dict[str, int]
    figures: Figures
    # Events of each item, and of each shopper, that has any; descending.
    by_item: Counts
    by_shopper: Counts
    # Columns day, type and events; no rows without times.
    by_day: pl.DataFrame


def events_of(dataset: Dataset) -> pl.LazyFrame:
    """The events with every column of the format, read when they are needed."""
    file = find_table(dataset.path, "events")
    if file is None or file.suffix != ".parquet":
        return dataset.events().lazy()
    events = pl.scan_parquet(file)
    there = events.collect_schema().names()
    columns = kinds("events").items()
    return events.select(
        (pl.col(name).cast(kind) if name in there else pl.lit(None, kind)).alias(name) for name, kind in columns
    )


def measure(dataset: Dataset, now: datetime) -> Quality:
    """All figures. `now`: times after it lie in the future. Raises DatasetError where a table cannot be read."""
    items = dataset.items() if find_table(dataset.path, "items") is not None else None
    shoppers, events = dataset.shoppers(), events_of(dataset)
    by_item = _counts(events, "item_id")
    by_shopper = _counts(events, "shopper_id")
    by_day = (
        events.filter(pl.col("time").is_not_null())
        .group_by(pl.col("time").dt.date().alias("day"), "type")
        .agg(events=pl.len())
        .collect(engine="streaming")
        .sort("day", "type")
    )
    total = int(by_shopper["len"].sum())
    figures: Figures = {}
    if items is not None:
        figures |= _of_items(items)
    if shoppers.height:
        figures["completeness.shoppers.attributes"] = _mean(shoppers["attributes"].is_not_null())
        figures["uniqueness.shoppers.shopper_id"] = shoppers["shopper_id"].n_unique() / shoppers.height
    if total:
        figures |= _of_events(events, items, shoppers, now)
        figures |= _of_ids(events, total)
        figures |= _of_days(by_day, now)
        figures |= _of_counts(events, items, by_item, by_shopper)
    rows = {"items": 0 if items is None else items.height, "shoppers": shoppers.height, "events": total}
    lengths = (table["len"].sort(descending=True).to_numpy().astype(np.int64) for table in (by_item, by_shopper))
    return Quality(dataset.info.name, rows, figures, next(lengths), next(lengths), by_day)


def _counts(events: pl.LazyFrame, key: str) -> pl.DataFrame:
    return events.filter(pl.col(key).is_not_null()).group_by(key).len().collect(engine="streaming")


def _of_items(items: pl.DataFrame) -> Figures:
    figures: Figures = {}
    for column in ("title", "description", "brand", "category", "price", "image_url", "attributes", "created_at"):
        figures[f"completeness.items.{column}"] = _mean(items[column].is_not_null())
    figures["accuracy.items.price"] = _mean(items["price"].drop_nulls().is_between(0, _MAX_PRICE))
    figures["accuracy.items.currency"] = _mean(items["currency"].drop_nulls().str.contains("^[A-Z]{3}$"))
    for column in ("title", "description", "brand"):
        counts = items[column].drop_nulls().value_counts()
        figures[f"accuracy.items.{column}_text"] = _sound(counts[column], counts["count"])
    figures["uniqueness.items.item_id"] = _unique(items["item_id"])
    plain = items.filter(pl.col("title").is_not_null()).select(
        pl.concat_str("title", pl.col("brand").fill_null("")).str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]", "")
    )
    figures["uniqueness.items.title"] = _unique(plain["title"])
    for column in ("brand", "category"):
        figures[f"diversity.items.{column}_entropy"] = _entropy(items[column].drop_nulls().value_counts()["count"])
    return figures


def _of_events(events: pl.LazyFrame, items: pl.DataFrame | None, shoppers: pl.DataFrame, now: datetime) -> Figures:
    """What a row tells, alone and beside its item and shopper: one pass."""
    said, price, quantity, time = pl.col("item_id").is_not_null(), pl.col("price"), pl.col("quantity"), pl.col("time")
    search, purchase = pl.col("type") == "SEARCH", pl.col("type") == "PURCHASE"
    timed, always = time.is_not_null(), pl.col("type").is_not_null()
    asked: dict[str, tuple[pl.Expr, pl.Expr]] = {
        "completeness.events.time": (timed, always),
        "completeness.events.item_id": (said, ~search),
        "completeness.events.query": (pl.col("query").is_not_null(), search),
        "completeness.events.price": (price.is_not_null(), purchase),
        "completeness.events.quantity": (quantity.is_not_null(), purchase),
        "completeness.events.scene": (pl.col("scene").is_not_null(), pl.col("type").is_in(["CLICK", "VIEW", "SKIP"])),
        "accuracy.events.price": (price.is_between(0, _MAX_PRICE), price.is_not_null()),
        "accuracy.events.quantity": (quantity.is_between(1, _MAX_QUANTITY), quantity.is_not_null()),
        "accuracy.events.currency": (pl.col("currency").str.contains("^[A-Z]{3}$"), price.is_not_null()),
        "accuracy.events.time": (time >= _EARLIEST, timed),
        "timeliness.not_in_the_future": (time <= now, timed),
    }
    if items is not None:
        known = items.unique("item_id").select(
            "item_id", "created_at", list_price="price", list_currency="currency", known=pl.lit(value=True)
        )
        events = events.join(known.lazy(), on="item_id", how="left")
        both = (
            pl.col("list_price").is_not_null() & (pl.col("list_currency") == pl.col("currency")) & price.is_not_null()
        )
        ratio = price / pl.col("list_price")
        asked |= {
            "consistency.events.known_item": (pl.col("known").is_not_null(), said),
            "consistency.events.not_before_item": (
                time >= pl.col("created_at"),
                timed & pl.col("created_at").is_not_null(),
            ),
            "consistency.events.price_like_item": (ratio.is_between(1 / _DIFFERS, _DIFFERS), both),
        }
    if shoppers.height:
        mine = shoppers.unique("shopper_id").select("shopper_id", mine=pl.lit(value=True))
        events = events.join(mine.lazy(), on="shopper_id", how="left")
        asked["consistency.events.known_shopper"] = (pl.col("mine").is_not_null(), always)
    counted = events.select(
        *((good & among).sum().alias(f"good {name}") for name, (good, among) in asked.items()),
        *(among.sum().alias(f"all {name}") for name, (_, among) in asked.items()),
    ).collect(engine="streaming")
    return {name: _ratio(counted[f"good {name}"][0], counted[f"all {name}"][0]) for name in asked}


def _of_ids(events: pl.LazyFrame, total: int) -> Figures:
    """How many rows are not said twice, by hashes of 64 bits."""
    distinct = events.select(
        pl.col("event_id").hash().n_unique().alias("ids"),
        pl.struct(_CONTENT).hash().n_unique().alias("contents"),
        (pl.col("time").is_null() & pl.col("order").is_null()).sum().alias("unordered"),
    ).collect(engine="streaming")
    contents = None if distinct["unordered"][0] else distinct["contents"][0] / total
    return {"uniqueness.events.event_id": distinct["ids"][0] / total, "uniqueness.events.content": contents}


def _of_days(by_day: pl.DataFrame, now: datetime) -> Figures:
    """Of events with a time; all in days."""
    if not by_day.height:
        return dict.fromkeys(("timeliness.days", "timeliness.age_days", "timeliness.longest_gap_days"))
    days = by_day["day"].unique().sort()
    gaps = days.diff().dt.total_days().drop_nulls()
    return {
        "timeliness.days": float((days[-1] - days[0]).days + 1),
        "timeliness.age_days": float((now.date() - days[-1]).days),
        "timeliness.longest_gap_days": float(int(gaps.max() or 1) - 1) if len(gaps) else 0.0,  # type: ignore[arg-type]
    }


def _of_counts(
    events: pl.LazyFrame, items: pl.DataFrame | None, by_item: pl.DataFrame, by_shopper: pl.DataFrame
) -> Figures:
    """How events spread over items and shoppers."""
    met, active = by_item.height, by_shopper.height
    said = events.filter(pl.col("item_id").is_not_null())
    pairs = said.select(pl.struct("shopper_id", "item_id").hash().n_unique()).collect(engine="streaming").item()
    queries = events.filter(pl.col("query").is_not_null()).group_by("query").len().collect(engine="streaming")
    figures: Figures = {
        "accuracy.events.query_text": _sound(queries["query"], queries["len"]),
        "diversity.events.item_entropy": _entropy(by_item["len"]),
        "diversity.events.query_entropy": _entropy(queries["len"]),
        "sparsity.empty_pairs": 1 - pairs / (met * active) if met else None,
        "sparsity.events_a_shopper_median": float(np.median(by_shopper["len"].to_numpy())),
        "sparsity.shoppers_with_few": _mean(by_shopper["len"] < FEW),
        "sparsity.items_with_few": _mean(by_item["len"] < FEW),
    }
    every = by_item["len"].to_numpy().astype(np.int64)
    if items is not None:
        unmet = items.height - items.join(by_item, on="item_id", how="semi").height
        figures["diversity.items_met"] = 1 - unmet / items.height if items.height else None
        every = np.concatenate([every, np.zeros(unmet, np.int64)])
    if met:
        every = np.sort(every)[::-1]
        head = max(1, len(every) // 5)
        figures["diversity.events.item_gini"] = gini(every)
        figures["diversity.events.top_percent_share"] = float(every[: max(1, len(every) // 100)].sum() / every.sum())
        figures["diversity.events.tail_share"] = float(every[head:].sum() / every.sum())
    figures["leakage.item_number_follows_time"] = _numbering(events)
    return figures


def _numbering(events: pl.LazyFrame) -> float | None:
    """Rank correlation of the order of item ids with that of their first events, without its sign: near 1 where items
    are numbered as they appear, which alone predicts what comes next."""
    first = events.filter(pl.col("item_id").is_not_null(), pl.col("time").is_not_null())
    found = first.group_by("item_id").agg(pl.col("time").min()).collect(engine="streaming")
    if found.height < 3:
        return None
    # I9 stands before I10.
    by_id = found.with_columns(length=pl.col("item_id").str.len_chars()).sort("length", "item_id")
    ranks = by_id["time"].rank("average").to_numpy()
    if ranks.std() == 0:
        return None
    return abs(float(np.corrcoef(np.arange(len(ranks)), ranks)[0, 1]))


def _sound(values: pl.Series, counts: pl.Series) -> float | None:
    """Share of texts without mojibake, markup and odd white space."""
    if not len(values):
        return None
    bad = pl.repeat(False, len(values), eager=True)
    for odd, mend in _TEXT_FAULTS:
        if (new := texts.mended(values, odd, mend)) is not None:
            bad = bad | values.ne_missing(new)
    return 1 - float(counts.filter(bad).sum()) / float(counts.sum())


def _entropy(counts: pl.Series) -> float | None:
    """Shannon's entropy by its largest possible: 1 where all are alike, 0 where one has all."""
    if len(counts) < 2:
        return None
    shares = counts.to_numpy() / counts.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(len(shares)))


def _unique(values: pl.Series) -> float | None:
    return values.n_unique() / len(values) if len(values) else None


def _mean(flags: pl.Series) -> float | None:
    return _ratio(int(flags.sum()), len(flags))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
