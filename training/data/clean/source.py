"""What is to be cleaned, as lazy tables: canonical files as they are, others by the columns that the rules name."""

import functools
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import fastexcel
import polars as pl

from souk.dataset import COLUMNS, SUFFIXES, DatasetError, find_table
from training.data.canonical import INFO_FILE, Info, open_dataset
from training.data.clean.csv_lines import BROKEN, CsvLines
from training.data.clean.rules import ATTRIBUTE, Rules, TableRules

# For files that do not say how many rows they hold.
_BYTES_A_ROW = 100
_WORKBOOK = ".xlsx"


@dataclass(frozen=True)
class Raw:
    """One file. `canonical`: its columns are those of the table; else the rules say which is which."""

    file: Path
    rows: pl.LazyFrame | CsvLines
    # Column -> where the file has it: a column or, in JSON and Parquet, keys down to a value ("price.amount").
    columns: Mapping[str, str]
    # As a file without a count says by its size.
    about: int
    canonical: bool

    def batches(self, size: int) -> Iterator[pl.DataFrame]:
        """Frames of about `size` rows with `columns`; of a CSV file `BROKEN`, too. Raises DatasetError."""
        if isinstance(self.rows, CsvLines):
            for batch in self.rows.batches([*dict.fromkeys(self.columns.values())], size):
                yield batch.select(BROKEN, **{name: pl.col(column) for name, column in self.columns.items()})
            return
        try:
            rows = self.rows.select(**{name: self._found(column) for name, column in self.columns.items()})
            yield from rows.collect_batches(chunk_size=size)
        except pl.exceptions.PolarsError as error:
            raise DatasetError(f"{self.file}: {error}") from error

    def _found(self, column: str) -> pl.Expr:
        assert isinstance(self.rows, pl.LazyFrame)
        schema = self.rows.collect_schema()
        if column in schema:
            return pl.col(column)
        key, *inside = column.split(".")
        if isinstance(schema[key], pl.Struct):
            return functools.reduce(lambda found, name: found.struct.field(name), inside, pl.col(key))
        return pl.col(key).str.json_path_match(f"$.{'.'.join(inside)}")


