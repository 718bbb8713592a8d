"""`python -m training synthesize-pairs`: pairs to learn from, out of a shop's log."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from training.data.canonical import Dataset

console = Console()
PAIRS, CARD = "pairs.parquet", "card.json"


def synthesize_pairs(
    dataset: Annotated[Path, typer.Option(help="A canonical dataset with events; with impressions it says more.")],
    out: Annotated[Path, typer.Option(help=f"New directory for {PAIRS} and {CARD}.")],
    least: Annotated[float, typer.Option(help="How sure a pair must be.", min=0.5, max=0.9999)] = 0.6,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON and nothing else.")] = False,
) -> None:
    """Pairs of queries and items, and of items, from clicks, purchases and dwell, as `encoder finetune --pairs` reads.

    What stood high on a page is clicked for that alone: where the log has propensities, this is taken away.
    """
    from training.train_cli import refusals

    told = Console(stderr=True) if as_json else console
    with refusals():
        import pyarrow as pa
        from pyarrow import parquet

        from training.data.canonical import open_dataset
        from training.new_directory import new_directory

        if out.exists():
            raise FileExistsError(f"{out}: exists already; name a new directory with --out")
        data = open_dataset(dataset)
        data.require_events()
        with told.status("pairs"):
            rows, curve = _rows(data, least)
        if not rows:
            raise ValueError(f"{dataset}: no pair is as sure as --least {least:g}")
        sources = Counter((row["source"], row["grade"] > 0) for row in rows)
        card: dict[str, Any] = {
            "dataset": data.info.name,
            "least": least,
            # Of the places of a page, how much each is looked at; empty where the log does not tell.
            "looked_at": curve,
            "pairs": {source: sum(n for (of, _), n in sources.items() if of == source) for source, _ in sources},
            "not_wanted": sum(n for (_, wanted), n in sources.items() if not wanted),
        }
        with new_directory(out) as draft:
            table = pa.Table.from_pylist(rows)
            parquet.write_table(table, draft / PAIRS, compression="zstd")
            card["pairs_sha256"] = hashlib.sha256((draft / PAIRS).read_bytes()).hexdigest()
            (draft / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    if as_json:
        typer.echo(json.dumps(card, ensure_ascii=False))
        return
    shown = Table("source", "wanted", "not wanted", box=None)
    for source in card["pairs"]:
        shown.add_row(source, f"{sources[source, True]:,}", f"{sources[source, False]:,}")
    console.print(shown)
    if not curve:
        console.print("the log does not tell what was shown in an order drawn at random: no query, nothing corrected")
    console.print(
        f"next: python -m training encoder finetune --dataset {dataset} --pairs {out}/{PAIRS} --model MODEL --out NEW",
        soft_wrap=True,
        highlight=False,
    )


def _rows(data: "Dataset", least: float) -> tuple[list[dict[str, Any]], list[float]]:
    """The rows of the file, and how much each place of a page is looked at."""
    from souk.types.v1 import types_pb2
    from training.encoder.pairs import MAX_QUERY_CHARACTERS
    from training.labels.behaviour import (
        BASKET,
        SESSION,
        clicked_together,
        met_together,
        rows_of_items,
        rows_of_searches,
        searched,
        stayed,
    )
    from training.ranker.answers import read_answers
    from training.ranker.examination import Unrandomised, examination
    from training.ranker.log import read_log

    log = read_log(data, data.events(), seed=0)
    told = data.items().select("item_id", "title").drop_nulls()
    titles = {item: title.strip()[:MAX_QUERY_CHARACTERS] for item, title in told.iter_rows()}
    titles = {item: title for item, title in titles.items() if title}
    answers = read_answers(data, log, everybody=True) if log.has_time else None
    try:
        curve = None if answers is None else examination(answers)
    except Unrandomised:
        curve = None
    if answers is None or curve is None:
        sessions = met_together(log, (types_pb2.EVENT_TYPE_CLICK, types_pb2.EVENT_TYPE_VIEW))
        baskets = met_together(log, (types_pb2.EVENT_TYPE_PURCHASE,))
        rows = []
    else:
        sessions, baskets = clicked_together(answers, curve, 0), clicked_together(answers, curve, 2)
        found = searched(answers, curve)
        rows = [
            row
            for row in rows_of_searches(found, log.item_ids, stayed(data), least)
            if len(row["query"]) <= MAX_QUERY_CHARACTERS
        ]
    for counted, source in ((sessions, SESSION), (baskets, BASKET)):
        rows += rows_of_items(counted, source, log.item_ids, titles, least)
    return rows, [] if curve is None else [round(one, 4) for one in curve.tolist()]
