"""A file of rules in TOML, read and checked before any row is: where columns come from, and the rules of each table."""

import dataclasses
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from souk.dataset import COLUMNS, DatasetError
from training.data.clean import drops, item_rules, mends, shopper_rules
from training.data.clean.rule import OfShopper, Rule

# Before the name of an attribute: the column of a batch that tells it.
ATTRIBUTE = "attribute "
SHIPPED = Path(__file__).parent / "shipped"
KINDS: dict[str, type[Rule]] = {
    kind.kind: kind
    for kind in (
        mends.Encoding,
        mends.Markup,
        mends.Space,
        mends.Placeholder,
        mends.Case,
        mends.Spelling,
        mends.Category,
        mends.Currency,
        mends.Units,
        mends.Cancellations,
        drops.Missing,
        drops.Pattern,
        drops.OneOf,
        drops.Range,
        drops.Moment,
        drops.BeforeItem,
        drops.UnknownItem,
        drops.UnknownShopper,
        drops.PriceRatio,
        drops.Identifier,
        item_rules.AlikeItems,
        shopper_rules.Duplicates,
        shopper_rules.NearDuplicates,
        shopper_rules.Bots,
        shopper_rules.Wholesalers,
        shopper_rules.Returns,
    )
}
_INFO = ("name", "version", "origin", "licence")
_R = TypeVar("_R", bound=Rule)


