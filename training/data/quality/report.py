"""A quality report: numbers and figures together, and the page with its pictures."""

import io
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import polars as pl

from souk.dataset import DatasetError
from training.data.canonical import open_dataset
from training.data.quality.compare import Drift, drifts, halves, leakage
from training.data.quality.gate import Threshold, failures, read_gate
from training.data.quality.measure import Counts, Figures, Quality, events_of, measure
from training.evaluate.page import image, page, replace_file, table

matplotlib.use("agg")
from matplotlib import pyplot as plt

DIMENSIONS = {
    "accuracy": "values lie within their domain",
    "completeness": "values are there",
    "uniqueness": "nothing is said twice",
    "timeliness": "fresh, and without gaps",
    "consistency": "tables and prices agree",
    "diversity": "how events spread (entropy by its largest, Gini over all items)",
    "sparsity": "how little is known of most",
    "leakage": "what a test could give away",
    "drift": "population stability index between the periods: above .25 is much",
}
# More days than that are drawn by week.
_MANY_DAYS = 120
# Shares that are low are a fault in these; elsewhere there is no better and worse.
_WHOLE = ("accuracy", "completeness", "uniqueness", "consistency")


@dataclass(frozen=True)
class Report:
    """Of one dataset, beside another or its own later half."""

    quality: Quality
    figures: Figures
    # "earlier half and later half", or the names of both datasets.
    periods: tuple[str, str] | None
    drifts: list[Drift]
    # None without a gate.
    failed: list[str] | None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "data": self.quality.name,
            "rows": self.quality.rows,
            "figures": self.figures,
            "periods": self.periods,
            "drift": [asdict(one) for one in self.drifts],
            "gate": None if self.failed is None else {"passed": not self.failed, "failed": self.failed},
        }


def examine(data: Path, against: Path | None, gate: list[Threshold] | None, now: datetime) -> Report:
    """Measure a dataset; drift against another one or within itself, leakage against another. Raises DatasetError."""
    dataset = open_dataset(data)
    quality = measure(dataset, now)
    figures = dict(quality.figures)
    items = dataset.items() if quality.rows["items"] else None
    pair, periods = None, None
    if against is not None:
        other = open_dataset(against)
        pair, periods = (events_of(dataset), events_of(other)), (str(data), str(against))
        figures |= leakage(*pair)
    elif quality.rows["events"] and (pair := halves(events_of(dataset))) is not None:
        periods = ("earlier half", "later half")
    found = drifts(*pair, items) if pair is not None else []
    figures |= {f"drift.{one.feature}": one.psi for one in found}
    return Report(quality, figures, periods, found, None if gate is None else failures(gate, figures))


def require(data: Path, gate: Path, now: datetime) -> None:
    """Raises DatasetError naming the thresholds of the file `gate` that a dataset does not hold."""
    if failed := examine(data, None, read_gate(gate), now).failed:
        raise DatasetError(f"{data}: does not hold the quality gate {gate}: {'; '.join(failed)}")


def write_report(out: Path, report: Report) -> None:
    """Writes quality.json and quality.html into the directory `out`, over older ones."""
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / "quality.json", json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")
    replace_file(out / "quality.html", _page(report))


