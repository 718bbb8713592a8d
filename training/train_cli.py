"""`python -m training train`: the ranker and the topics on the command line."""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from training.runs.registry import record

app = typer.Typer(help="Models of a shop's log.", no_args_is_help=True)
console = Console()

_DATASET = typer.Option(help="A canonical dataset.")
_BUNDLE = typer.Option(help="A bundle, or what `encoder export` wrote: the encoder of the content space.")
_CACHE = typer.Option(help="Where content vectors are kept.")
_GATE = typer.Option(help="Thresholds that the dataset must hold (docs/data-quality.md).")


@app.callback()
def train() -> None:
    """Models of a shop's log."""


@app.command("ranker")
def ranker_command(
    out: Annotated[Path, typer.Option(help="New directory for the ranker.")],
    dataset: Annotated[Path | None, _DATASET] = None,
    bundle: Annotated[Path | None, _BUNDLE] = None,
    sequences: Annotated[
        Path | None, typer.Option(help="Instead of a dataset: lines of a shopper's id, then item ids in order.")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="With --sequences: CSV of id, title, brand, price, categories.")
    ] = None,
    attributes: Annotated[
        Path | None, typer.Option(help="With --sequences: JSON of item id to a list of attributes.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML with settings of training.ranker.config.")] = None,
    minutes: Annotated[float | None, typer.Option(help="The whole training takes no longer.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the weights, the samples and the numbering.")] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(help="Heads that are private by shopper, and what they may spend (docs/privacy.md)."),
    ] = None,
    cache: Annotated[Path, _CACHE] = Path(".souk/content"),
    quality_gate: Annotated[Path | None, _GATE] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --sequences: the measures as JSON.")] = False,
) -> None:
    """Train the ranker on a log (--dataset and --bundle) or on plain sequences (--sequences).

    Killed and run again with the same arguments it goes on where it was.
    """
    with refusals():
        if (dataset is None) == (sequences is None):
            raise ValueError("give exactly one of --dataset and --sequences")
        if sequences is not None:
            log_only = {
                "--config": config,
                "--minutes": minutes,
                "--quality-gate": quality_gate,
                "--epsilon": epsilon,
            }
            if given := [name for name, value in log_only.items() if value is not None]:
                raise ValueError(f"{', '.join(given)}: goes with --dataset, not with --sequences")
            if bundle is not None and items is None:
                raise ValueError("--bundle: goes with --items, whose texts its encoder reads")
            number = 7 if seed is None else seed
            return _train_on_sequences(sequences, items, attributes, bundle, out, number, cache, as_json)
        sequences_only = {"--items": items, "--attributes": attributes, "--json": as_json or None}
        if given := [name for name, value in sequences_only.items() if value is not None]:
            raise ValueError(f"{', '.join(given)}: goes with --sequences, not with --dataset")
        if dataset is None or bundle is None:
            raise ValueError("--bundle: is missing; --dataset needs the encoder of the content space")
        _require_quality(dataset, quality_gate)
        _train_on_log(dataset, bundle, out, config, minutes, seed, epsilon, cache)


