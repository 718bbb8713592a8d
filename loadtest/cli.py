"""The command line of load tests: `run` and `compare`."""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import grpc
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from loadtest.machine import machine
from loadtest.plan import SHIPPED, PlanError, read_plan
from loadtest.report import PHASE_HEADER, NoRun, Run, compare_rows, phase_rows, read_run, write_comparison, write_report
from loadtest.run import ClientDied, Recorder, clients
from loadtest.stack import serving
from loadtest.tally import Tally
from loadtest.traffic import read_pools
from loadtest.watch import Watch
from souk.dataset import DatasetError, find_table, read_judgements
from training.evaluate.metrics import by_query
from training.new_directory import new_directory

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Load tests of a running shop, and their reports.")
# As wide as its tables, also where the output is kept in a file.
console = Console(width=100)

# A client that is later than this measures itself.
_MOST_LAG_MS = 20.0


@app.command()
def run(
    dataset: Annotated[
        Path, typer.Option(help="Directory of the dataset that the shop serves: calls are drawn of it.")
    ],
    gateway: Annotated[str, typer.Option(help="host:port of a running gateway.")] = "127.0.0.1:7100",
    home: Annotated[Path, typer.Option(help="Home of the stack, whose processes are watched if they run here.")] = Path(
        ".souk"
    ),
    serve: Annotated[
        Path | None, typer.Option(help="A bundle: runs a stack of its own in HOME, filled with the dataset once.")
    ] = None,
    plan: Annotated[Path, typer.Option(help="TOML of traffic and phases.")] = SHIPPED,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Client processes.")] = 1,
    seed: Annotated[int, typer.Option(help="Of arrivals and of what is asked.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="New directory of the report; reports/load-TIME if not given.")
    ] = None,
) -> None:
    """Runs the phases of a plan and writes report.json, report.png and report.html."""
    now = datetime.now(UTC)
    out = out or Path(f"reports/load-{now:%Y%m%d-%H%M%S}")
    if out.exists():
        _refuse(f"--out: {out} is there already; name a new directory")
    try:
        chosen = read_plan(plan)
        pools = read_pools(dataset)
        grades = by_query(read_judgements(dataset)) if find_table(dataset, "judgements") else {}
    except (PlanError, DatasetError) as error:
        _refuse(str(error))
    with ExitStack() as opened:
        if serve:
            opened.enter_context(serving(serve, home, gateway, dataset, console))
        _reach(gateway)
        senders = opened.enter_context(clients(gateway, pools, chosen, seed, processes))
        try:
            watch = Watch(home, senders.pids)
        except FileNotFoundError:
            watch = None
            console.print(f"no stack runs in {home}: its processes and caches are not watched", highlight=False)
        columns = (TextColumn("{task.description:24}"), BarColumn(20), TextColumn("{task.fields[seen]}"))
        with Progress(*columns, console=console) as progress:
            tasks = {}

            def tell(name: str, done: float, tally: Tally) -> None:
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=1, seen="")
                times = tally.all_latency().to_json()
                lost = tally.failed.total() + tally.unsent.total()
                seen = f"{tally.answered.total()} answers" + (
                    f", p50 {times['p50']:.0f}, p99 {times['p99']:.0f} ms" if times["count"] else ""
                )
                progress.update(tasks[name], completed=done, seen=seen + f", {lost} lost" * bool(lost))

            recorder = Recorder(senders, watch, tell)
            try:
                recorder.run(chosen.phases)
            except ClientDied as error:
                _refuse(str(error))
    found: Run = {
        "made": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "gateway": gateway,
        "dataset": dataset.resolve().name,
        "seed": seed,
        "clients": processes,
        "plan": chosen.model_dump(),
        "phases": [result.to_json(grades) for result in recorder.results],
        "knees": recorder.knees,
        "seconds": recorder.seconds,
    }
    with new_directory(out) as draft:
        write_report(draft, found)
    _print("ms from when a call was due", PHASE_HEADER, phase_rows(found))
    for knee in recorder.knees:
        console.print(f"knee of {knee['phase']}: {knee['rate']:g} calls/s ({knee['why']})", highlight=False)
    lags = [phase["client_lag"].get("p99", 0.0) for phase in found["phases"] if phase["kind"] == "steady"]
    if max(lags, default=0.0) > _MOST_LAG_MS:
        console.print(
            f"[yellow]the client was late by p99 {max(lags):.0f} ms: more --processes, or more cores[/yellow]"
        )
    console.print(f"next: open {out}/report.html, or python -m loadtest compare {out} ANOTHER", highlight=False)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Directory of a report.")],
    second: Annotated[Path, typer.Argument(help="Directory of another.")],
    out: Annotated[Path | None, typer.Option(help="New directory of the page; none is written if not given.")] = None,
) -> None:
    """Shows two load tests side by side, phase by phase, with the ratio of the second to the first."""
    if out and out.exists():
        _refuse(f"--out: {out} is there already; name a new directory")
    try:
        one, other = read_run(first), read_run(second)
    except NoRun as error:
        _refuse(str(error))
    names = (first.name, second.name)
    rows = compare_rows(one, other)
    if not rows:
        _refuse(f"{first} and {second} have no phase of the same name")
    _print(f"{names[1]} / {names[0]}", ["measure", "first", "second", "ratio"], rows)
    if one["plan"] != other["plan"] or one["machine"] != other["machine"] or one["dataset"] != other["dataset"]:
        console.print("[yellow]plan, dataset or machine differ: the ratios say little[/yellow]")
    if out:
        with new_directory(out) as draft:
            write_comparison(draft, one, other, names)
        console.print(f"next: open {out}/compare.html", highlight=False)
    else:
        console.print("next: the same with --out DIRECTORY for a page with a picture", highlight=False)


def _reach(gateway: str) -> None:
    with grpc.insecure_channel(gateway) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=5)
        except grpc.FutureTimeoutError:
            _refuse(f"--gateway: nothing answers at {gateway}; `python -m services` runs a stack, --serve BUNDLE, too")


def _print(title: str, header: list[str], rows: list[list[str]]) -> None:
    shown = Table(title=title, box=None, padding=(0, 1, 0, 0))
    for name in header:
        shown.add_column(name, justify="left" if name == header[0] else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


def _refuse(message: str) -> NoReturn:
    console.print(message, style="red", markup=False, soft_wrap=True)
    raise typer.Exit(1)
