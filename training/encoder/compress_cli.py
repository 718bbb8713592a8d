"""`python -m training encoder prune | quantise | compare`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

_DATASET = typer.Option(help="A canonical dataset: the texts to look at.")
_TOKENS = 64


def prune(
    dataset: Annotated[Path, _DATASET],
    model: Annotated[Path, typer.Option(help="Directory of a mean-pooled BERT.")],
    out: Annotated[Path, typer.Option(help="New directory for what is left of it.")],
    layers: Annotated[int | None, typer.Option(help="To be left. Default: all.")] = None,
    heads: Annotated[int | None, typer.Option(help="Of attention, to be left in each layer. Default: all.")] = None,
    texts: Annotated[int, typer.Option(help="Items to look at.", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Of the items drawn.", min=0)] = 7,
) -> None:
    """Leave out the layers and attention heads of an encoder that its vectors miss least."""
    console = Console()
    from training.train_cli import refusals

    with refusals():
        from training.encoder import prune as pruning
        from training.encoder.model import load, save

        if out.exists():
            raise FileExistsError(f"{out}: exists already; name a new directory with --out")
        with console.status("looking"):
            looked_at = _texts(dataset, texts, seed)
            pruned = pruning.prune(load(model), layers, heads, looked_at, _TOKENS, lambda what: console.print(what))
        facts = {"command": "prune", "layers": pruned.layers, "heads": pruned.heads, "cosine": pruned.cosine}
        save(pruned.model, out, facts)
    kept = f"layers {', '.join(map(str, pruned.layers))}" + (f" with {heads} heads each" if heads else "")
    console.print(f"{kept} are left, mean cosine {pruned.cosine:.4f} -> {out}", soft_wrap=True, highlight=False)
    console.print(
        f"next: python -m training encoder distil --dataset {dataset} --model {model} --student {out} --out NEW_MODEL",
        soft_wrap=True,
    )


def quantise(
    encoder: Annotated[Path, typer.Option(help="What `encoder export` wrote.")],
    dataset: Annotated[Path, _DATASET],
    out: Annotated[Path, typer.Option(help="New directory for the encoder in fewer bits.")],
    mode: Annotated[str, typer.Option(help="int8 or bf16.")] = "int8",
    texts: Annotated[int, typer.Option(help="Items that fix the scales of int8.", min=1)] = 128,
    seed: Annotated[int, typer.Option(help="Of the items drawn.", min=0)] = 7,
) -> None:
    """Round an exported encoder to fewer bits; its gates are those of the export."""
    console = Console()
    from training.train_cli import refusals

    with refusals():
        from training.encoder import quantise as rounding
        from training.encoder.gates import GATE_TEXTS

        if mode not in rounding.MODES:
            raise ValueError(f"--mode: must be one of {', '.join(rounding.MODES)}, not {mode!r}")
        with console.status("starting") as status:
            own = [*_texts(dataset, texts, seed), *GATE_TEXTS]
            card = rounding.quantise(encoder, out, mode, own, lambda what: status.update(what))
    _tell(console, card.metrics)
    console.print(f"{mode}, space {card.space_version[:12]} -> {out}", soft_wrap=True, highlight=False)
    console.print(
        f"next: python -m training encoder compare --encoder {out} --teacher {encoder} --dataset {dataset}",
        soft_wrap=True,
    )


def compare(
    encoder: Annotated[Path, typer.Option(help="An exported encoder: a student, or one in fewer bits.")],
    teacher: Annotated[Path, typer.Option(help="The exported encoder that it is to stand for.")],
    dataset: Annotated[Path, typer.Option(help="A canonical dataset with judgements.")],
    items: Annotated[int, typer.Option(help="Searched among; all that are judged are.", min=1)] = 5000,
    cache: Annotated[Path, typer.Option(help="Where content vectors are kept.")] = Path(".souk/content"),
) -> None:
    """Measure what an encoder loses and gains against its teacher; its card keeps it, and a bundle's gate reads it."""
    console = Console()
    from training.train_cli import read_items, refusals

    with refusals():
        from dataclasses import replace

        from souk.dataset import read_judgements
        from training.content import Encoder
        from training.encoder.card import CARD, Card
        from training.encoder.quality import compare as measured
        from training.encoder.release import problems
        from training.evaluate.metrics import by_query

        card = Card.read(encoder / CARD)
        grades = by_query(read_judgements(dataset))
        if not grades:
            raise ValueError(f"{dataset}: judgements: no query has an item graded above 0")
        with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console) as progress:
            bar = progress.add_task("vectors", total=None)
            quality = measured(
                Encoder.open(encoder),
                Encoder.open(teacher),
                read_items(dataset),
                grades,
                items,
                cache,
                lambda done, total: progress.update(bar, completed=done, total=total),
            )
        card = replace(card, metrics=card.metrics | quality.metrics())
        card.write(encoder / CARD)
        _tell(console, quality.metrics())
        if found := problems(card):
            raise ValueError("; ".join(found))
    console.print(f"next: python -m training bundle --encoder {encoder} --out NEW_BUNDLE", soft_wrap=True)


def _texts(dataset: Path, most: int, seed: int) -> list[str]:
    """Texts of items drawn by seed."""
    import numpy as np

    from services.domain.text import TextTemplate, item_text
    from training.train_cli import read_items

    items = read_items(dataset)
    rows = np.random.default_rng(seed).permutation(len(items))[:most].tolist()
    return [item_text(items[row], TextTemplate()) for row in rows]


def _tell(console: Console, metrics: dict[str, float]) -> None:
    table = Table("measure", "value")
    for name, value in metrics.items():
        table.add_row(name.removeprefix("encoder."), f"{value:.5f}")
    console.print(table)
