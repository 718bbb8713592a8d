"""`python -m training encoder queries`."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from training.train_cli import read_items, refusals


def queries(
    dataset: Annotated[Path, typer.Option(help="A canonical dataset.")],
    out: Annotated[Path, typer.Option(help="New file for the pairs, Parquet.")],
    per_item: Annotated[int, typer.Option(help="Queries for an item, at most.", min=1, max=50)] = 5,
    seed: Annotated[int, typer.Option(help="Of what is drawn.", min=0)] = 7,
) -> None:
    """Make queries from a shop's own text, for a shop that has no search log."""
    console = Console()
    with refusals():
        from training.data.canonical import open_dataset
        from training.encoder.pairs import write_pairs
        from training.encoder.queries.make import make_queries
        from training.encoder.queries.sessions import met_together

        if out.exists():
            raise FileExistsError(f"{out}: exists already; name a new file with --out")
        items = read_items(dataset)
        together = met_together(open_dataset(dataset))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("queries, items", total=len(items))
            made = make_queries(
                items, together, per_item, seed, lambda done, total: progress.update(task, completed=done, total=total)
            )
        if not made.pairs:
            raise ValueError(f"{dataset}: no item has words to ask for it with: title, brand, category and attributes")
        write_pairs(out, made.pairs)
    table = Table("source", "pairs")
    for source, count in sorted(Counter(pair.source for pair in made.pairs).items()):
        table.add_row(source, f"{count:,}")
    console.print(table)
    console.print(
        f"{len({pair.item_id for pair in made.pairs}):,} of {len(items):,} items, "
        f"{len({pair.query for pair in made.pairs}):,} different queries; {made.dropped:,} did not find back -> {out}",
        soft_wrap=True,
        highlight=False,
    )
    console.print(
        f"next: python -m training encoder finetune --dataset {dataset} --pairs {out} --out NEW_MODEL", soft_wrap=True
    )
