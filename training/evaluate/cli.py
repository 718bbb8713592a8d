"""`python -m training evaluate`: how good a running shop is."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from souk import SyncClient
from souk.dataset import read_judgements
from training.evaluate.metrics import by_query
from training.evaluate.search import evaluate, popular, summary

app = typer.Typer(help="How good a running shop is.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """How good a running shop is."""


@app.command("search")
def search(
    dataset: Annotated[Path, typer.Argument(help="A dataset with judgements, the one that the shop was filled with.")],
    shop: Annotated[str, typer.Option(envvar="SOUK_SHOP", help="host:port of the gateway.")] = "127.0.0.1:7100",
    limit: Annotated[int, typer.Option(help="At most so many queries of each kind; 0: all.", min=0)] = 0,
) -> None:
    """nDCG@10 of the search as it is served, queries in ASCII and others apart."""
    grades = by_query(read_judgements(dataset))
    table = Table("queries", "nDCG@10", "±", "condensed", "first ten judged", "popularity", box=None)
    with SyncClient(shop) as client:
        for name, chosen in (("latin", str.isascii), ("other", lambda query: not query.isascii())):
            group = {query: judged for query, judged in grades.items() if chosen(query)}
            if limit:
                group = dict(list(group.items())[:limit])
            if group:
                asked = track(evaluate(client, group), f"{name} queries", total=len(group))
                found = summary(list(asked))
                table.add_row(
                    f"{found.queries} {name}",
                    f"{found.as_zero:.3f}",
                    f"{found.interval:.3f}",
                    f"{found.condensed:.3f}",
                    f"{found.judged:.3f}",
                    f"{popular(client, group):.3f}",
                )
    Console().print(table)
