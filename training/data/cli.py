"""`python -m training data`: load, generate, check and measure datasets on the command line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

app = typer.Typer(help="Datasets: load, generate, check and measure.", no_args_is_help=True)
console = Console()
complaints = Console(stderr=True)

_DEFAULT_DATA = Path("../shared/data")


class Source(StrEnum):
    """What `load` can read."""

    ONLINE_RETAIL = "online-retail"
    CHORUS_ICECAT = "chorus-icecat"
    AMAZON_BEAUTY = "amazon-beauty"
    AMAZON_SCIENTIFIC = "amazon-scientific"
    COMPLETEJOURNEY = "completejourney"
    CSV = "csv"


def real_data() -> Path | None:
    """Where real data lie: SOUK_DATA, or ../shared/data where that is there."""
    if named := os.environ.get("SOUK_DATA"):
        return Path(named)
    return _DEFAULT_DATA if _DEFAULT_DATA.is_dir() else None


@contextmanager
def told_errors() -> Iterator[None]:
    """What the user can mend is told in one line and exits with 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        complaints.print(f"[red]{type(error).__name__}[/red]", end=" ")
        complaints.print(str(error), markup=False, highlight=False)
        raise typer.Exit(2) from error


@app.command()
def load(
    kind: Annotated[Source, typer.Argument(help="What the source is.")],
    out: Annotated[Path, typer.Option(help="New dataset directory.")],
    source: Annotated[Path | None, typer.Option(help="Its directory. Default: its folder under SOUK_DATA.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="For csv: the TOML file that maps columns.")] = None,
) -> None:
    """Load real data into a canonical dataset; says what was left out and why."""
    from training.data import (
        amazon_beauty,
        amazon_scientific,
        chorus_icecat,
        completejourney,
        csv_mapping,
        online_retail,
    )

    loaders = {
        Source.ONLINE_RETAIL: ("online_retail_ii", online_retail.load),
        Source.CHORUS_ICECAT: ("chorus_icecat", chorus_icecat.load),
        Source.AMAZON_BEAUTY: ("amazon_beauty_2014", amazon_beauty.load),
        Source.AMAZON_SCIENTIFIC: ("amazon_scientific_2018", amazon_scientific.load),
        Source.COMPLETEJOURNEY: ("completejourney", completejourney.load),
    }
    with told_errors():
        if source is None:
            if kind is Source.CSV or (root := real_data()) is None:
                raise ValueError("--source is missing")
            source = root / loaders[kind][0]
        if (kind is Source.CSV) != (mapping is not None):
            raise ValueError("--mapping goes with csv, and csv needs it")
        if mapping is not None:
            csv_mapping.load(source, out, mapping)
        else:
            loaders[kind][1](source, out)
    _tell(out)


def generate(
    out: Annotated[Path, typer.Option(help="New dataset directory.")],
    items: Annotated[int, typer.Option(help="Items of the catalogue.")] = 6000,
    shoppers: Annotated[int, typer.Option(help="Shoppers.")] = 2000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 7,
    impressions: Annotated[bool, typer.Option(help="Also what was shown, with propensities.")] = False,
) -> None:
    """Generate a shop whose truth is known; the same arguments give the same bytes."""
    from training.data.generate import generate as write_shop

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with told_errors(), Progress(*columns, console=complaints) as progress:
        tasks = {}

        def show(table: str, done: int, total: int) -> None:
            if table not in tasks:
                tasks[table] = progress.add_task(table, total=total)
            progress.update(tasks[table], completed=done, total=total)

        write_shop(out, items, shoppers, seed, show, impressions)
    _tell(out)


def export_events(
    out: Annotated[Path, typer.Option(help="New dataset directory.")],
    coldstart: Annotated[str, typer.Option(help="host:port of the process that keeps the log.")] = "127.0.0.1:7104",
    retriever: Annotated[str, typer.Option(help="host:port of a process that holds the catalogue.")] = "127.0.0.1:7102",
) -> None:
    """Export a running shop's catalogue, events and impressions as a dataset to train from."""
    from training.data.export_events import export

    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with told_errors(), Progress(*columns, console=complaints) as progress:
        tasks = {}

        def show(what: str, done: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=None)
            progress.update(tasks[what], completed=done)

        export(coldstart, retriever, out, show)
    _tell(out)


@app.command("validate")
def validate_command(path: Annotated[Path, typer.Argument(metavar="DIR", help="Dataset directory.")]) -> None:
    """Check every row and print what the log is like; exits with 1 where a row is bad."""
    from training.data.validate import validate

    with told_errors():
        report = validate(path)
    info = report.dataset.info
    console.print(f"[bold]{info.name}[/bold] {info.version}, {info.origin} ({info.licence})", highlight=False)
    counts = Table("table", "good rows", "in dataset.json")
    for table, count in report.counts.items():
        counts.add_row(table, f"{count:,}", f"{info.counts.get(table, 0):,}")
    console.print(counts)
    _print_dropped(info.dropped, "Left out when it was loaded")
    if report.bad:
        bad = Table("table", "what is wrong", "rows", "for example", title="Bad rows")
        for (table, reason), rows in sorted(report.bad.items()):
            bad.add_row(table, reason, f"{rows:,}", "\n".join(report.examples[table, reason]))
        console.print(bad)
    if report.effects is not None:
        _print_effects({info.name: asdict(report.effects)})
    raise typer.Exit(1 if report.bad else 0)


@app.command()
def effects(path: Annotated[Path, typer.Argument(metavar="DIR", help="Dataset directory.")]) -> None:
    """Measure the effect sizes of a dataset, beside those of the real logs where these are."""
    from training.data.canonical import open_dataset
    from training.data.effect_sizes import measure, real_logs

    with told_errors():
        dataset = open_dataset(path)
        root = real_data()
        logs = {dataset.info.name: dataset.events(), **(real_logs(root) if root else {})}
    _print_effects({name: asdict(measure(log)) for name, log in logs.items()})


def _tell(out: Path) -> None:
    from training.data.canonical import open_dataset

    info = open_dataset(out).info
    counts = ", ".join(f"{count:,} {table}" for table, count in info.counts.items())
    console.print(f"{out}: {info.name}, {counts}", highlight=False, markup=False)
    _print_dropped(info.dropped, "Left out")
    console.print(f"next: python -m training quality --data {out}", highlight=False, markup=False, soft_wrap=True)


def _print_dropped(dropped: dict[str, dict[str, int]], title: str) -> None:
    if dropped:
        table = Table("table", "reason", "rows", title=title)
        for name, reasons in dropped.items():
            for reason, rows in sorted(reasons.items(), key=lambda pair: -pair[1]):
                table.add_row(name, reason, f"{rows:,}")
        console.print(table)


def _print_effects(columns: dict[str, dict[str, float]]) -> None:
    table = Table("effect", *columns)
    for name in next(iter(columns.values())):
        values = [column[name] for column in columns.values()]
        table.add_row(name.replace("_", " "), *(_figure(value) for value in values))
    console.print(table)


def _figure(value: float) -> str:
    if value != value:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
