"""`python -m training evaluate policy`: off-policy evaluation on the command line."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def policy(
    data: Annotated[Path, typer.Option(help="A canonical dataset with impressions.")],
    bundle: Annotated[Path | None, typer.Option(help="Also its ranker's order; needs --since.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only answers from then on, UTC.", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])
    ] = None,
    slots: Annotated[int | None, typer.Option(help="What if so many places explored new items?")] = None,
    cache: Annotated[Path, typer.Option(help="Where content vectors are kept.")] = Path(".souk/content"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON and nothing else.")] = False,
) -> None:
    """What other orders would have earned, told from what was shown with known propensities (off-policy evaluation)."""
    # Imported here: torch takes seconds, and --help should not.
    from training.policy.evaluate import evaluate_policy
    from training.policy.show import show
    from training.train_cli import refusals

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with refusals(), Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what)
            progress.update(tasks[what], completed=done, total=total)

        moment = since.replace(tzinfo=UTC) if since is not None else None
        report = evaluate_policy(data, bundle, cache, moment, slots, told)
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=1))
        return
    console = Console()
    show(report, console)
    if bundle is None:
        console.print(f"next: python -m training evaluate policy --data {data} --bundle BUNDLE --since DAY")
