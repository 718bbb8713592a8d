"""`python -m training encoder reranker`."""

from pathlib import Path
from typing import Annotated

import typer


def reranker(
    dataset: Annotated[Path, typer.Option(help="A canonical dataset.")],
    model: Annotated[Path, typer.Option(help="Directory of a BERT to begin with, an encoder's for instance.")],
    out: Annotated[Path, typer.Option(help="New directory for the reranker.")],
    pairs: Annotated[Path | None, typer.Option(help="Pairs. Default: the judgements of the dataset.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML with settings of RerankerConfig.")] = None,
    steps: Annotated[int | None, typer.Option(help="Over the file's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Over the file's.")] = None,
) -> None:
    """Train the cross-encoder that reads the first of what a search found. Killed and run again it goes on."""
    # Imported here: torch takes seconds, and --help should not.
    import logging

    import torch

    from training.encoder.distil import student_of
    from training.encoder.loop import processes
    from training.encoder.model import load
    from training.encoder.pairs import judged_pairs, read_pairs
    from training.encoder.reranker.export import export_reranker
    from training.encoder.reranker.groups import Groups
    from training.encoder.reranker.model import CrossEncoder, Reader
    from training.encoder.reranker.train import LearnToRead, RerankerConfig
    from training.encoder.running import finish, keep_run, quiet_console, train
    from training.train_cli import read_items, refusals

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with refusals(), processes() as device:
        settings = RerankerConfig.read(config, steps=steps, seed=seed)
        own = read_pairs(pairs) if pairs else judged_pairs(dataset)
        groups = Groups(read_items(dataset), own, settings.held_out, settings.seed, settings.held_out_queries)
        begun = load(model)
        if settings.layers:
            begun = student_of(begun, settings.layers)
        torch.manual_seed(settings.seed)
        module = CrossEncoder(begun.module.model)
        module.to(device)
        reader = Reader(module, begun.tokenizer, min(settings.max_tokens, begun.max_tokens))
        console = quiet_console()
        console.print(f"{len(groups.learn):,} queries to learn, {len(groups.held):,} held out", highlight=False)
        ended = train(LearnToRead(reader, groups, settings), settings, out, console)
        following = f"python -m training bundle --encoder ENCODER --reranker {out} --out NEW_BUNDLE"
        finish(out, ended, lambda metrics: export_reranker(reader, settings.weight, metrics, out), console, following)
        keep_run("reranker", [dataset, model, pairs], settings, ended, out)
