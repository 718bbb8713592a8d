"""Where every row went: counted by rule, with examples."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

EXAMPLES = 5
# How a value is called in the account that could not be read and is lost, while its row stays.
UNREADABLE = "unreadable"


class Unaccounted(RuntimeError):
    """Rows that were neither kept nor dropped: a fault of the cleaning itself."""


@dataclass
class Account:
    """Of one table. A row is dropped by one rule, and may have been mended by several before."""

    rows_in: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    mended: dict[str, int] = field(default_factory=dict)
    # Rules that could not be followed: the source lacks a column or a table that they need.
    skipped: list[str] = field(default_factory=list)
    # Rule -> what it met first: the row's number in the source, from 1, with its values, or with those that were mended
    # `before` and `after`.
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def drop(self, rule: str, rows: pl.DataFrame) -> None:
        """Count rows that a rule took out."""
        if not rows.height:
            return
        self.dropped[rule] = self.dropped.get(rule, 0) + rows.height
        for row in rows.head(EXAMPLES).to_dicts():
            values = {name: _shown(value) for name, value in row.items() if value is not None and name[0] != "_"}
            self._example(rule, {"row": row["_row"] + 1} | values)

    def mend(self, rule: str, rows: int) -> None:
        """Count rows that a rule changed."""
        if rows:
            self.mended[rule] = self.mended.get(rule, 0) + rows

    def show(self, rule: str, before: pl.DataFrame, after: pl.DataFrame, columns: Iterable[str]) -> None:
        """Take examples of a change: the same rows before and after."""
        for old, new in zip(before.head(EXAMPLES).to_dicts(), after.head(EXAMPLES).to_dicts(), strict=True):
            changed = [name for name in columns if _shown(old[name]) != _shown(new[name])]
            told = ({name: _shown(row[name]) for name in changed} for row in (old, new))
            self._example(rule, {"row": old["_row"] + 1, "before": next(told), "after": next(told)})

    def skip(self, rule: str) -> None:
        """Note a rule that could not be followed."""
        if rule not in self.skipped:
            self.skipped.append(rule)

    def check(self, table: str) -> None:
        """Raises Unaccounted where rows are missing or too many."""
        if self.rows_in != self.kept + sum(self.dropped.values()):
            raise Unaccounted(
                f"{table}: {self.rows_in} rows in, {self.kept} kept, {sum(self.dropped.values())} dropped"
            )

    def add(self, other: "Account") -> None:
        """Join what was counted elsewhere of the same table."""
        self.rows_in += other.rows_in
        self.kept += other.kept
        for mine, theirs in ((self.dropped, other.dropped), (self.mended, other.mended)):
            for rule, rows in theirs.items():
                mine[rule] = mine.get(rule, 0) + rows
        for rule in other.skipped:
            self.skip(rule)
        for rule, examples in other.examples.items():
            for example in examples:
                self._example(rule, example)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    def _example(self, rule: str, example: dict[str, Any]) -> None:
        told = self.examples.setdefault(rule, [])
        if len(told) < EXAMPLES:
            told.append(example)


def _shown(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str) else str(value)