def _train_on_log(
    dataset: Path,
    bundle: Path,
    out: Path,
    config: Path | None,
    minutes: float | None,
    seed: int | None,
    epsilon: float | None,
    cache: Path,
) -> None:
    started = time.monotonic()
    from training.content import Encoder
    from training.data.canonical import open_dataset
    from training.ranker.answers import read_answers
    from training.ranker.config import RankerConfig, read_config
    from training.ranker.export import export_ranker
    from training.ranker.log import read_log
    from training.ranker.pipeline import CONTENT, Shop, fit_ranker, working_seconds

    if epsilon is not None:
        from training.privacy.ranker import fit_private_ranker, refuse_meaningless

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    if out.exists():
        raise FileExistsError(f"{out}: exists already; name a new directory with --out")
    settings = read_config(config, minutes=minutes, seed=seed)
    if epsilon is not None:
        refuse_meaningless(settings, epsilon)
    data = open_dataset(dataset)
    data.require_events()
    encoder = Encoder.open(bundle)
    checkpoints = out.parent / f".{out.name}.checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    with _progress() as progress:
        log = read_log(data, data.events(), settings.seed)
        told = _Task(progress, "content vectors")
        # Private heads are to be the same for the same seed: no clock says which texts are read.
        until = started + CONTENT * working_seconds(settings) if epsilon is None else math.inf
        answers = read_answers(data, log) if log.has_time and epsilon is None else None
        shop = Shop.of(log, read_items(dataset), encoder, cache, told, until, answers)
        epochs = _Task(progress, "Transformer, epochs")

        def step(what: str) -> None:
            progress.console.print(f"{time.monotonic() - started:5.0f} s  {what}", highlight=False)

        def epoch_told(epoch: Any) -> None:
            epochs.epoch(epoch, settings.epochs)

        if epsilon is None:
            fitted, promise = fit_ranker(shop, settings, started, checkpoints, step, epoch_told), None
        else:
            # The default is in the code for everybody to read: the noise must not come of it.
            secret = None if settings.seed == RankerConfig.seed else settings.seed
            fitted, promise = fit_private_ranker(shop, settings, epsilon, secret, checkpoints, step, epoch_told)
        step("ONNX and its gates")
        space = encoder.manifest.space_version
        card = export_ranker(fitted.trained, fitted.heads, log.item_ids, space, fitted.metrics, out, promise)
    shutil.rmtree(checkpoints)
    record("train ranker", [dataset, bundle, config], {**asdict(settings), "epsilon": epsilon}, card.metrics, out)
    _tell_metrics(card.metrics)
    if promise is not None:
        console.print(
            f"private heads: epsilon {promise.epsilon:.2f}, delta {promise.delta:.1e}, noise {promise.noise:.2f} x the "
            f"clip of {promise.clip:g}, for the {promise.shoppers:,} shoppers who taught them. {promise.covers} "
            f"{promise.leaves_out}",
            soft_wrap=True,
            highlight=False,
        )
    console.print(
        f"{len(fitted.trained.known):,} items known, behaviour space {card.manifest.space_version[:12]}, "
        f"{time.monotonic() - started:.0f} s -> {out}",
        soft_wrap=True,
        highlight=False,
    )
    console.print(f"next: python -m training bundle --encoder {bundle} --ranker {out} --out NEW_BUNDLE", soft_wrap=True)


def _train_on_sequences(
    sequences: Path,
    items: Path | None,
    attributes: Path | None,
    bundle: Path | None,
    out: Path,
    seed: int,
    cache: Path,
    as_json: bool,
) -> None:
    from training.content import Encoder
    from training.ranker.sequences import files
    from training.ranker.sequences.config import fitted
    from training.ranker.sequences.pipeline import fit
    from training.ranker.sequences.texts import Texts

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    started = time.monotonic()
    if out.exists():
        raise FileExistsError(f"{out}: exists already; name a new directory with --out")
    told = Console(stderr=True) if as_json else console
    read = files.read_sequences(sequences, seed)
    table = {} if items is None else files.read_items(items)
    known = {item: files.attributes_of(row) for item, row in table.items()}
    if attributes is not None:
        for item, found in files.read_attributes(attributes).items():
            known[item] = [*known.get(item, ()), *found]
    settings = fitted(read, seed)
    checkpoint = out.parent / f".{out.name}.checkpoints" / "sequences.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with _progress(told) as progress:

        def step(what: str) -> None:
            progress.console.print(f"{time.monotonic() - started:5.0f} s  {what}", highlight=False)

        step(f"{read.shoppers:,} shoppers, {len(read.item_ids):,} items, {len(read.item):,} events")
        texts = None
        if items is not None:
            met = {item: table[item] for item in read.item_ids if item in table}
            step(f"{len(met):,} of the items are in {items}")
            encoder = _default_encoder(cache, step) if bundle is None else Encoder.open(bundle)
            vectors = encoder.items(list(met.values()), cache, _Task(progress, "content vectors"))
            content = dict(zip(met, vectors, strict=True))
            texts = Texts.of(read.item_ids, content, encoder.manifest.space_version)
        epochs = _Task(progress, "epochs")
        report = fit(
            read,
            texts,
            known or None,
            settings,
            out,
            checkpoint,
            step,
            lambda one: epochs.epoch(one, settings.epochs),
        )
    shutil.rmtree(checkpoint.parent)
    record("train ranker --sequences", [sequences, items, attributes], asdict(settings), report.test, out)
    if as_json:
        print(json.dumps(report.to_json()))
        return
    rows = {"this ranker": {"test": report.test, "validation": report.validation}, **report.baselines}
    shown = Table("", *(f"{part} {name}" for part in ("test", "validation") for name in ("hr@10", "ndcg@10")))
    for name, parts in rows.items():
        cells = (parts[part][measure] for part in ("test", "validation") for measure in ("hr@10", "ndcg@10"))
        shown.add_row(name, *(f"{cell:.4f}" for cell in cells))
    console.print(shown)
    console.print(f"{report.seconds:.0f} s -> {out}", soft_wrap=True, highlight=False)
    console.print(
        f"next: python -m training bundle --encoder ENCODER --ranker {out} --out NEW, and `python -m services --bundle "
        "NEW` serves it; a log with times and kinds of events says more: train ranker --dataset DATASET",
        soft_wrap=True,
        highlight=False,
    )


