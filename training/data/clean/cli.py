"""`python -m training clean`: cleaning by rules on the command line."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from training.data.clean.account import UNREADABLE, Account
from training.data.clean.split import Split
from training.data.cli import complaints, console, told_errors

# A cell of the table: its lines together must fit 100 columns.
_EXAMPLE = 44


def clean(
    source: Annotated[Path, typer.Option(help="A dataset directory, a directory of raw files, or one file of events.")],
    rules: Annotated[str, typer.Option(help="A file of rules, or one that is shipped: canonical, online_retail_ii.")],
    out: Annotated[Path, typer.Option(help="New dataset directory.")],
    split: Annotated[
        Split | None, typer.Option(help="Three datasets below it that know nothing of each other.")
    ] = None,
    share: Annotated[
        float,
        typer.Option(help="With --split: of the events or shoppers, for validation and for test.", min=0, max=0.4),
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="With --split shopper: of the draw.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print the account as JSON and nothing else.")] = False,
) -> None:
    """Clean raw or canonical data by declared rules; says where every row went.

    Killed and run again with the same arguments it goes on where it was.
    """
    # Imported here: polars takes a while, and --help should not.
    from training.data.clean.pipeline import clean as run
    from training.data.clean.rules import read_rules

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with told_errors(), Progress(*columns, console=complaints) as progress:
        tasks: dict[str, TaskID] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what)
            progress.update(tasks[what], completed=done, total=total)

        accounts = run(source, read_rules(rules), out, told, split, share, seed)
    if as_json:
        typer.echo(json.dumps({table: account.to_json() for table, account in accounts.items()}, ensure_ascii=False))
        return
    for name, account in accounts.items():
        _print(name, account)
    into = out if split is None else out / "train"
    console.print(f"examples of each: {out}/cleaning.json", highlight=False, markup=False, soft_wrap=True)
    if empty := [name for name, account in accounts.items() if account.rows_in and not account.kept]:
        complaints.print(f"no row of {', '.join(empty)} was kept", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1)
    against = "" if split is None else f" --against {out}/test"
    console.print(f"next: python -m training quality --data {into}{against}", highlight=False, soft_wrap=True)


def _print(name: str, account: Account) -> None:
    kept = f"{account.kept / account.rows_in:.1%}" if account.rows_in else "-"
    title = f"{name}: {account.rows_in:,} rows, {account.kept:,} kept ({kept})"
    table = Table("", "rule", "rows", Column("first", no_wrap=True), title=title, title_justify="left")
    for what, counts in (("dropped", account.dropped), ("mended", account.mended)):
        for rule, rows in sorted(counts.items(), key=lambda pair: -pair[1]):
            # A value that could not be read is lost, whoever counts it as a mended row.
            kind = "emptied" if rule.startswith(UNREADABLE) else what
            table.add_row(kind, rule, f"{rows:,}", _first(account, rule, what))
    if table.row_count:
        console.print(table, highlight=False, markup=False)
    else:
        console.print(title, highlight=False, markup=False)
    if account.skipped:
        rules = ", ".join(account.skipped)
        console.print(f"not followed, the source lacks what they need: {rules}", highlight=False, markup=False)


def _first(account: Account, rule: str, what: str) -> str:
    """The first example in a few characters."""
    for example in account.examples.get(rule, []):
        if ("before" in example) == (what == "mended"):
            if what == "mended":
                name, old = next(iter(example["before"].items()))
                return f"{old!r} -> {example['after'][name]!r}"[:_EXAMPLE]
            return ", ".join(str(value) for name, value in example.items() if name not in ("row", "type"))[:_EXAMPLE]
    return ""
