"""`python -m training evaluate fairness` on the command line."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


def fairness(
    data: Annotated[Path, typer.Option(help="A canonical dataset with events, most items with a brand or a supplier.")],
    bundle: Annotated[
        Path | None, typer.Option(help="The encoder of a ranker to train. Without: item-kNN and popularity.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="What one training may take; there are two a seed.")] = 3.0,
    config: Annotated[Path | None, typer.Option(help="TOML with settings of the ranker (supplier_weight).")] = None,
    seeds: Annotated[int, typer.Option(help="How many.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="The first of them.", min=0)] = 7,
    shoppers: Annotated[
        int, typer.Option(help="At most so many, drawn by seed, in validation and test.", min=2)
    ] = 2000,
    cache: Annotated[Path, typer.Option(help="Where content vectors are kept.")] = Path(".souk/content"),
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path(".souk/evaluate/fairness"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON and nothing else.")] = False,
) -> None:
    """Who is shown and who is served well, and what it costs to share exposure out among suppliers.

    Candidates are kept beside the report until all is done: killed and run again, the command goes on where it was.
    """
    # Imported here: torch and matplotlib take seconds, and --help should not.
    from training.fairness.evaluate import evaluate_fairness
    from training.fairness.report import percent, write_report
    from training.ranker.config import read_config
    from training.train_cli import refusals

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with refusals(), Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("candidates", total=2 * seeds)
        facts, tested = evaluate_fairness(
            data,
            bundle,
            cache,
            out.parent / f".{out.name}.runs",
            read_config(config, minutes=minutes, seed=seed),
            seeds,
            shoppers,
            lambda what: progress.console.print(what, highlight=False, soft_wrap=True),
            lambda done, total: progress.update(task, completed=done, total=total),
        )
        write_report(out, facts, tested)
    if as_json:
        typer.echo((out / "report.json").read_text(), nl=False)
        return
    console = Console()
    for one in tested:
        table = Table(f"test, seed {one.seed}", "Gini", "change", "NDCG@10", "change", "worst group", box=None)
        for name, system in one.systems.items():
            group = min(system.change, key=lambda key: system.change[key].mean)
            worst = f"{group} {percent(system.change[group].mean)}"
            all_of = system.change["all"].mean
            row = (f"{system.gini:.3f}", percent(system.gini_change[0]), f"{system.ndcg['all']:.4f}", percent(all_of))
            table.add_row(name, *row, worst)
        console.print(table)
        console.print("the goal is reached" if one.reached else "the goal is not reached", highlight=False)
    found = f"{facts['suppliers']} suppliers by {facts['suppliers_told_by']}; groups, intervals and a picture -> {out}"
    console.print(found, highlight=False, soft_wrap=True)
    console.print("next: SOUK_RANKER_SUPPLIER_SHARE limits a list (docs/recommend.md); what else: docs/fairness.md")