def _default_encoder(cache: Path, step: Callable[[str], None]) -> Any:
    """The encoder that `encoder export` makes, made once beside the vectors."""
    from services.domain.text import TextTemplate
    from training.content import Encoder
    from training.encoder.export import default_model, export

    path = cache / "encoder"
    if not path.exists():
        export(default_model(), path, TextTemplate(), lambda what: step(f"encoder: {what}"))
    return Encoder.open(path)


@app.command("coldstart")
def coldstart_command(
    dataset: Annotated[Path, _DATASET],
    bundle: Annotated[Path, _BUNDLE],
    out: Annotated[Path, typer.Option(help="New directory for topics and blend.")],
    topics: Annotated[int | None, typer.Option(help="How many. Default: 32 to 64 by the catalogue.", min=2)] = None,
    minutes: Annotated[float, typer.Option(help="Items that it cannot embed in that time are left out.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Of the clusters.")] = 7,
    cache: Annotated[Path, _CACHE] = Path(".souk/content"),
    quality_gate: Annotated[Path | None, _GATE] = None,
) -> None:
    """Find the topics of a catalogue and learn, from the end of the log, the blend that orders for the little known."""
    started = time.monotonic()
    with refusals():
        import numpy as np

        from training.coldstart.learn import TooLittle, learn
        from training.coldstart.train import train_coldstart
        from training.content import Encoder
        from training.data.canonical import open_dataset

        if out.exists():
            raise FileExistsError(f"{out}: exists already; name a new directory with --out")
        _require_quality(dataset, quality_gate)
        encoder = Encoder.open(bundle)
        items = read_items(dataset)
        with _progress() as progress:
            # In any order, so that those it has time for are of all kinds.
            order = np.random.default_rng(seed).permutation(len(items))
            items = [items[row] for row in order.tolist()]
            content = encoder.items(items, cache, _Task(progress, "content vectors"), started + 48 * minutes)
        blend = None
        try:
            with console.status("blend"):
                by_id = {item.id: item for item in items}
                vectors = dict(zip(by_id, content, strict=True))
                blend = learn(open_dataset(dataset), by_id, vectors, seed)
        except TooLittle as error:
            console.print(f"topics alone, no blend of strategies: {error}", highlight=False, soft_wrap=True)
        with console.status("topics"):
            card = train_coldstart(items, content, encoder.manifest.space_version, out, topics, seed, blend)
        settings = {"topics": len(card.manifest.labels), "seed": seed, "minutes": minutes}
        record("train coldstart", [dataset, bundle], settings, card.metrics, out)
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


def _require_quality(dataset: Path, gate: Path | None) -> None:
    """Raises DatasetError, before anything is learned, where a dataset does not hold a gate."""
    if gate is not None:
        from training.data.quality.report import require

        require(dataset, gate, datetime.now(UTC))


def read_items(dataset: Path) -> list[Any]:
    """All items of a dataset, in file order."""
    from souk.dataset import read_items as rows

    return list(rows(dataset))


def _progress(told: Console = console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=told)


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