@dataclass(frozen=True)
class TableRules:
    """How one table is read from a source that is no canonical dataset, and what is done with its rows."""

    files: tuple[str, ...] = ()
    # Canonical or own column -> the source's, the first of several that a file has.
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)
    # "s" or "ms": a number since 1970.
    time_format: str = ""
    delimiter: str = ","
    # Of CSV files, as Python names it.
    encoding: str = "utf-8"
    # 1.234,50 in columns of numbers.
    decimal_comma: bool = False
    # By column: value of the source -> canonical value.
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    # Attribute -> the source's column; between several values in one stands `value_separator`, "": there are none.
    attributes: dict[str, str] = field(default_factory=dict)
    value_separator: str = ""
    # Events: the id as a template of columns and {row}, the row's number in the source.
    event_id: str = ""
    # Items and shoppers that no file lists: their field or attribute -> the column of events that tells it most often.
    from_events: dict[str, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

    def of(self, kind: type[_R], columns: Sequence[str]) -> list[_R]:
        """The rules of one sort that a table of such columns can follow, in order."""
        return [rule for rule in self.rules if isinstance(rule, kind) and set(rule.reads()) <= set(columns)]

    def own_columns(self, table: str) -> list[str]:
        """Columns of the source that the canonical table does not have."""
        return [name for name in self.columns if name not in COLUMNS[table]]


@dataclass(frozen=True)
class Rules:
    """A whole file. `info`: name, version, origin and licence of the dataset, for a source that does not tell."""

    file: Path
    info: dict[str, str]
    tables: dict[str, TableRules]

    def table(self, name: str) -> TableRules:
        """The rules of a table; none where the file has none."""
        return self.tables.get(name, TableRules())


def read_rules(named: str) -> Rules:
    """The rules of a file, or of one that is shipped, by its name. Raises DatasetError naming table, rule and key."""
    file = Path(named)
    if not file.is_file() and (SHIPPED / f"{named}.toml").is_file():
        file = SHIPPED / f"{named}.toml"
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        shipped = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.toml")))
        raise DatasetError(f"{file}: {error}; shipped: {shipped}") from error
    info = raw.pop("dataset", {})
    if not isinstance(info, dict) or not set(info) <= set(_INFO):
        raise DatasetError(f"{file}: [dataset] holds {', '.join(_INFO)} alone")
    for table in raw:
        if table not in COLUMNS:
            raise DatasetError(f"{file}: [{table}] is unknown; known: dataset, {', '.join(COLUMNS)}")
    try:
        tables = {table: _table(table, part) for table, part in raw.items()}
    except ValueError as error:
        raise DatasetError(f"{file}: {error}") from None
    return Rules(file, {key: str(value) for key, value in info.items()}, tables)


def _table(table: str, part: dict[str, Any]) -> TableRules:
    rules = tuple(_rule(table, number, raw) for number, raw in enumerate(part.pop("rules", []), start=1))
    columns = part.pop("columns", {})
    listed = {name: (told,) if isinstance(told, str) else told for name, told in columns.items()}
    made: TableRules = _made(TableRules, {**part, "columns": listed}, f"[{table}]")
    fields = {*made.columns, *made.constants}
    if len(made.delimiter) != 1:
        raise ValueError(f"[{table}] delimiter must be one character, not {made.delimiter!r}")
    if bad := sorted({*made.constants, *made.scale, *made.values} - set(COLUMNS[table])):
        raise ValueError(f"[{table}] {bad[0]} is unknown; known: {', '.join(COLUMNS[table])}")
    if made.attributes and "attributes" not in COLUMNS[table]:
        raise ValueError(f"[{table}] attributes are told of items and shoppers alone")
    if made.attributes and "attributes" in fields:
        raise ValueError(f"[{table}] attributes are named twice, as a column and one by one")
    if made.event_id:
        try:
            made.event_id.format_map(dict.fromkeys((*fields, "row"), ""))
        except (KeyError, ValueError, IndexError) as error:
            raise ValueError(f"[{table}] event_id: {made.event_id!r} names no column: {error}") from None
    for number, rule in enumerate(rules, start=1):
        if unknown := [column for column in rule.reads() if column not in {*COLUMNS[table], *fields}]:
            known = ", ".join(dict.fromkeys((*COLUMNS[table], *fields)))
            raise ValueError(f"[[{table}.rules]] {number} ({rule.kind}): no column {unknown[0]}; known: {known}")
    return TableRules(**{**vars(made), "rules": rules})


def _rule(table: str, number: int, raw: Any) -> Rule:
    at = f"[[{table}.rules]] {number}"
    if not isinstance(raw, dict) or raw.get("rule") not in KINDS:
        raise ValueError(f"{at}: rule must be one of {', '.join(KINDS)}")
    kind = KINDS[raw["rule"]]
    if issubclass(kind, OfShopper) and table != "events":
        raise ValueError(f"{at}: {kind.kind} is a rule of events")
    if kind is item_rules.AlikeItems and table != "items":
        raise ValueError(f"{at}: {kind.kind} is a rule of items")
    made: Rule = _made(kind, {key: value for key, value in raw.items() if key != "rule"}, f"{at} ({kind.kind})")
    if isinstance(made, mends.Spelling) and made.fold and table in ("events", "impressions"):
        raise ValueError(f"{at}: fold needs the whole table in memory and goes with items and shoppers")
    try:
        made.check()
    except ValueError as error:
        raise ValueError(f"{at} ({kind.kind}): {error}") from None
    return made


def _made(kind: type[Any], raw: dict[str, Any], at: str) -> Any:
    """A dataclass of TOML values. Raises ValueError naming the key that is unknown, missing or of another type."""
    hints = get_type_hints(kind)
    fields = {one.name: one for one in dataclasses.fields(kind)}
    for key in raw:
        if key not in fields or key == "rules":
            raise ValueError(f"{at}: {key} is unknown; known: {', '.join(name for name in fields if name != 'rules')}")
    for name, one in fields.items():
        needed = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        if needed and name not in raw:
            raise ValueError(f"{at}: {name} is missing")
    return kind(**{key: _value(value, hints[key], f"{at}: {key}") for key, value in raw.items()})


def _value(value: Any, hint: Any, at: str) -> Any:
    """A TOML value as the type hint says."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value in inside:
            return value
        raise ValueError(f"{at} must be one of {', '.join(inside)}, not {value!r}")
    if origin is UnionType:
        return _value(value, inside[0], at)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [inside[0]] * len(value) if inside[-1] is Ellipsis else inside
        if len(kinds) == len(value) > 0:
            return tuple(_value(one, kind, at) for one, kind in zip(value, kinds, strict=True))
    if origin is dict and isinstance(value, dict):
        return {key: _value(one, inside[1], f"{at}.{key}") for key, one in value.items()}
    if hint is datetime and isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (str, int, bool) and type(value) is hint:
        return value
    raise ValueError(f"{at} must be {_named(hint)}, not {value!r}")


def _named(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return "a list that is not empty" if get_args(hint)[-1] is Ellipsis else "a list of a unit and a factor"
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", datetime: "a moment"}
    return names.get(hint, "a table")
