"""What a bench keeps: reports/bench-NAME.json with the machine and one row a measurement."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from loadtest.machine import machine
from training.evaluate.page import replace_file

REPORTS = Path("reports")


@dataclass(frozen=True)
class Row:
    """A measurement beside its baseline of the same run; `ratio` is what the bench's table shows.

    `goal`: what is wanted, in words ("<= 3 x"), and `reached` whether it is; both None where there is no goal.
    """

    name: str
    value: float
    unit: str
    baseline: str | None = None
    ratio: float | None = None
    goal: str | None = None
    reached: bool | None = None


def write_rows(bench: str, rows: Sequence[Row], folder: Path = REPORTS) -> Path:
    """Writes reports/bench-NAME.json, over an older one; gives its path."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"bench-{bench}.json"
    found = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
    }
    replace_file(file, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return file
