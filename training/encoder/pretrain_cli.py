"""`python -m training encoder tokenizer`, `... pretrain` and `... synonyms`: what needs a shop's text alone."""

from pathlib import Path
from typing import Annotated

import typer

_DATASET = typer.Option(help="A canonical dataset, whose items' texts are read; may be given several times.")
_TEXTS = typer.Option(help="A plain text file, a text a line; may be given several times.")
_CONFIG = typer.Option(help="TOML with the settings.")


def tokenizer(
    out: Annotated[Path, typer.Option(help="New directory for the tokenizer.")],
    dataset: Annotated[list[Path] | None, _DATASET] = None,
    texts: Annotated[list[Path] | None, _TEXTS] = None,
    config: Annotated[Path | None, _CONFIG] = None,
    language: Annotated[str | None, typer.Option(help="en or zh; over the file's.")] = None,
) -> None:
    """Train a tokenizer on a shop's own text, for an encoder from scratch."""
    # Imported here: torch takes seconds, and --help should not.
    from rich.console import Console

    from training.encoder.scripts import covered_scripts
    from training.encoder.wordpiece import TokenizerConfig, train_tokenizer, write_tokenizer
    from training.train_cli import refusals

    console = Console()
    with refusals():
        settings = TokenizerConfig.read(config, language=language)
        with console.status("tokenizer"):
            made = train_tokenizer(_texts(dataset, texts), settings)
        write_tokenizer(made, out)
    console.print(f"{made.get_vocab_size():,} pieces, reads {', '.join(covered_scripts(made)) or 'no script'} -> {out}")
    given = " ".join([*(f"--dataset {path}" for path in dataset or ()), *(f"--texts {path}" for path in texts or ())])
    console.print(f"next: python -m training encoder pretrain {given} --scratch {out} --out NEW_MODEL", soft_wrap=True)


def pretrain(
    out: Annotated[Path, typer.Option(help="New directory for the encoder.")],
    dataset: Annotated[list[Path] | None, _DATASET] = None,
    texts: Annotated[list[Path] | None, _TEXTS] = None,
    model: Annotated[Path | None, typer.Option(help="Directory of a BERT to go on with.")] = None,
    scratch: Annotated[Path | None, typer.Option(help="Directory of a tokenizer: a new BERT of it.")] = None,
    objective: Annotated[str | None, typer.Option(help="mlm, mlm+nsp, tsdae or retromae; over the file's.")] = None,
    config: Annotated[Path | None, _CONFIG] = None,
    steps: Annotated[int | None, typer.Option(help="Over the file's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Over the file's.")] = None,
) -> None:
    """Pre-train a BERT on a shop's own text. Killed and run again with the same arguments it goes on."""
    # Imported here: torch takes seconds, and --help should not.
    from dataclasses import asdict

    from training.encoder.loop import processes
    from training.encoder.model import load, save
    from training.encoder.pretrain import Pretrain, PretrainConfig, from_scratch
    from training.encoder.running import finish, keep_run, quiet_console, train
    from training.encoder.wordpiece import read_tokenizer
    from training.encoder.words import load_words
    from training.train_cli import refusals

    with refusals(), processes() as device:
        console = quiet_console()
        settings = PretrainConfig.read(config, objective=objective, steps=steps, seed=seed)
        if (model is None) == (scratch is None):
            raise ValueError("--model, --scratch: one of them must be given, and not both")
        encoder = load(model) if model is not None else from_scratch(read_tokenizer(scratch or Path()), settings)
        encoder.module.to(device)
        words = None if model is None else load_words(model, encoder)
        read = _texts(dataset, texts)
        task = Pretrain(encoder, read, settings, words)
        weights = sum(p.numel() for p in encoder.module.parameters())
        console.print(f"{settings.objective} on {len(read):,} texts, {weights / 1e6:.1f} M weights", highlight=False)
        ended = train(task, settings, out, console)
        facts = {"command": "pretrain", "settings": asdict(settings), "texts": len(read), "before": ended.before}
        finish(
            out,
            ended,
            lambda metrics: save(task.finished(), out, {**facts, "metrics": metrics}, task.files()),
            console,
            f"python -m training encoder finetune --dataset DATASET --pairs PAIRS --model {out} --out NEW_MODEL",
        )
        keep_run("pretrain", [*(dataset or ()), *(texts or ()), model, scratch], settings, ended, out)


def synonyms(
    dataset: Annotated[Path, typer.Option(help="A canonical dataset.")],
    out: Annotated[Path, typer.Option(help="File of synonyms, a group a line.")],
    model: Annotated[Path | None, typer.Option(help="Directory of an encoder. Default: all-MiniLM-L6-v2.")] = None,
    config: Annotated[Path | None, _CONFIG] = None,
) -> None:
    """Find words of the shop that mean the same; read what it found before it serves."""
    # Imported here: torch takes seconds, and --help should not.
    from souk.dataset import read_items
    from training.encoder.export import default_model
    from training.encoder.model import load
    from training.encoder.running import quiet_console
    from training.encoder.synonyms import SynonymsConfig, mine_synonyms, write_synonyms
    from training.train_cli import refusals

    with refusals():
        console = quiet_console()
        settings = SynonymsConfig.read(config)
        encoder = load(model or default_model())
        with console.status("synonyms"):
            groups = mine_synonyms(list(read_items(dataset)), encoder, settings)
        write_synonyms(out, groups)
    console.print(f"{len(groups):,} groups -> {out}", soft_wrap=True, highlight=False)
    console.print(
        f"next: read {out}, then encoder finetune --synonyms {out} with `synonyms = 0.2`, "
        "or name it as `synonyms` in the file of `bundle --search`",
        soft_wrap=True,
        highlight=False,
    )


def _texts(datasets: list[Path] | None, files: list[Path] | None) -> list[str]:
    """Texts of all items as serving makes them, then the lines of the files."""
    from services.domain.text import TextTemplate, item_text
    from souk.dataset import read_items
    from training.encoder.pretrain import read_texts

    if not datasets and not files:
        raise ValueError("--dataset, --texts: one of them must be given")
    template = TextTemplate()
    found = [item_text(item, template) for path in datasets or () for item in read_items(path)]
    return found + read_texts(files or ())