@dataclass(frozen=True)
class Source:
    """All tables of a source, and what is known of the whole."""

    info: Info
    tables: dict[str, list[Raw]]

    def fingerprint(self) -> list[list[str | int]]:
        """Changes when a file does."""
        files = [raw.file for table in self.tables.values() for raw in table]
        return [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def open_source(source: Path, rules: Rules) -> Source:
    """A dataset directory, a directory with the files that the rules name, or one file of events or of the table it is
    named after. Raises DatasetError."""
    globs = {table: part.files for table, part in rules.tables.items() if part.files}
    if source.is_file():
        stem = source.name.split(".")[0]
        tables = {stem if stem in COLUMNS else "events": [source]}
    elif not source.is_dir():
        raise DatasetError(f"{source}: no such file or directory")
    elif globs and not (source / INFO_FILE).is_file():
        tables = {table: [file for glob in globs[table] for file in _matching(source, glob)] for table in globs}
    else:
        found = {table: find_table(source, table) for table in COLUMNS}
        tables = {table: [file] for table, file in found.items() if file is not None}
        if not tables:
            raise DatasetError(f"{source}: no canonical table, and the rules name no files")
    raw = {table: [_open(file, table, rules.table(table)) for file in files] for table, files in tables.items()}
    return Source(_info(source, rules), raw)


def _matching(source: Path, glob: str) -> list[Path]:
    if not (files := sorted(source.glob(glob))):
        raise DatasetError(f"{source / glob}: no such file")
    return files


def _info(source: Path, rules: Rules) -> Info:
    if (source / INFO_FILE).is_file():
        return open_dataset(source).info
    name = source.name.split(".")[0]
    told = {"name": name, "version": "1", "origin": source.name, "licence": "unknown"} | rules.info
    return Info(told["name"], told["version"], told["origin"], told["licence"])


def _open(file: Path, table: str, rules: TableRules) -> Raw:
    suffix = next((one for one in (*SUFFIXES, _WORKBOOK) if file.name.endswith(one)), "")
    rows: pl.LazyFrame | CsvLines
    try:
        if suffix == ".parquet":
            rows = pl.scan_parquet(file)
            about = rows.select(pl.len()).collect().item()
        elif suffix in (".csv", ".csv.gz"):
            rows = CsvLines(file, rules.delimiter, rules.encoding)
            about = file.stat().st_size // _BYTES_A_ROW
        elif suffix in (".jsonl", ".jsonl.gz"):
            rows = pl.scan_ndjson(file, schema=dict.fromkeys(_keys(file), pl.String))
            about = file.stat().st_size // _BYTES_A_ROW
        elif suffix == _WORKBOOK:
            sheets = _sheets(file)
            rows, about = sheets.lazy(), sheets.height
        else:
            raise DatasetError(f"{file}: unknown format; known: {', '.join((*SUFFIXES, _WORKBOOK))}")
        header = rows.header() if isinstance(rows, CsvLines) else rows.collect_schema().names()
    except (pl.exceptions.PolarsError, fastexcel.FastExcelError, ValueError, OSError) as error:
        raise error if isinstance(error, DatasetError) else DatasetError(f"{file}: {error}") from error
    canonical = set(header) <= set(COLUMNS[table])
    if canonical:
        return Raw(file, rows, {name: name for name in header}, about, True)
    if not rules.columns:
        unknown = next(name for name in header if name not in COLUMNS[table])
        raise DatasetError(f"{file}: column {unknown!r} is not of the format, and the rules name no [{table}] columns")
    chosen = {}
    nested = suffix in (".jsonl", ".jsonl.gz", ".parquet")
    attributes = {ATTRIBUTE + name: (column,) for name, column in rules.attributes.items()}
    for name, options in (rules.columns | attributes).items():
        found = next((one for one in options if one in header or (nested and one.partition(".")[0] in header)), None)
        if found is None:
            missing = f"{' or '.join(options)} for {name.removeprefix(ATTRIBUTE)}"
            raise DatasetError(f"{file}: no column {missing}; it has {', '.join(header)}")
        if header.count(found) > 1:
            raise DatasetError(f"{file}: two columns are called {found}")
        chosen[name] = found
    raw = Raw(file, rows, chosen, about, False)
    _check_shapes(raw)
    return raw


def _check_shapes(raw: Raw) -> None:
    """Raises DatasetError where a column of Parquet holds no single values, and what reads it takes nothing else."""
    if isinstance(raw.rows, CsvLines):
        return
    try:
        schema = raw.rows.select(**{name: raw._found(column) for name, column in raw.columns.items()}).collect_schema()
    except pl.exceptions.PolarsError as error:
        raise DatasetError(f"{raw.file}: {error}") from error
    for name, kind in schema.items():
        if isinstance(kind, pl.Struct):
            inside = ", ".join(f"{raw.columns[name]}.{one.name}" for one in kind.fields)
            raise DatasetError(f"{raw.file}: {raw.columns[name]} holds several values; name one of {inside}")
        if isinstance(kind, pl.List) and name != "category" and not name.startswith(ATTRIBUTE):
            raise DatasetError(f"{raw.file}: {raw.columns[name]} holds lists, and {name} is one value")


def _sheets(file: Path) -> pl.DataFrame:
    """All sheets of a workbook one after another, every cell as text like those of a CSV; empty sheets are left out.

    Raises DatasetError where two sheets differ in their columns.
    """
    book = fastexcel.read_excel(file)
    read = [(name, book.load_sheet(name, dtypes="string").to_polars()) for name in book.sheet_names]
    filled = [(name, sheet) for name, sheet in read if sheet.height]
    if not filled:
        raise DatasetError(f"{file}: no sheet holds a row")
    first, columns = filled[0][0], filled[0][1].columns
    for name, sheet in filled:
        if odd := sorted(set(columns) ^ set(sheet.columns)):
            raise DatasetError(f"{file}, sheet {name!r}: column {odd[0]!r} is not in both it and sheet {first!r}")
    return pl.concat([sheet.select(columns) for _, sheet in filled])


def _keys(file: Path) -> list[str]:
    """The keys of a file of JSON objects, by its first thousand lines."""
    keys: dict[str, None] = {}
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rt", encoding="utf-8") as lines:
        for _, line in zip(range(1000), lines, strict=False):
            keys |= dict.fromkeys(json.loads(line))
    return [*keys]
