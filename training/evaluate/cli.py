"""`python -m training evaluate`: how good search, ranking and the cold start are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from training.evaluate.metrics import RULES
from training.fairness.cli import fairness
from training.policy.cli import policy

app = typer.Typer(help="How good search, ranking and the cold start are.", no_args_is_help=True)
app.command()(policy)
app.command()(fairness)


@app.callback()
def _group() -> None:
    """How good search, ranking and the cold start are."""


@contextmanager
def _runs() -> Iterator[tuple[Callable[[str], None], Callable[[int, int], None]]]:
    """A bar on stderr: what takes a line above it, and what takes how many runs of all are done."""
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*bars, console=Console(stderr=True)) as progress:
        task = progress.add_task("runs", total=None)
        yield (
            lambda what: progress.console.print(what, highlight=False, soft_wrap=True),
            lambda done, total: progress.update(task, completed=done, total=total),
        )


@app.command("search")
def search(
    data: Annotated[Path | None, typer.Option(help="A canonical dataset with judgements.")] = None,
    products: Annotated[Path | None, typer.Option(help="Instead of --data: products in CSV, JSONL or Parquet.")] = None,
    judgements: Annotated[
        Path | None, typer.Option(help="CSV or JSONL: query, item_id, grade (0: not relevant).")
    ] = None,
    bundle: Annotated[Path, typer.Option(help="The bundle to serve.")] = Path(".souk/bundle"),
    out: Annotated[Path | None, typer.Option(help="Where the report goes. Default: beside the catalogue.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON and nothing else.")] = False,
) -> None:
    """Search as it is served, against words alone, on judged queries.

    Runs the real processes on a catalogue of their own under .souk/evaluate. It is kept for the next time; killed and
    run again, the command goes on where it was.
    """
    # Imported here: matplotlib takes a second, and --help should not.
    from training.evaluate.judged import Judged, read_dataset, read_files
    from training.evaluate.report import write_report
    from training.evaluate.search import measure_search
    from training.evaluate.stack import Stack
    from training.train_cli import refusals

    def read() -> Judged:
        if data is not None and products is None and judgements is None:
            return read_dataset(data)
        if data is None and products is not None and judgements is not None:
            return read_files(products, judgements)
        raise ValueError("give --data, or --products and --judgements")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with refusals():
        judged = read()
        if judged.unread:
            told = f"not read of the products: {', '.join(judged.unread)} (docs/data.md has the columns that are)"
            Console(stderr=True).print(told, highlight=False, soft_wrap=True)
        with Stack(judged.items, bundle) as stack, Progress(*columns, console=Console(stderr=True)) as progress:
            stack.fill(progress)
            task = progress.add_task("queries", total=len(judged.grades))
            measures = measure_search(stack.client, judged.grades, lambda: progress.advance(task))
        facts: dict[str, Any] = {
            "data": judged.name,
            "items": len(judged.items),
            "queries_without_relevant_item": judged.without_relevant,
            "generation": stack.bundle.generation,
            "space_version": stack.bundle.manifest.encoder.space_version,
            "degraded": dict(measures.degraded),
        }
        out = out or stack.home / "report"
        write_report(out, f"Search on {judged.name}", facts, measures)
    if as_json:
        typer.echo((out / "report.json").read_text(), nl=False)
        return
    console = Console()
    groups = {"": measures} | {f", {script}": part for script, part in measures.by_script().items()}
    table = Table("", *measures.systems, box=None)
    for name in next(iter(measures.systems.values())):
        # Of queries in one script alone all are that group.
        for group, part in groups.items() if len(groups) > 2 else [("", measures)]:
            means = (values[name].mean() for values in part.systems.values())
            table.add_row(f"{name}{group}", *(f"{mean:.3f}" for mean in means))
    console.print(table)
    for rule in RULES:
        gain = measures.gain(f"ndcg@10_{rule}")
        console.print(
            f"hybrid over bm25, nDCG@10 {rule}: {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}), "
            f"p = {gain.p_value:.4f}",
            highlight=False,
        )
    found = f"{len(judged.grades)} queries, {judged.without_relevant} without a relevant item left out -> {out}"
    console.print(found, highlight=False, soft_wrap=True)
    command = f"python -m training tune search --data {data or 'DATASET'} --bundle {bundle} --out search.json"
    console.print(f"next: {command}", highlight=False, soft_wrap=True)


@app.command("ranker")
def ranker(
    # The other commands of `evaluate` say --data, `train ranker` says --dataset: nobody should have to remember which.
    dataset: Annotated[Path, typer.Option("--dataset", "--data", help="A canonical dataset with events.")],
    bundle: Annotated[Path, typer.Option(help="A bundle, or what `encoder export` wrote: the encoder.")],
    protocol: Annotated[
        str | None, typer.Option(help="time or leave-one-out. Default: time, where the events have it.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="What one training may take.")] = 3.0,
    trials: Annotated[int, typer.Option(help="Settings that each system may try on the validation, 1 to 4.")] = 4,
    seeds: Annotated[int, typer.Option(help="Trainings with the settings found best.", min=1)] = 3,
    shoppers: Annotated[int, typer.Option(help="At most so many, drawn by seed, in validation and test.")] = 2000,
    cache: Annotated[Path, typer.Option(help="Where content vectors are kept.")] = Path(".souk/content"),
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path(".souk/evaluate/ranker"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON and nothing else.")] = False,
) -> None:
    """The ranker among all items beside popularity, item-kNN and SASRec, all tuned equally often.

    What is finished is kept beside the report until all is: killed and run again, the command goes on where it was.
    """
    # Imported here: torch and matplotlib take seconds, and --help should not.
    from training.evaluate.ranker import evaluate_ranker
    from training.evaluate.ranker_report import COLUMNS, write_report
    from training.evaluate.results import CALIBRATION
    from training.ranker.config import RankerConfig
    from training.train_cli import refusals

    with refusals(), _runs() as (told, done):
        report = evaluate_ranker(
            dataset,
            bundle,
            cache,
            out.parent / f".{out.name}.runs",
            protocol,
            RankerConfig(minutes=minutes),
            seeds,
            trials,
            shoppers,
            told,
            done,
        )
        write_report(out, report)
    if as_json:
        typer.echo((out / "report.json").read_text(), nl=False)
        return
    console = Console()
    table = Table("", *(one.name for one in report.results), box=None)
    for name in COLUMNS:
        table.add_row(name, *(f"{one.spread(name)[0]:.4f}" for one in report.results))
    console.print(table)
    for baseline, gains in report.gains.items():
        for name, gain in gains.items():
            console.print(
                f"ranker over {baseline}, {name}: {gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}), "
                f"p = {gain.p_value:.4f}",
                highlight=False,
            )
    for objective, head in report.results[-1].calibration.items():
        error, mean, rate = (head[kind][0] for kind in CALIBRATION)
        console.print(f"head of {objective}: ECE {error:.4f}, mean told {mean:.4f}, met {rate:.4f}", highlight=False)
    found = f"{report.facts['shoppers_test']} shoppers; all measures, the spread between seeds and a picture -> {out}"
    console.print(found, highlight=False, soft_wrap=True)
    command = f"python -m training train ranker --dataset {dataset} --bundle {bundle} --out NEW"
    console.print(f"next: {command}", highlight=False, soft_wrap=True)


@app.command("coldstart")
def coldstart(
    data: Annotated[Path, typer.Option(help="A canonical dataset with events.")],
    bundle: Annotated[Path, typer.Option(help="A bundle, or what `encoder export` wrote: the encoder.")] = Path(
        ".souk/bundle"
    ),
    trials: Annotated[int, typer.Option(help="Settings that each system may try on the validation, 1 to 4.")] = 4,
    seeds: Annotated[int, typer.Option(help="How many; each holds out another fifth, five all of them.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="The first of them.", min=0)] = 7,
    shoppers: Annotated[int, typer.Option(help="Moments of so many shoppers at most are asked about.", min=2)] = 600,
    minutes: Annotated[float, typer.Option(help="For missing content vectors; items left over have none.")] = 5.0,
    cache: Annotated[Path, typer.Option(help="Where content vectors are kept.")] = Path(".souk/content"),
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path(".souk/evaluate/coldstart"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON and nothing else.")] = False,
) -> None:
    """Items and shoppers nobody knows: the cold start's strategies beside four baselines, all tuned equally often.

    What is finished is kept beside the report until all is: killed and run again, the command goes on where it was.
    """
    # Imported here: torch and matplotlib take seconds, and --help should not.
    from training.evaluate.coldstart import REVEALED, SYSTEMS, evaluate_coldstart
    from training.evaluate.coldstart_report import to_json, write_report
    from training.train_cli import refusals

    with refusals(), _runs() as (told, done):
        results = evaluate_coldstart(
            data,
            bundle,
            cache,
            out.parent / f".{out.name}.runs",
            range(seed, seed + seeds),
            trials,
            shoppers,
            minutes,
            told,
            done,
        )
        write_report(out, results)
    if as_json:
        typer.echo((out / "report.json").read_text(), nl=False)
        return
    console = Console()
    numbers = to_json(results)
    columns = ("recall@10_cold", "recall@10_warm", "harmonic", "cold_share")
    items = Table("unknown items", *columns, box=None)
    for name in SYSTEMS:
        items.add_row(name, *(f"{numbers['items'][name][column]:.4f}" for column in columns))
    console.print(items)
    console.print(
        f"share of events of the items held out {numbers['items']['share_of_events']:.3f}; souk's warm recall loses "
        f"{numbers['items']['warm_loss']:.1%} by showing unknown items",
        highlight=False,
    )
    revealed = Table("NDCG@10, events revealed:", *REVEALED, box=None)
    for name in SYSTEMS:
        revealed.add_row(name, *(f"{numbers['shoppers'][key][name]['ndcg@10']:.4f}" for key in REVEALED))
    console.print(revealed)
    console.print(f"all measures, the spread between seeds and a picture -> {out}", highlight=False, soft_wrap=True)
    command = f"python -m training train coldstart --dataset {data} --bundle {bundle} --out NEW"
    console.print(f"next: {command}", highlight=False, soft_wrap=True)


@app.command("bandit")
def bandit(
    seeds: Annotated[int, typer.Option(help="How many generated shops.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="The first of them.", min=0)] = 61,
    impressions: Annotated[int, typer.Option(help="Of the place, on each shop; 100 or more.")] = 10_000,
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path(".souk/evaluate/bandit"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON and nothing else.")] = False,
) -> None:
    """The place for new items, as served, beside epsilon-greedy, LinUCB and pure exploitation, all tuned as often."""
    from training.evaluate.bandit import SYSTEMS, evaluate_bandit
    from training.evaluate.bandit_report import to_json, write_report
    from training.train_cli import refusals

    chosen = list(range(seed, seed + seeds))
    with refusals(), _runs() as (told, done):
        results = evaluate_bandit(chosen, impressions, told, done)
        write_report(out, results, chosen)
    if as_json:
        typer.echo((out / "report.json").read_text(), nl=False)
        return
    console = Console()
    numbers = to_json(results, chosen)
    lost = Table(f"{impressions:,} impressions, {seeds} shops", "regret, clicks", "until a good item is HOT", box=None)
    for name in SYSTEMS:
        one = numbers["systems"][name]
        lost.add_row(name, f"{one['regret']:.0f}", f"{one['until_hot']:.0f} impressions")
    console.print(lost)
    console.print(f"spread between seeds and a picture -> {out}", highlight=False, soft_wrap=True)
    console.print("next: python -m training evaluate policy, for orders and slots on a log", highlight=False)
