"""`python -m training encoder`: the encoder on the command line."""

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.encoder.back_translation_cli import back_translate
from training.encoder.compress_cli import compare, prune, quantise
from training.encoder.distil_cli import distil
from training.encoder.finetune_cli import finetune
from training.encoder.pretrain_cli import pretrain, synonyms, tokenizer
from training.encoder.queries.cli import queries
from training.encoder.reranker.cli import reranker

app = typer.Typer(help="The encoder of the content space.", no_args_is_help=True)
app.command("tokenizer")(tokenizer)
app.command("pretrain")(pretrain)
app.command("finetune")(finetune)
app.command("synonyms")(synonyms)
app.command("back-translate")(back_translate)
app.command("queries")(queries)
app.command("distil")(distil)
app.command("reranker")(reranker)
app.command("prune")(prune)
app.command("quantise")(quantise)
app.command("compare")(compare)


@app.callback()
def encoder() -> None:
    """The encoder of the content space."""


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Option(help="New directory for model.onnx, tokenizer.json and encoder.json.")],
    model: Annotated[
        Path | None, typer.Option(help="Directory of a mean-pooled BERT. Default: the installed all-MiniLM-L6-v2.")
    ] = None,
) -> None:
    """Export a BERT to ONNX and prove that it says what PyTorch says, alone and in a batch."""
    # Imported here: torch takes seconds, and --help should not.
    from transformers.utils import logging as transformers_logging

    from services.domain.text import TextTemplate
    from training.encoder.card import ExportError
    from training.encoder.export import default_model, export
    from training.encoder.gates import MIN_PARITY
    from training.encoder.release import MIN_INVARIANCE

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    console = Console()
    try:
        with console.status("starting") as status:
            card = export(model or default_model(), out, TextTemplate(), lambda what: status.update(what))
    except ExportError as error:
        console.print(f"[red]refused:[/red] {error}", soft_wrap=True)
        raise typer.Exit(1) from None
    table = Table("gate", "min cosine", "limit")
    table.add_row("parity with PyTorch", f"{card.metrics['encoder.parity_min_cosine']:.7f}", str(MIN_PARITY))
    table.add_row("batch invariance", f"{card.metrics['encoder.invariance_min_cosine']:.7f}", str(MIN_INVARIANCE))
    console.print(table)
    console.print(f"{card.dim} dimensions, {card.max_tokens} tokens, reads {', '.join(card.scripts) or 'no script'}")
    console.print(f"space {card.space_version[:12]} -> {out}", soft_wrap=True)
    console.print(f"next: python -m training bundle --encoder {out} --out bundle", soft_wrap=True)