def shown(value: float | None) -> str:
    """A figure for a person."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.4g}"


def by_dimension(figures: Figures) -> dict[str, dict[str, float | None]]:
    """Figures by dimension, without its name."""
    found: dict[str, dict[str, float | None]] = {}
    for dimension in DIMENSIONS:
        own = {name: value for name, value in figures.items() if name.split(".")[0] == dimension}
        if own:
            found[dimension] = {name.removeprefix(f"{dimension}."): value for name, value in own.items()}
    return found


def _page(report: Report) -> str:
    quality = report.quality
    parts = [table(["table", "rows"], [[name, f"{rows:,}"] for name, rows in quality.rows.items()])]
    if report.failed is not None:
        verdict = (
            table(["failed"], [[one] for one in report.failed]) if report.failed else "<p>All thresholds hold.</p>"
        )
        parts.append(f"<h2>Gate</h2>\n{verdict}")
    parts += [image(_png(figure), text) for text, figure in _pictures(report)]
    for dimension, figures in by_dimension(report.figures).items():
        if dimension == "drift":
            # Told below with what moved.
            continue
        rows = [[name, shown(value)] for name, value in figures.items()]
        parts.append(f"<h2>{dimension.capitalize()}: {DIMENSIONS[dimension]}</h2>\n{table(['', 'figure'], rows)}")
    if report.periods is not None:
        header = ["feature", "PSI", "Jensen-Shannon, bits", "what moved most: share before, share after"]
        rows = [[one.feature, f"{one.psi:.4f}", f"{one.js:.4f}", _moved(one)] for one in report.drifts]
        between = f"<p>{DIMENSIONS['drift']}</p>"
        parts.append(f"<h2>Drift, {' to '.join(report.periods)}</h2>\n{between}\n{table(header, rows)}")
    return page(f"Quality of {quality.name}", *parts)


def _moved(drift: Drift) -> str:
    return "; ".join(f"{value}: {before:.1%}, {after:.1%}" for value, before, after in drift.moved[:3])


def _pictures(report: Report) -> list[tuple[str, Any]]:
    quality = report.quality
    pictures = [("shares that should be 1", _whole(report.figures))]
    if quality.rows["events"]:
        pictures.append(("long tail of items; how many events items and shoppers have", _spread(quality)))
    if quality.by_day.height:
        pictures.append(("events over time", _days(quality.by_day)))
    if report.drifts:
        pictures.append(("drift by feature", _drift(report)))
    return pictures


def _whole(figures: Figures) -> Any:
    parts = by_dimension(figures)
    names = [f"{part}.{name}" for part in _WHOLE for name, value in parts.get(part, {}).items() if value is not None]
    values = [figures[name] or 0.0 for name in names]
    figure, axis = plt.subplots(figsize=(10, 0.6 + 0.24 * len(names)))
    places = np.arange(len(names))[::-1]
    axis.barh(places, values, color=["tab:blue" if value > 0.999 else "tab:orange" for value in values])
    axis.set_yticks(places, names, fontsize=8)
    axis.set_xlim(0, 1)
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.set_xlabel("share of rows; orange: below .999")
    return figure


def _spread(quality: Quality) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    if len(quality.by_item):
        shares = np.cumsum(quality.by_item) / quality.by_item.sum()
        left.plot(np.arange(1, len(shares) + 1) / len(shares), shares)
    left.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    left.set_xlabel("share of the items met, most popular first")
    left.set_ylabel("share of events")
    for name, counts in (("items", quality.by_item), ("shoppers", quality.by_shopper)):
        if len(counts):
            right.loglog(*_at_least(counts), label=name)
    right.set_xlabel("at least so many events")
    right.set_ylabel("share of those with any")
    right.legend()
    return figure


def _at_least(counts: Counts) -> tuple[Counts, np.ndarray[Any, Any]]:
    values, first = np.unique(counts[::-1], return_index=True)
    return values, 1 - first / len(counts)


def _days(by_day: pl.DataFrame) -> Any:
    figure, axis = plt.subplots(figsize=(11, 3.5))
    weekly = by_day["day"].n_unique() > _MANY_DAYS
    day = pl.col("day").dt.truncate("1w") if weekly else pl.col("day")
    by_day = by_day.group_by(day, "type").agg(pl.col("events").sum()).sort("day", "type")
    for (kind,), events in by_day.group_by("type", maintain_order=True):
        axis.plot(events["day"].to_list(), events["events"].to_list(), label=str(kind), linewidth=1)
    axis.set_ylabel("events a week" if weekly else "events a day")
    axis.set_yscale("log")
    axis.legend(fontsize="small", ncols=4)
    return figure


def _drift(report: Report) -> Any:
    figure, axis = plt.subplots(figsize=(10, 0.8 + 0.3 * len(report.drifts)))
    places = np.arange(len(report.drifts))[::-1]
    axis.barh(places, [one.psi for one in report.drifts])
    axis.set_yticks(places, [one.feature for one in report.drifts])
    for limit in (0.1, 0.25):
        axis.axvline(limit, color="grey", linewidth=0.8, linestyle=":")
    axis.set_xlabel("population stability index; dotted: little (.1) and much (.25)")
    return figure


def _png(figure: Any) -> bytes:
    figure.tight_layout()
    file = io.BytesIO()
    figure.savefig(file, dpi=110)
    plt.close(figure)
    return file.getvalue()
