"""`python -m training runs`: what was trained here, and what differs between two runs."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

app = typer.Typer(help="What was trained here: listed, shown, compared.", no_args_is_help=True)
console = Console()
_NAME = typer.Argument(help="A run's name, or how it begins or ends.")
_JSON = typer.Option("--json", help="As JSON.")
_FEW = 3


@app.command("list")
def list_command(as_json: Annotated[bool, _JSON] = False) -> None:
    """All runs, the oldest first."""
    from training.runs.registry import runs
    from training.train_cli import refusals

    with refusals():
        found = runs()
        if as_json:
            print(json.dumps([asdict(run) for run in found]))
            return
        if not found:
            console.print("no run yet: every `train` and `encoder` command that trains keeps one")
            return
        table = Table(Column("run", no_wrap=True), "command", "code", "cpu s", "metrics")
        for run in found:
            first = ", ".join(f"{name} {value:.4g}" for name, value in list(run.metrics.items())[:_FEW])
            table.add_row(run.name, run.command, run.code, f"{run.cpu_seconds:.0f}", first)
        console.print(table)
        console.print("next: python -m training runs show NAME, or runs compare NAME NAME")


@app.command("show")
def show_command(name: Annotated[str, _NAME]) -> None:
    """All that is kept of a run, as JSON."""
    from training.runs.registry import find
    from training.train_cli import refusals

    with refusals():
        print(json.dumps(asdict(find(name)), indent=1))


@app.command("compare")
def compare_command(
    one: Annotated[str, _NAME], other: Annotated[str, _NAME], as_json: Annotated[bool, _JSON] = False
) -> None:
    """What differs between two runs: code, data, settings, metrics."""
    from training.runs.registry import find
    from training.train_cli import refusals

    with refusals():
        a, b = find(one), find(other)
        rows: dict[str, tuple[Any, Any]] = {
            name: (getattr(a, name), getattr(b, name))
            for name in ("command", "code", "cpu_seconds", "out")
            if getattr(a, name) != getattr(b, name)
        }
        for part in ("data", "settings", "metrics"):
            of_a, of_b = getattr(a, part), getattr(b, part)
            for name in dict.fromkeys([*of_a, *of_b]):
                if of_a.get(name) != of_b.get(name):
                    rows[f"{part}: {name}"] = (of_a.get(name), of_b.get(name))
        if as_json:
            print(json.dumps(rows))
            return
        if not rows:
            console.print("nothing differs but when they were run")
            return
        table = Table("", a.name, b.name, "difference")
        for name, (left, right) in rows.items():
            numbers = all(isinstance(value, int | float) for value in (left, right))
            table.add_row(name, _shown(left), _shown(right), f"{right - left:+.4g}" if numbers else "")
        console.print(table)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:40]
