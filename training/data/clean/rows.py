"""The rules on single rows, on one batch after the other: mends to a fixpoint, then what goes."""

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from souk.dataset import COLUMNS, REQUIRED
from training.data.canonical import SCHEMAS
from training.data.clean.account import UNREADABLE, Account
from training.data.clean.csv_lines import BROKEN
from training.data.clean.drops import (
    ITEM_CREATED,
    ITEM_CURRENCY,
    ITEM_KNOWN,
    ITEM_PRICE,
    SHOPPER_KNOWN,
    Identifier,
    Missing,
    Range,
)
from training.data.clean.mends import Spelling
from training.data.clean.rule import Drop, Mend
from training.data.clean.rules import TableRules
from training.data.clean.types import typed

TWINS = "item listed twice"
_ROUNDS = 10


@dataclass(frozen=True)
class Known:
    """The catalogue and the shoppers of a dataset, as far as rules ask for them; None where the source has none."""

    items: pl.DataFrame | None = None
    shoppers: pl.DataFrame | None = None
    # By id of an item that the catalogue listed twice: the id under which it stays.
    twins: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, items: pl.DataFrame | None, shoppers: pl.DataFrame | None, twins: Mapping[str, str]) -> "Known":
        """From cleaned tables."""
        if items is not None:
            items = items.select(
                "item_id",
                pl.lit(value=True).alias(ITEM_KNOWN),
                pl.col("created_at").alias(ITEM_CREATED),
                pl.col("price").alias(ITEM_PRICE),
                pl.col("currency").alias(ITEM_CURRENCY),
            )
        if shoppers is not None:
            shoppers = shoppers.select("shopper_id", pl.lit(value=True).alias(SHOPPER_KNOWN))
        return cls(items, shoppers, twins)

    def has(self, column: str) -> bool:
        """Whether `beside` would add a column."""
        table = self.shoppers if column == SHOPPER_KNOWN else self.items
        return table is not None

    def beside(self, frame: pl.DataFrame, columns: set[str]) -> pl.DataFrame:
        """The frame with such columns of these tables."""
        for key, table in (("item_id", self.items), ("shopper_id", self.shoppers)):
            if table is not None and (found := [name for name in table.columns if name in columns]):
                frame = frame.join(table.select(key, *found), on=key, how="left", maintain_order="left")
        return frame


def clean_rows(
    raw: pl.DataFrame, table: str, rules: TableRules, canonical: bool, known: Known, account: Account
) -> pl.DataFrame:
    """A batch of a file, with `_row`, as the rows that stay; every other one is in the account."""
    account.rows_in += raw.height
    if BROKEN in raw.columns:
        broken = pl.col(BROKEN).is_not_null()
        account.drop("not as many values as columns", raw.filter(broken).select("_row", line=BROKEN))
        raw = raw.filter(~broken).drop(BROKEN)
    frame, unread = typed(raw, table, rules, canonical)
    frame = _readable(raw, frame, unread, table, account)
    present = [name for name in frame.columns if name != "_row"]
    frame = _mended(frame, rules.of(Mend, present), account)  # type: ignore[type-abstract]
    if known.twins and "item_id" in present:
        frame = _of_one_item(frame, known.twins, account)
    drops = [*rules.of(Drop, present), *_format(table)]  # type: ignore[type-abstract]
    asked = [rule for rule in drops if all(known.has(column) for column in rule.needs)]
    for rule in rules.rules:
        if not set(rule.reads()) <= set(present) or (isinstance(rule, Drop) and rule not in asked):
            account.skip(rule.called())
    return _kept(frame, asked, known, account)


