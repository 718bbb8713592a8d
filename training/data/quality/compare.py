"""Two periods or two datasets beside each other: what drifted, and what one knows of the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from training.data.quality.measure import Figures

_BINS = 10
# Values of a feature that are looked at one by one, the most frequent of both; the others are one.
_VALUES = 50
_SHOWN = 5


@dataclass(frozen=True)
class Drift:
    """One feature in two periods."""

    feature: str
    # Population stability index: .1 is little, above .25 much (Siddiqi 2006, Credit Risk Scorecards, chapter 10).
    psi: float
    # Jensen-Shannon divergence in bits: 0 the same, 1 nothing in common (Lin 1991, IEEE Trans. Inf. Theory 37).
    js: float
    # The values that moved most: value, share before, share after.
    moved: list[tuple[str, float, float]]


def halves(events: pl.LazyFrame) -> tuple[pl.LazyFrame, pl.LazyFrame] | None:
    """The earlier and the later half of a log, by its median time; None where there are not two times."""
    times = events.select(
        pl.col("time").median().alias("middle"), pl.col("time").min().alias("low"), pl.col("time").max().alias("high")
    ).collect(engine="streaming")
    middle, low, high = times.row(0)
    if middle is None or low == high:
        return None
    later = pl.col("time") >= middle
    return events.filter(~later), events.filter(later)


def drifts(before: pl.LazyFrame, after: pl.LazyFrame, items: pl.DataFrame | None) -> list[Drift]:
    """Of what both periods have: type, scene, category, brand, price, quantity, hour, weekday, item. Most first."""
    if items is not None:
        facts = items.unique("item_id").select(
            "item_id", "brand", category=pl.col("category").str.split(" > ").list.first()
        )
        before, after = (log.join(facts.lazy(), on="item_id", how="left") for log in (before, after))
    features: dict[str, pl.Expr] = {
        "type": pl.col("type"),
        "scene": pl.col("scene"),
        "item": pl.col("item_id"),
        "hour": pl.col("time").dt.hour().cast(pl.String),
        "weekday": pl.col("time").dt.to_string("%A"),
    }
    if items is not None:
        features |= {"category": pl.col("category"), "brand": pl.col("brand")}
    for name in ("price", "quantity"):
        if (edges := _edges(before, name)) is not None:
            features[name] = _binned(name, edges)
    found = []
    for feature, value in features.items():
        one, other = (_counts(log, value) for log in (before, after))
        if one and other:
            found.append(drift(feature, one, other))
    return sorted(found, key=lambda one: -one.psi)


def drift(feature: str, before: Mapping[str, int], after: Mapping[str, int]) -> Drift:
    """How far two counts of the same values lie apart. Half an event is added to each, so that none has no share."""
    frequent = sorted({*before, *after}, key=lambda value: (-before.get(value, 0) - after.get(value, 0), value))
    named, rest = frequent[:_VALUES], frequent[_VALUES:]
    counts = np.array([[log.get(value, 0) for value in named] for log in (before, after)], dtype=np.float64)
    if rest:
        others = [[sum(log.get(value, 0) for value in rest)] for log in (before, after)]
        named, counts = [*named, "(others)"], np.hstack([counts, others])
    p, q = (counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True)
    middle = (p + q) / 2
    psi = float(((p - q) * np.log(p / q)).sum())
    js = float((p * np.log2(p / middle) + q * np.log2(q / middle)).sum() / 2)
    shares = counts / counts.sum(axis=1, keepdims=True)
    most = np.argsort(-np.abs(shares[0] - shares[1]), kind="stable")[:_SHOWN]
    return Drift(feature, psi, js, [(named[i], float(shares[0, i]), float(shares[1, i])) for i in most])


def _edges(log: pl.LazyFrame, column: str) -> list[float] | None:
    """Deciles, each once; None where there are no values."""
    value = pl.col(column)
    asked = [value.quantile(i / _BINS).alias(str(i)) for i in range(1, _BINS)]
    row = log.select(asked).collect(engine="streaming").row(0)
    return sorted({float(edge) for edge in row}) if row[0] is not None else None


def _binned(column: str, edges: list[float]) -> pl.Expr:
    """In which of the ranges between the edges a number lies, in words."""
    ranges = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    names = [f"below {edges[0]:g}", *ranges, f"{edges[-1]:g} and more"]
    number = pl.sum_horizontal(pl.col(column) >= edge for edge in edges)
    name = number.replace_strict(dict(enumerate(names)), return_dtype=pl.String)
    return pl.when(pl.col(column).is_not_null()).then(name)


def _counts(log: pl.LazyFrame, value: pl.Expr) -> dict[str, int]:
    counted = log.select(value=value).filter(pl.col("value").is_not_null()).group_by("value").len()
    return dict(counted.collect(engine="streaming").iter_rows())


def leakage(train: pl.LazyFrame, test: pl.LazyFrame) -> Figures:
    """What of `test` a model of `train` has seen, as shares of the test's events or shoppers.

    `leakage.later_in_train`: events of train at or after the test's first moment. A split by time has none of these, a
    split by shopper shares no shopper; one of the two figures should be 0.
    """
    content = pl.struct("shopper_id", "type", "item_id", "query", "time").hash()

    def known(key: pl.Expr) -> float | None:
        seen = train.select(key=key).unique()
        asked = test.select(key=key).join(seen.with_columns(seen=pl.lit(value=True)), on="key", how="left")
        return asked.select(pl.col("seen").is_not_null().mean()).collect(engine="streaming").item()  # type: ignore[no-any-return]

    begins = test.select(pl.col("time").min()).collect(engine="streaming").item()
    shoppers = test.select("shopper_id").unique()
    shared = shoppers.join(train.select("shopper_id").unique(), on="shopper_id", how="semi")
    many, both = (log.select(pl.len()).collect(engine="streaming").item() for log in (shoppers, shared))
    later = None
    if begins is not None:
        later = train.select((pl.col("time") >= begins).mean()).collect(engine="streaming").item()
    return {
        "leakage.same_event": known(pl.col("event_id").hash()),
        "leakage.same_content": known(content) if begins is not None else None,
        "leakage.shared_shoppers": both / many if many else None,
        "leakage.later_in_train": later,
    }
