"""`python -m training bundle`: the bundle on the command line."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from services.domain.bundle import BundleError
from training.bundle.bundle import AssembleError, assemble


def bundle(
    encoder: Annotated[Path, typer.Option(help="What `encoder export` wrote, or a bundle whose encoder to keep.")],
    out: Annotated[Path, typer.Option(help="New directory for the bundle.")],
    ranker: Annotated[Path | None, typer.Option(help="What `train ranker` wrote.")] = None,
    coldstart: Annotated[Path | None, typer.Option(help="What `train coldstart` wrote.")] = None,
    search: Annotated[Path | None, typer.Option(help="JSON that says how searches are scored; else defaults.")] = None,
    reranker: Annotated[Path | None, typer.Option(help="What `encoder reranker` wrote.")] = None,
) -> None:
    """Assemble what was trained into one bundle that the services can serve."""
    console = Console()
    try:
        with console.status("copying and sealing"):
            made = assemble(encoder, out, ranker, coldstart, search, reranker)
    except (AssembleError, BundleError) as error:
        console.print(f"[red]refused:[/red] {error}", soft_wrap=True)
        raise typer.Exit(1) from None
    console.print(f"generation {made.generation[:12]} -> {made.path}", soft_wrap=True)
    console.print(f"next: python -m services --bundle {made.path}", soft_wrap=True)
