"""`python -m training encoder back-translate`."""

from pathlib import Path
from typing import Annotated

import typer


def back_translate(
    pairs: Annotated[Path, typer.Option(help="Pairs whose queries are to be said in other words.")],
    out: Annotated[Path, typer.Option(help="New file: these pairs and the others.")],
    there: Annotated[Path | None, typer.Option(help="Directory of a model into another language.")] = None,
    back: Annotated[Path | None, typer.Option(help="Directory of a model back from it.")] = None,
    by: Annotated[str | None, typer.Option(help="Instead of both, package.module:function, texts to texts.")] = None,
) -> None:
    """Say queries in other words, by translation into another language and back."""
    # Imported here: torch takes seconds, and --help should not.
    from rich.progress import Progress

    from training.encoder.back_translation import back_translated, function, there_and_back
    from training.encoder.pairs import read_pairs, write_pairs
    from training.encoder.running import quiet_console
    from training.train_cli import refusals

    with refusals():
        console = quiet_console()
        if out.exists():
            raise FileExistsError(f"{out}: exists already; name a new file with --out")
        if by is not None:
            translate = function(by)
        elif there is not None and back is not None:
            translate = there_and_back(there, back)
        else:
            raise ValueError("--there, --back: both must be given, or --by")
        known = read_pairs(pairs)
        with Progress(console=console) as progress:
            bar = progress.add_task("queries", total=None)
            made = back_translated(
                known, translate, lambda done, total: progress.update(bar, completed=done, total=total)
            )
        write_pairs(out, [*known, *made])
    console.print(f"{len(made):,} pairs in other words beside {len(known):,} -> {out}", highlight=False)
    console.print(f"next: python -m training encoder finetune --dataset DATASET --pairs {out} --model MODEL --out NEW")
