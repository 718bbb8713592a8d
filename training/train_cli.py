"""`python -m training train`: the ranker and the topics on the command line."""

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

app = typer.Typer(help="Models of a shop's log.", no_args_is_help=True)
console = Console()

_DATASET = typer.Option(help="A canonical dataset.")
_BUNDLE = typer.Option(help="A bundle, or what `encoder export` wrote: the encoder of the content space.")
_CACHE = typer.Option(help="Where content vectors are kept.")


@app.callback()
def train() -> None:
    """Models of a shop's log."""


@app.command("ranker")
def ranker_command(
    dataset: Annotated[Path, _DATASET],
    bundle: Annotated[Path, _BUNDLE],
    out: Annotated[Path, typer.Option(help="New directory for the ranker.")],
    config: Annotated[Path | None, typer.Option(help="TOML with settings of training.ranker.config.")] = None,
    minutes: Annotated[float | None, typer.Option(help="The whole training takes no longer.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the weights, the samples and the numbering.")] = None,
    cache: Annotated[Path, _CACHE] = Path(".souk/content"),
) -> None:
    """Train the ranker on a log. Killed and run again with the same arguments it goes on where it was."""
    started = time.monotonic()
    with refusals():
        from training.content import Encoder
        from training.data.canonical import open_dataset
        from training.ranker.answers import read_answers
        from training.ranker.config import read_config
        from training.ranker.export import export_ranker
        from training.ranker.log import read_log
        from training.ranker.pipeline import CONTENT, Shop, fit_ranker, working_seconds

        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        if out.exists():
            raise FileExistsError(f"{out}: exists already; name a new directory with --out")
        settings = read_config(config, minutes=minutes, seed=seed)
        encoder = Encoder.open(bundle)
        data = open_dataset(dataset)
        checkpoints = out.parent / f".{out.name}.checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        with _progress() as progress:
            log = read_log(data, data.events(), settings.seed)
            told = _Task(progress, "content vectors")
            until = started + CONTENT * working_seconds(settings)
            answers = read_answers(data, log) if log.has_time else None
            shop = Shop.of(log, read_items(dataset), encoder, cache, told, until, answers)
            epochs = _Task(progress, "Transformer, epochs")
            fitted = fit_ranker(
                shop,
                settings,
                started,
                checkpoints,
                lambda what: progress.console.print(f"{time.monotonic() - started:5.0f} s  {what}", highlight=False),
                lambda epoch: epochs.epoch(epoch, settings.epochs),
            )
            progress.console.print(f"{time.monotonic() - started:5.0f} s  ONNX and its gates", highlight=False)
            card = export_ranker(
                fitted.trained, fitted.heads, log.item_ids, encoder.manifest.space_version, fitted.metrics, out
            )
        shutil.rmtree(checkpoints)
    _tell_metrics(card.metrics)
    console.print(
        f"{len(fitted.trained.known):,} items known, behaviour space {card.manifest.space_version[:12]}, "
        f"{time.monotonic() - started:.0f} s -> {out}",
        soft_wrap=True,
        highlight=False,
    )
    console.print(f"next: python -m training bundle --encoder {bundle} --ranker {out} --out NEW_BUNDLE", soft_wrap=True)


@app.command("coldstart")
def coldstart_command(
    dataset: Annotated[Path, _DATASET],
    bundle: Annotated[Path, _BUNDLE],
    out: Annotated[Path, typer.Option(help="New directory for the topics.")],
    topics: Annotated[int | None, typer.Option(help="How many. Default: 32 to 64 by the catalogue.", min=2)] = None,
    minutes: Annotated[float, typer.Option(help="Items that it cannot embed in that time are left out.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Of the clusters.")] = 7,
    cache: Annotated[Path, _CACHE] = Path(".souk/content"),
) -> None:
    """Find the topics of a catalogue and the softmax that tells them from a content vector."""
    started = time.monotonic()
    with refusals():
        import numpy as np

        from training.coldstart.train import train_coldstart
        from training.content import Encoder

        if out.exists():
            raise FileExistsError(f"{out}: exists already; name a new directory with --out")
        encoder = Encoder.open(bundle)
        items = read_items(dataset)
        with _progress() as progress:
            # In any order, so that those it has time for are of all kinds.
            order = np.random.default_rng(seed).permutation(len(items))
            items = [items[row] for row in order.tolist()]
            content = encoder.items(items, cache, _Task(progress, "content vectors"), started + 48 * minutes)
        with console.status("topics"):
            card = train_coldstart(items, content, encoder.manifest.space_version, out, topics, seed)
    _tell_metrics(card.metrics)
    console.print("; ".join(card.manifest.labels), highlight=False)
    console.print(f"topic space {card.manifest.space_version[:12]} -> {out}", soft_wrap=True, highlight=False)
    console.print(
        f"next: python -m training bundle --encoder {bundle} --coldstart {out} --out NEW_BUNDLE", soft_wrap=True
    )


@app.command("borrow")
def borrow_command(
    dataset: Annotated[Path, _DATASET],
    bundle: Annotated[Path, _BUNDLE],
    retriever: Annotated[str, typer.Option(help="host:port of a retriever that holds the same items.")] = (
        "127.0.0.1:7102"
    ),
    cache: Annotated[Path, _CACHE] = Path(".souk/content"),
) -> None:
    """Take the content vectors that a running shop has made already, so that training need not make them again."""
    with refusals():
        from souk import SyncClient
        from training.content import Encoder

        encoder = Encoder.open(bundle)
        items = read_items(dataset)
        with _progress() as progress, SyncClient(retriever=retriever) as shop:
            count = encoder.borrow(items, shop, cache, _Task(progress, "content vectors"))
    console.print(f"{count:,} of {len(items):,} items have a vector -> {cache}", soft_wrap=True, highlight=False)
    console.print(
        f"next: python -m training train ranker --dataset {dataset} --bundle {bundle} --out NEW", soft_wrap=True
    )


@contextmanager
def refusals() -> Iterator[None]:
    """What the user can mend is told in one line and exits with 1."""
    from services.domain.bundle import BundleError
    from training.encoder.card import ExportError

    try:
        yield
    except (BundleError, ExportError, ValueError, OSError) as error:
        console.print("[red]refused:[/red]", end=" ")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def read_items(dataset: Path) -> list[Any]:
    """All items of a dataset, in file order."""
    from souk.dataset import read_items as rows

    return list(rows(dataset))


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


class _Task:
    """One bar, there from the first time it is told of."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=None)
        self._name = name

    def __call__(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)

    def epoch(self, epoch: Any, total: int) -> None:
        ndcg = f", NDCG@10 {epoch.ndcg:.4f}" if epoch.ndcg == epoch.ndcg else ""
        mark = ", the best so far" if ndcg and epoch.best else ""
        self._progress.console.print(
            f"   {epoch.seconds:5.0f} s  epoch {epoch.number}: loss {epoch.loss:.3f}{ndcg}{mark}",
            highlight=False,
        )
        self(epoch.number, total)


def _tell_metrics(metrics: dict[str, float]) -> None:
    table = Table("metric", "value")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4g}" if value < 0.99 else f"{value:.6g}")
    console.print(table)