def _format(table: str) -> list[Drop]:
    """What the canonical format asks of every row, whatever the rules."""
    ids = [name for name in COLUMNS[table] if name.endswith("_id")]
    unsigned = {field.name: field.type.bit_width for field in SCHEMAS[table] if str(field.type).startswith("uint")}
    return [
        *(Missing(name=f"missing {column}", columns=(column,)) for column in REQUIRED[table]),
        *(Identifier(name=f"limits {column}", columns=(column,)) for column in ids),
        *(
            Range(name=f"limits {name}", column=name, min=0, max=2.0 ** min(bits, 63) - 1)
            for name, bits in unsigned.items()
        ),
    ]


def _readable(
    raw: pl.DataFrame, frame: pl.DataFrame, unread: pl.DataFrame, table: str, account: Account
) -> pl.DataFrame:
    """Rows without the ones whose required columns cannot be read; of others the account says what became null."""
    gone = pl.repeat(False, raw.height, eager=True)
    for column in unread.columns:
        faulty = unread[column] & ~gone
        if not faulty.any():
            continue
        if column in REQUIRED[table]:
            account.drop(f"{UNREADABLE} {column}", raw.filter(faulty))
            gone = gone | faulty
        else:
            account.mend(f"{UNREADABLE} {column}", int(faulty.sum()))
            account.show(f"{UNREADABLE} {column}", raw.filter(faulty), frame.filter(faulty), [column])
    return frame.filter(~gone) if gone.any() else frame


def _mended(frame: pl.DataFrame, rules: Sequence[Mend], account: Account) -> pl.DataFrame:
    """All mends in their order; what changed goes through all again, until nothing does."""
    told: dict[str, list[pl.Series]] = {}
    # The most frequent spelling is that of the whole table, not of the rows that changed.
    whole = any(isinstance(rule, Spelling) and rule.fold for rule in rules)
    done: list[pl.DataFrame] = []
    todo = frame
    for _ in range(_ROUNDS):
        touched = pl.repeat(False, todo.height, eager=True)
        for rule in rules:
            if not (new := rule.mended(todo)):
                continue
            changes = [column.ne_missing(todo[name]) for name, column in new.items()]
            changed = functools.reduce(operator.or_, changes)
            if not changed.any():
                continue
            after = todo.with_columns(column.alias(name) for name, column in new.items())
            told.setdefault(rule.called(), []).append(todo["_row"].filter(changed))
            account.show(rule.called(), todo.filter(changed), after.filter(changed), new)
            todo, touched = after, touched | changed
        if not whole or not touched.any():
            done.append(todo.filter(~touched))
            todo = todo.filter(touched)
        if not todo.height:
            break
    else:
        raise ValueError(f"rules change each other's work again and again: {', '.join(told)}; row {todo.row(0)}")
    for name, parts in told.items():
        account.mend(name, pl.concat(parts).n_unique())
    return pl.concat(done).sort("_row") if len(done) > 1 else done[0]


def _of_one_item(frame: pl.DataFrame, twins: Mapping[str, str], account: Account) -> pl.DataFrame:
    """The rows with one id for each item that the catalogue listed twice."""
    told = pl.col("item_id").is_in([*twins])
    before = frame.filter(told)
    frame = frame.with_columns(item_id=pl.col("item_id").replace(dict(twins)))
    account.mend(TWINS, before.height)
    account.show(TWINS, before, frame.filter(pl.col("_row").is_in(before["_row"].implode())), ["item_id"])
    return frame


def _kept(frame: pl.DataFrame, rules: Sequence[Drop], known: Known, account: Account) -> pl.DataFrame:
    """The first rule that holds takes the row."""
    if not rules:
        return frame
    columns = frame.columns
    frame = known.beside(frame, {column for rule in rules for column in rule.needs})
    number = pl.coalesce(pl.when(rule.bad()).then(pl.lit(number, pl.Int16)) for number, rule in enumerate(rules)).alias(
        "_by"
    )
    by = frame.select(number)["_by"]
    frame = frame.select(columns)
    if by.null_count() == len(by):
        return frame
    for found in by.drop_nulls().unique().sort():
        account.drop(rules[found].called(), frame.filter(by == found))
    return frame.filter(by.is_null())
