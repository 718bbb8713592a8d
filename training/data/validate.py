"""Every row of a dataset checked: form, the limits of the contract, and that the tables fit each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.domain.checks import Invalid, check_item
from souk.dataset import (
    BadRow,
    find_table,
    read_events,
    read_impressions,
    read_items,
    read_judgements,
    read_shoppers,
)
from training.data.canonical import Dataset, open_dataset
from training.data.effect_sizes import Effects, measure

EXAMPLES = 3


@dataclass
class Report:
    """What `validate` found: good rows by table, bad ones by (table, reason) with examples, and the log's figures."""

    dataset: Dataset
    counts: dict[str, int] = field(default_factory=dict)
    bad: dict[tuple[str, str], int] = field(default_factory=dict)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    # None where there are no events or some of them are bad.
    effects: Effects | None = None

    def add(self, table: str, reason: str, example: str) -> None:
        """Count one bad row."""
        key = (table, reason)
        self.bad[key] = self.bad.get(key, 0) + 1
        if self.bad[key] <= EXAMPLES:
            self.examples.setdefault(key, []).append(example)


def validate(path: Path) -> Report:
    """Check the dataset in directory `path`; ids are held in memory. Raises DatasetError where it cannot be read."""
    report = Report(open_dataset(path))
    items: set[str] = set()
    for item in _rows(report, "items", read_items):
        try:
            check_item(item, "item")
        except Invalid as invalid:
            report.add("items", invalid.field, f"{item.id}: {invalid}")
            continue
        _once(report, "items", item.id, items)
    shoppers: set[str] = set()
    for shopper in _rows(report, "shoppers", read_shoppers):
        _once(report, "shoppers", shopper.id, shoppers)
    events: set[str] = set()
    timed = 0
    for event in _rows(report, "events", read_events):
        timed += event.HasField("time")
        if event.item_id and event.item_id not in items:
            report.add("events", "item_id is not in the catalogue", f"{event.event_id}: {event.item_id}")
        elif shoppers and event.shopper_id not in shoppers:
            report.add("events", "shopper_id is not among the shoppers", f"{event.event_id}: {event.shopper_id}")
        else:
            _once(report, "events", event.event_id, events)
    if 0 < timed < len(events):
        report.add("events", "time is given in some rows only", f"{timed} of {len(events)} rows")
    pairs: set[str] = set()
    for judgement in _rows(report, "judgements", read_judgements):
        if judgement.item_id not in items:
            report.add("judgements", "item_id is not in the catalogue", f"{judgement.query}: {judgement.item_id}")
        else:
            _once(report, "judgements", f"{judgement.query}: {judgement.item_id}", pairs)
    places: set[str] = set()
    for shown in _rows(report, "impressions", read_impressions):
        if shown.item_id not in items:
            report.add("impressions", "item_id is not in the catalogue", f"{shown.request_id}: {shown.item_id}")
        elif shoppers and shown.shopper_id and shown.shopper_id not in shoppers:
            report.add("impressions", "shopper_id is not among the shoppers", f"{shown.request_id}: {shown.shopper_id}")
        else:
            _once(report, "impressions", f"{shown.request_id}: {shown.position}", places)
    for table, count in report.dataset.info.counts.items():
        if count != report.counts.get(table, 0) + sum(n for (at, _), n in report.bad.items() if at == table):
            report.add(table, "dataset.json counts other rows", f"{count} said")
    if report.counts.get("events") and not any(table == "events" for table, _ in report.bad):
        report.effects = measure(report.dataset.events())
    return report


def _rows(report: Report, table: str, read: Callable[..., Iterator[Any]]) -> Iterator[Any]:
    """Readable rows of a table, the others noted; none where the dataset has no such table (items must be there)."""
    if table != "items" and find_table(report.dataset.path, table) is None:
        return

    def note(bad: BadRow) -> None:
        report.add(table, bad.column or "row", str(bad))

    yield from read(report.dataset.path, note)


def _once(report: Report, table: str, key: str, seen: set[str]) -> None:
    if key in seen:
        report.add(table, "seen before", key)
        return
    seen.add(key)
    report.counts[table] = report.counts.get(table, 0) + 1
