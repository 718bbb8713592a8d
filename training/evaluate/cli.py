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


@app.command("ranking")
def ranking(
    dataset: Annotated[Path, typer.Option(help="A canonical dataset with events.")],
    bundle: Annotated[Path, typer.Option(help="A bundle, or what `encoder export` wrote: the encoder.")],
    minutes: Annotated[float, typer.Option(help="What one training of the ranker may take.")] = 3.0,
    seeds: Annotated[int, typer.Option(help="Trainings of the ranker with the settings found best.", min=1)] = 3,
    shoppers: Annotated[int, typer.Option(help="At most so many, drawn by seed, in validation and test.")] = 2000,
    cache: Annotated[Path, typer.Option(help="Where content vectors are kept.")] = Path(".souk/content"),
) -> None:
    """The next basket of each shopper among all items: popularity, item-kNN and the ranker, tuned equally often."""
    # Imported here: torch takes seconds, and --help should not.
    from training.evaluate.ranking import evaluate_dataset, figure
    from training.train_cli import refusals

    console = Console()
    with refusals():
        report = evaluate_dataset(
            dataset, bundle, cache, minutes, seeds, shoppers, lambda what: console.print(what, highlight=False)
        )
    table = Table("system", "HR@10", "NDCG@10", "recall@10", "chosen of its trials", "time", title=report.protocol)
    for one in report.results:
        cells = [figure(one, name) for name in ("hr", "ndcg", "recall")]
        table.add_row(one.name, *cells, one.chosen, f"{one.seconds:.0f} s")
    console.print(table)
    console.print(f"next: python -m training train ranker --dataset {dataset} --bundle {bundle} --out NEW")
