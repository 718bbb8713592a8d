"""The whole cleaning: catalogue, shoppers and log, what is told of them, and the dataset or datasets of that."""

import hashlib
import json
import shutil
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from services.domain.checks import Invalid, check_item
from souk.dataset import COLUMNS, BadRow, DatasetError, parse_row
from souk.types.v1 import types_pb2
from training.data.canonical import SCHEMAS, DatasetWriter
from training.data.clean.account import Account
from training.data.clean.derive import items_of, shoppers_of
from training.data.clean.item_rules import AlikeItems
from training.data.clean.log import Told, batches, clean_log
from training.data.clean.rows import Known, clean_rows
from training.data.clean.rules import Rules, TableRules
from training.data.clean.source import Raw, Source, open_source
from training.data.clean.split import Part, Split, catalogue_of, parts_of, shoppers_in
from training.data.clean.types import kinds
from training.evaluate.page import replace_file
from training.new_directory import new_directory

REPORT = "cleaning.json"
_KEYS = {"items": ["item_id"], "shoppers": ["shopper_id"], "judgements": ["query", "item_id"]}


def clean(
    source: Path, rules: Rules, out: Path, told: Told, split: Split | None = None, share: float = 0.1, seed: int = 7
) -> dict[str, Account]:
    """Clean `source` into the dataset directory `out`; with `split` into train, validation and test below it.

    Gives back the account of each table, which `cleaning.json` in `out` holds as well. `told`: what is being done, how
    much of it is done and how much there is. What is finished is kept in `.NAME.cleaning` beside `out` until all is.
    Raises DatasetError, NoTime; then there is nothing at `out`.
    """
    if out.exists():
        raise DatasetError(f"{out}: exists already; remove it or name another directory")
    opened = open_source(source, rules)
    work = _work(out, opened, rules)
    accounts = {table: Account() for table in COLUMNS if table in opened.tables}
    tables: dict[str, pl.DataFrame] = {}
    for table in ("items", "shoppers"):
        if table in opened.tables:
            tables[table] = _small(table, opened.tables[table], rules.table(table), Known(), accounts[table])
    twins: dict[str, str] = {}
    if "items" in tables:
        tables["items"], twins = _without_twins(tables["items"], rules.table("items"), accounts["items"])
    known = Known.of(tables.get("items"), tables.get("shoppers"), twins)
    groups: list[Path] = []
    if "events" in opened.tables:
        cleaned = clean_log(opened.tables["events"], rules.table("events"), known, work, told)
        accounts["events"], groups = cleaned.account, cleaned.groups
    if "judgements" in opened.tables:
        files, account = opened.tables["judgements"], accounts["judgements"]
        tables["judgements"] = _small("judgements", files, rules.table("judgements"), known, account)
    shown: list[Path] = []
    if "impressions" in opened.tables:
        files, account = opened.tables["impressions"], accounts["impressions"]
        shown = _shown(files, rules.table("impressions"), known, account, work, told)
    for table, account in accounts.items():
        account.check(table)
    events = pl.scan_parquet(groups) if groups else None
    parts = [Part("", pl.lit(value=True))]
    if split is not None:
        if events is None:
            raise DatasetError(f"{source}: no events to split")
        parts = parts_of(events, split, share, seed)
    info = replace(opened.info, counts={}, dropped=_joined(opened.info.dropped, accounts))
    with new_directory(out) as draft:
        for part in parts:
            # A dataset writer makes its directory itself.
            into = draft / (part.name or "whole")
            with DatasetWriter(into, info) as writer:
                for table, frame in _tables_of(tables, events, shown, rules, parts[0], part).items():
                    _write(writer, table, frame)
                for table, pieces in (("events", groups), ("impressions", shown)):
                    for number, piece in enumerate(pieces, start=1):
                        _write(writer, table, pl.read_parquet(piece).filter(part.rows))
                        told(f"{part.name} {table} written".strip(), number, len(pieces))
        if split is None:
            for file in list((draft / "whole").iterdir()):
                file.rename(draft / file.name)
            (draft / "whole").rmdir()
        report = {"rules": rules.file.stem, "tables": {name: one.to_json() for name, one in accounts.items()}}
        replace_file(draft / REPORT, json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    shutil.rmtree(work)
    return accounts


def _work(out: Path, source: Source, rules: Rules) -> Path:
    """Where unfinished work is kept; what belongs to another source or to other rules is thrown away."""
    work = out.parent / f".{out.name}.cleaning"
    state = json.dumps([source.fingerprint(), hashlib.sha256(rules.file.read_bytes()).hexdigest()])
    if not (work / "state.json").is_file() or (work / "state.json").read_text(encoding="utf-8") != state:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        replace_file(work / "state.json", state)
    return work


def _small(table: str, files: list[Raw], rules: TableRules, known: Known, account: Account) -> pl.DataFrame:
    """A table that fits into memory: every row held against the format, each key once."""
    frames = []
    for file, parts in groupby(batches(files), key=lambda pair: pair[0]):
        raw = pl.concat([batch for _, batch in parts])
        frames.append(clean_rows(raw, table, rules, file.canonical, known, account))
    if not frames:
        raise DatasetError(f"{files[0].file}: holds no rows")
    frame = pl.concat(frames, how="diagonal")
    over = pl.Series([_over(row, table) for row in frame.select(*kinds(table)).iter_rows(named=True)], dtype=pl.String)
    for what in over.drop_nulls().unique().sort():
        account.drop(f"limits {what}", frame.filter(over == what))
    frame = frame.filter(over.is_null())
    # Of an item the latest revision stays, of anything else the first row.
    if table == "items":
        frame = frame.sort("revision", descending=True, nulls_last=True, maintain_order=True)
    first = frame.select(pl.struct(_KEYS[table]).is_first_distinct()).to_series()
    account.drop(f"duplicates {' '.join(_KEYS[table])}", frame.filter(~first))
    frame = frame.filter(first).sort("_row")
    account.kept = frame.height
    return frame


def _without_twins(items: pl.DataFrame, rules: TableRules, account: Account) -> tuple[pl.DataFrame, dict[str, str]]:
    """The items without those that rules find alike to another, and by id of each of these the one that stays."""
    twins: dict[str, str] = {}
    for rule in rules.of(AlikeItems, items.columns):
        found = rule.twins(items)
        twins = {again: found.get(first, first) for again, first in twins.items()} | found
        gone = pl.col("item_id").is_in([*found])
        again = items.filter(gone).with_columns(alike_to=pl.col("item_id").replace(found))
        account.drop(rule.called(), again)
        items = items.filter(~gone)
    account.kept = items.height
    return items, twins


def _over(row: dict[str, Any], table: str) -> str | None:
    """The column or field by which a row is outside of the format; None where it is not."""
    try:
        message = parse_row(table, row, "", 0)
        if isinstance(message, types_pb2.Item):
            check_item(message, "item")
    except BadRow as bad:
        return bad.column or "row"
    except Invalid as invalid:
        # Of "item.attributes[2].name" what does not differ from row to row.
        return invalid.field.removeprefix("item.").partition("[")[0]
    return None


def _shown(files: list[Raw], rules: TableRules, known: Known, account: Account, work: Path, told: Told) -> list[Path]:
    """Impressions, each row for itself."""
    done = []
    for number, (file, batch) in enumerate(batches(files)):
        frame = clean_rows(batch, "impressions", rules, file.canonical, known, account)
        account.kept += frame.height
        done.append(work / f"impressions-{number:05}.parquet")
        frame.write_parquet(done[-1], compression="lz4")
        told("impressions", account.rows_in, sum(one.about for one in files))
    return done


def _tables_of(
    tables: dict[str, pl.DataFrame],
    events: pl.LazyFrame | None,
    shown: list[Path],
    rules: Rules,
    train: Part,
    part: Part,
) -> dict[str, pl.DataFrame]:
    """The small tables of one part; those that the source lacks told by its events."""
    if events is None:
        return tables
    before = events if part.until is None else events.filter(pl.col("time") < part.until)
    found = dict(tables)
    for table, derive in (("items", items_of), ("shoppers", shoppers_of)):
        if table not in tables and rules.table(table).from_events:
            found[table] = derive(before, rules.table(table).from_events)
    if part.name:
        met = pl.concat([log.select("shopper_id", "item_id", "time") for log in (events, *map(pl.scan_parquet, shown))])
        if "items" in found:
            found["items"] = catalogue_of(found["items"], events, met, train, part)
            if "judgements" in found:
                known = found["items"].select("item_id")
                found["judgements"] = found["judgements"].join(known, on="item_id", how="semi", maintain_order="left")
        if "shoppers" in found:
            found["shoppers"] = shoppers_in(found["shoppers"], met, part, part is train)
    return {table: found[table] for table in COLUMNS if table in found}


def _write(writer: DatasetWriter, table: str, frame: pl.DataFrame) -> None:
    empty = pl.from_arrow(SCHEMAS[table].empty_table())
    assert isinstance(empty, pl.DataFrame)
    columns = [pl.col(name).cast(kind) for name, kind in empty.schema.items() if name in frame.columns]
    writer.write(table, frame.select(columns).to_arrow(compat_level=pl.CompatLevel.oldest()))


def _joined(earlier: dict[str, dict[str, int]], accounts: dict[str, Account]) -> dict[str, dict[str, int]]:
    """What was left out when the source was made, and now."""
    joined = {table: dict(reasons) for table, reasons in earlier.items()}
    for table, account in accounts.items():
        for rule, rows in account.dropped.items():
            reasons = joined.setdefault(table, {})
            reasons[rule] = reasons.get(rule, 0) + rows
    return joined
