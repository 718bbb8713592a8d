"""`python -m training quality`: how good a dataset is, on the command line."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from training.data.cli import complaints, console, told_errors


def quality(
    data: Annotated[Path, typer.Option(help="A canonical dataset.")],
    against: Annotated[
        Path | None, typer.Option(help="Another one: a later period, or the test beside this train. Drift and leakage.")
    ] = None,
    gate: Annotated[Path | None, typer.Option(help="TOML of thresholds: [least] and [most].")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the page goes. Default: .souk/quality/NAME.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON and nothing else.")] = False,
) -> None:
    """Measure a dataset: accuracy, completeness, uniqueness, timeliness, consistency, diversity, drift, leakage.

    With --gate it exits with 1 where a threshold does not hold, and names it.
    """
    # Imported here: matplotlib takes a second, and --help should not.
    from training.data.quality.gate import read_gate
    from training.data.quality.report import by_dimension, examine, shown, write_report

    with told_errors(), complaints.status("measuring"):
        thresholds = None if gate is None else read_gate(gate)
        report = examine(data, against, thresholds, datetime.now(UTC))
        out = out or Path(".souk/quality") / data.resolve().name
        write_report(out, report)
    if as_json:
        typer.echo(json.dumps(report.to_json(), ensure_ascii=False))
    else:
        table = Table("", "", "", "", "", box=None, show_header=False)
        for dimension, figures in by_dimension(report.figures).items():
            pairs = [(name, shown(value)) for name, value in figures.items()]
            half = (len(pairs) + 1) // 2
            for row in range(half):
                right = pairs[half + row] if half + row < len(pairs) else ("", "")
                table.add_row(dimension if row == 0 else "", *pairs[row], *right)
        rows = ", ".join(f"{count:,} {name}" for name, count in report.quality.rows.items())
        console.print(f"{report.quality.name}: {rows} -> {out}/quality.html", highlight=False, soft_wrap=True)
        console.print(table, highlight=False)
    failed = report.failed or []
    for problem in failed:
        complaints.print(f"failed: {problem}", markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)
    if not as_json:
        # A catalogue alone has topics to find, and nothing that a ranker could learn.
        model = "ranker" if report.quality.rows.get("events") else "coldstart"
        console.print(
            f"next: python -m training train {model} --dataset {data} --bundle BUNDLE --out NEW", soft_wrap=True
        )
