"""`python -m training tune`: settings chosen on judged queries."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

app = typer.Typer(help="Settings chosen on judged queries.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Settings chosen on judged queries."""


@app.command("search")
def search(
    data: Annotated[Path, typer.Option(help="A canonical dataset with judgements.")],
    out: Annotated[Path, typer.Option(help="New file for `bundle --search`; what it was chosen by goes beside it.")],
    bundle: Annotated[Path, typer.Option(help="The bundle whose search to tune.")] = Path(".souk/bundle"),
    trials: Annotated[int, typer.Option(help="Of words alone, and as many of words with vectors.", min=1)] = 100,
    seed: Annotated[int, typer.Option(help="Of the trials.")] = 7,
) -> None:
    """Choose how searches are scored: BM25F, its share and the fusion, by cross-validation over the queries.

    Runs the real processes on a catalogue of their own under .souk/evaluate, which is kept for the next time. Killed
    and run again with the same arguments it goes on at the query where it was.
    """
    from training.evaluate.judged import read_dataset
    from training.evaluate.metrics import RULES
    from training.evaluate.stack import Stack
    from training.train_cli import refusals
    from training.tune.kept import Kept
    from training.tune.search import tune_search
    from training.tune.trials import draw_bm25f, draw_trials

    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with refusals():
        if out.exists():
            raise FileExistsError(f"{out}: exists already; name a new file with --out")
        judged = read_dataset(data)
        bm25f, ways = draw_bm25f(trials, seed), draw_trials(trials, seed)
        stack = Stack(judged.items, bundle)
        # The name of its home tells which items there are.
        made_of = [stack.bundle.generation, stack.home.name, judged.grades]
        drawn = [[asdict(one) for one in bm25f], [asdict(one) for one in ways]]
        kept = Kept(out.with_name(f".{out.name}.queries.jsonl"), [*made_of, *drawn])
        with stack, Progress(*columns, console=Console(stderr=True)) as progress:
            stack.fill(progress)
            task = progress.add_task("searches", total=trials * len(judged.grades))
            ids = [item.id for item in judged.items]
            told = partial(progress.advance, task)
            tuned = tune_search(stack.client, ids, judged.grades, bm25f, ways, kept, told)
        chosen_by = out.with_suffix(".cv.json")
        said = {"data": judged.name, "generation": stack.bundle.generation, "seed": seed, **tuned.to_json()}
        chosen_by.write_text(json.dumps(said, indent=1) + "\n")
        out.write_text(json.dumps(asdict(tuned.manifest), indent=1) + "\n")
        kept.remove()
    table = Table("nDCG@10", *RULES, box=None)
    for name, chosen in (("bm25", tuned.bm25), ("hybrid", tuned.hybrid)):
        table.add_row(f"{name}, chosen on other folds", *(f"{mean:.3f}" for mean in chosen.reached.mean(axis=0)))
        table.add_row(f"{name}, defaults", *(f"{mean:.3f}" for mean in chosen.defaults.mean(axis=0)))
    console.print(table)
    for rule in RULES:
        console.print(f"hybrid over bm25, {rule}: p = {said[f'p_value_{rule}']:.4f}", highlight=False)
    console.print(f"{tuned.manifest} -> {out}", highlight=False, soft_wrap=True)
    console.print(f"next: python -m training bundle --encoder {bundle} --search {out} --out NEW_BUNDLE", soft_wrap=True)
