"""A log of any length in bounded memory: rows batch by batch into groups of whole shoppers, then group by group.

What is finished lies in a work directory, so that a run that was killed goes on behind it.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from pyarrow import parquet

from training.data.clean.account import Account
from training.data.clean.rows import Known, clean_rows
from training.data.clean.rule import OfShopper
from training.data.clean.rules import TableRules
from training.data.clean.source import Raw
from training.evaluate.page import replace_file

BATCH = 1_000_000
# About so many events make a group of shoppers, which is held in memory.
GROUP = 4_000_000
# A group is a run of hashes of shoppers: ordered by these, the output is the same however many groups there were.
_ORDER = ("_hash", "time", "order", "_row")

Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Cleaned:
    """The events that stay, a file for each group of shoppers, and where the others went."""

    groups: list[Path]
    account: Account


def batches(files: list[Raw]) -> Iterator[tuple[Raw, pl.DataFrame]]:
    """Batches of all files with `_row`, the row's number over all of them from 0."""
    rows = 0
    for file in files:
        for batch in file.batches(BATCH):
            number = pl.int_range(rows, rows + batch.height, dtype=pl.UInt64, eager=True).alias("_row")
            rows += batch.height
            yield file, batch.with_columns(number)


def clean_log(files: list[Raw], rules: TableRules, known: Known, work: Path, told: Told) -> Cleaned:
    """Clean events: first every row for itself, then all of a shopper's together.

    `told`: what is being done, how much of it is done and how much there is. Raises DatasetError.
    """
    account = Account()
    rows, first = work / "rows", work / "first.parquet"
    number = max(1, math.ceil(sum(file.about for file in files) / GROUP))
    if not first.is_file():
        rows.mkdir(exist_ok=True)
        hashes = _to_groups(files, rules, known, rows, number, account, told)
        replace_file(work / "rows.json", json.dumps(account.to_json()))
        _first_of_each_id(rows, hashes).write_parquet(work / "first.draft")
        (work / "first.draft").rename(first)
    else:
        account = Account(**json.loads((work / "rows.json").read_text(encoding="utf-8")))
    groups = []
    for done, file in enumerate(sorted(rows.glob("*.parquet")), start=1):
        counted = _clean_group(file, work / file.name, pl.read_parquet(first), rules)
        account.add(counted)
        groups.append(work / file.name)
        told("groups of shoppers", done, number)
    return Cleaned(groups, account)


def _to_groups(
    files: list[Raw], rules: TableRules, known: Known, rows: Path, number: int, account: Account, told: Told
) -> list[pl.Series]:
    """Writes the rows that stay into the file of their group; gives back hashes of their ids."""
    about = sum(file.about for file in files)
    writers: dict[int, parquet.ParquetWriter] = {}
    hashes = []
    try:
        for file, batch in batches(files):
            frame = clean_rows(batch, "events", rules, file.canonical, known, account)
            hashes.append(frame["event_id"].hash())
            # The first 32 bits: their product with the number of groups fits into 64.
            group = ((pl.col("_hash") // 2**32) * number // 2**32).alias("_group")
            frame = frame.with_columns(_hash=pl.col("shopper_id").hash()).with_columns(group)
            for (key,), part in frame.partition_by("_group", as_dict=True, include_key=False).items():
                columns = part.to_arrow(compat_level=pl.CompatLevel.oldest())
                if key not in writers:
                    file_of = rows / f"{key:05}.parquet"
                    writers[key] = parquet.ParquetWriter(file_of, columns.schema, compression="lz4")
                writers[key].write_table(columns)
            told("rows", account.rows_in, max(about, account.rows_in))
    finally:
        for writer in writers.values():
            writer.close()
    return hashes


def _first_of_each_id(rows: Path, hashes: list[pl.Series]) -> pl.DataFrame:
    """Where each id that stands more than once stands first: event_id, _first. Of 8 bytes for each event."""
    every = np.concatenate([one.to_numpy() for one in hashes]) if hashes else np.empty(0, np.uint64)
    every.sort()
    twice = pl.Series("hash", np.unique(every[1:][every[1:] == every[:-1]]), pl.UInt64)
    files = sorted(rows.glob("*.parquet"))
    if not len(twice):
        return pl.DataFrame(schema={"event_id": pl.String, "_first": pl.UInt64})
    asked = pl.scan_parquet(files).select("event_id", "_row").filter(pl.col("event_id").hash().is_in(twice.implode()))
    ids = asked.group_by("event_id").agg(pl.len(), _first=pl.col("_row").min()).filter(pl.col("len") > 1)
    return ids.select("event_id", "_first").collect(engine="streaming")


def _clean_group(rows: Path, out: Path, first: pl.DataFrame, rules: TableRules) -> Account:
    """Writes the events of some shoppers that stay, ordered by shopper and time; counts them and the others."""
    counted = out.with_suffix(".json")
    if counted.is_file():
        return Account(**json.loads(counted.read_text(encoding="utf-8")))
    account = Account()
    events = pl.read_parquet(rows)
    if first.height:
        events = events.join(first, on="event_id", how="left", maintain_order="left")
        again = (events["_row"] > events["_first"]).fill_null(value=False)
        account.drop("duplicates event_id", events.filter(again))
        events = events.filter(~again).drop("_first")
    rules_of = rules.of(OfShopper, events.columns)  # type: ignore[type-abstract]
    kept = _by_shopper(events.sort(_ORDER), rules_of, account)
    kept.drop("_hash", "_row").write_parquet(out, compression="lz4")
    account.kept = kept.height
    replace_file(counted, json.dumps(account.to_json()))
    return account


def _by_shopper(events: pl.DataFrame, rules: list[OfShopper], account: Account) -> pl.DataFrame:
    """All rules on all shoppers; shoppers who lost or changed an event go through all again, until none does."""
    kept, touched = _once(events, rules, account)
    while len(touched):
        of_touched = pl.col("shopper_id").is_in(touched.implode())
        again, touched = _once(kept.filter(of_touched), rules, account)
        if len(touched):
            kept = pl.concat([kept.filter(~of_touched), again]).sort(_ORDER)
    return kept


def _once(events: pl.DataFrame, rules: list[OfShopper], account: Account) -> tuple[pl.DataFrame, pl.Series]:
    """What all rules leave, one after the other, and the shoppers who lost or changed an event."""
    touched = [pl.Series("shopper_id", [], pl.String)]
    for rule in rules:
        applied = rule.applied(events)
        for what, dropped in applied.dropped.items():
            account.drop(f"{rule.called()}: {what}" if what else rule.called(), dropped)
            touched.append(dropped["shopper_id"])
        if (before := applied.before) is not None:
            account.mend(rule.called(), before.height)
            after = applied.kept.filter(pl.col("_row").is_in(before["_row"].implode()))
            account.show(rule.called(), before, after, applied.columns)
            touched.append(before["shopper_id"])
        events = applied.kept
    return events, pl.concat(touched).unique()
