"""A CSV file batch by batch: in any encoding, every value as text, lines that do not fit the header kept apart."""

import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from pyarrow import csv as arrow

from souk.dataset import DatasetError

# A line with more or fewer values than the header: its text in this column, and nothing in the others.
BROKEN = "_line"
# A value must fit into one block; one that holds a line break may lie across its border.
_BLOCK = 16 << 20


@dataclass(frozen=True)
class CsvLines:
    """One file. `encoding`: as Python names it."""

    file: Path
    delimiter: str
    encoding: str

    def header(self) -> list[str]:
        """The names of the columns. Raises DatasetError."""
        opener: Any = gzip.open if self.file.suffix == ".gz" else open
        encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        try:
            with opener(self.file, "rt", encoding=encoding, newline="") as lines:
                names = next(csv.reader(lines, delimiter=self.delimiter), [])
        except (OSError, UnicodeError, LookupError, csv.Error) as error:
            raise self._refused(error) from error
        if not names:
            raise DatasetError(f"{self.file}: is empty")
        return names

    def batches(self, columns: Sequence[str], size: int) -> Iterator[pl.DataFrame]:
        """Frames of about `size` rows: `columns` of the header as text, and `BROKEN`. Raises DatasetError."""
        broken: list[str] = []

        def skip(line: arrow.InvalidRow) -> str:
            broken.append(line.text)
            return "skip"

        text = dict.fromkeys(columns, pa.string())
        try:
            reader = arrow.open_csv(
                self.file,
                arrow.ReadOptions(encoding=self.encoding, block_size=_BLOCK),
                arrow.ParseOptions(delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=skip),
                arrow.ConvertOptions(column_types=text, include_columns=list(text)),
            )
            held: list[pa.RecordBatch] = []
            for batch in reader:
                held.append(batch)
                if sum(one.num_rows for one in held) >= size:
                    yield _frame(held, broken)
                    held, broken[:] = [], []
            if held or broken:
                yield _frame(held, broken, columns)
        except (pa.ArrowException, UnicodeError, OSError) as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> DatasetError:
        if self.encoding == "utf-8" and (isinstance(error, UnicodeError) or "UTF8" in str(error)):
            return DatasetError(f'{self.file}: is not UTF-8; the rules must name its encoding: encoding = "cp1252"')
        return DatasetError(f"{self.file}: {error}")


def _frame(batches: list[pa.RecordBatch], broken: list[str], columns: Sequence[str] = ()) -> pl.DataFrame:
    """One frame of all; broken lines come last."""
    schema = dict.fromkeys(columns, pl.String())
    frame = pl.from_arrow(pa.Table.from_batches(batches)) if batches else pl.DataFrame(schema=schema)
    assert isinstance(frame, pl.DataFrame)
    lines = pl.DataFrame({BROKEN: broken}, schema={BROKEN: pl.String})
    return pl.concat([frame.with_columns(pl.lit(None, pl.String).alias(BROKEN)), lines], how="diagonal")
