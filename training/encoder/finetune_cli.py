"""`python -m training encoder finetune`."""

from pathlib import Path
from typing import Annotated

import typer


def finetune(
    dataset: Annotated[list[Path], typer.Option(help="A canonical dataset; several shops are learned at once.")],
    model: Annotated[Path, typer.Option(help="Directory of a mean-pooled BERT to begin with.")],
    out: Annotated[Path, typer.Option(help="New directory for the encoder.")],
    pairs: Annotated[
        list[Path] | None,
        typer.Option(help="Pairs of each dataset, in their order. Default: the judgements of the datasets."),
    ] = None,
    judged: Annotated[bool, typer.Option("--judged", help="Learn the judgements beside the pairs, too.")] = False,
    config: Annotated[Path | None, typer.Option(help="TOML with settings of FinetuneConfig.")] = None,
    synonyms: Annotated[
        Path | None, typer.Option(help="What `encoder synonyms` wrote, for `synonyms = SHARE`.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Over the file's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Over the file's.")] = None,
) -> None:
    """Fine-tune the encoder on queries and the items that answer them. Killed and run again it goes on."""
    # Imported here: torch takes seconds, and --help should not.
    from dataclasses import asdict

    from training.encoder.finetune import Finetune, FinetuneConfig
    from training.encoder.loop import processes
    from training.encoder.model import load, save
    from training.encoder.pairs import judged_pairs, read_pairs
    from training.encoder.running import finish, keep_run, quiet_console, train
    from training.encoder.shops import Shop
    from training.encoder.synonyms import read_synonyms
    from training.train_cli import refusals

    with refusals(), processes() as device:
        console = quiet_console()
        settings = FinetuneConfig.read(config, steps=steps, seed=seed)
        if pairs and len(pairs) != len(dataset):
            raise ValueError(f"--pairs: {len(pairs)} files for {len(dataset)} datasets; each needs its own")
        found = [read_pairs(file) for file in pairs] if pairs else [[] for _ in dataset]
        if judged or not pairs:
            found = [[*judged_pairs(path), *own] for path, own in zip(dataset, found, strict=True)]
        shops = [
            Shop.open(path, own, settings.held_out, settings.seed) for path, own in zip(dataset, found, strict=True)
        ]
        encoder = load(model)
        encoder.module.to(device)
        task = Finetune(encoder, shops, settings, read_synonyms(synonyms) if synonyms else {})
        share = task.trainable_share()
        for shop in shops:
            console.print(
                f"{shop.name}: {len(shop.item_ids):,} items, {len(shop.learn):,} queries to learn, "
                f"{len(shop.held):,} held out",
                highlight=False,
            )
        console.print(f"{settings.adapter}: {share:.2%} of the weights are trained", highlight=False)
        ended = train(task, settings, out, console)
        facts = {
            "command": "finetune",
            "settings": asdict(settings),
            "sources": {
                shop.name: sorted({pair.source for pair in own}) for shop, own in zip(shops, found, strict=True)
            },
            "trainable_share": share,
            "before": ended.before,
        }
        following = f"python -m training encoder export --model {out} --out {out}-onnx"
        finish(
            out,
            ended,
            lambda metrics: save(task.finished(), out, {**facts, "metrics": metrics}, task.heads.files()),
            console,
            following,
        )
        keep_run("finetune", [*dataset, *(pairs or ()), model, synonyms], settings, ended, out)
