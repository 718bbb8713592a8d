"""`python -m training encoder distil`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn


def distil(
    dataset: Annotated[Path, typer.Option(help="A canonical dataset: the texts to learn on.")],
    model: Annotated[Path, typer.Option(help="Directory of the teacher, a mean-pooled BERT.")],
    out: Annotated[Path, typer.Option(help="New directory for the student.")],
    pairs: Annotated[
        Path | None, typer.Option(help="Pairs whose queries are learned, too, as `encoder queries` writes them.")
    ] = None,
    student: Annotated[
        Path | None,
        typer.Option(help="Directory to begin with, as `encoder prune` leaves it. Default: layers of the teacher."),
    ] = None,
    reranker: Annotated[
        Path | None, typer.Option(help="What `encoder reranker` wrote: its margins between items are learned, too.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML with settings of DistilConfig.")] = None,
    layers: Annotated[int | None, typer.Option(help="Over the file's.")] = None,
    steps: Annotated[int | None, typer.Option(help="Over the file's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Over the file's.")] = None,
) -> None:
    """Distil an encoder into a student with fewer layers. Killed and run again it goes on."""
    # Imported here: torch takes seconds, and --help should not.
    from dataclasses import asdict

    from services.domain.text import TextTemplate, item_text
    from training.encoder.distil import Distil, DistilConfig, Margins, Texts, student_of, taught
    from training.encoder.loop import processes
    from training.encoder.model import load, save
    from training.encoder.pairs import read_pairs
    from training.encoder.reranker.groups import Groups
    from training.encoder.reranker.margins import triples_of
    from training.encoder.running import finish, keep_run, quiet_console, train
    from training.train_cli import read_items, refusals

    with refusals(), processes() as device:
        if out.exists():
            raise FileExistsError(f"{out}: exists already; name a new directory with --out")
        settings = DistilConfig.read(config, layers=layers, steps=steps, seed=seed)
        if reranker is not None and pairs is None:
            raise ValueError("--reranker: needs --pairs, the queries whose answers it is asked about")
        template = TextTemplate()
        shop = read_items(dataset)
        texts = [template.item_prefix + item_text(item, template) for item in shop]
        asked = read_pairs(pairs) if pairs else []
        queries = [template.query_prefix + pair.query for pair in asked]
        teacher = load(model)
        teacher.module.to(device)
        pupil = load(student) if student else student_of(teacher, settings.layers)
        pupil.module.to(device)
        console = quiet_console()
        # Kept with the checkpoints: what a killed run made is not made again.
        work = out.parent / f".{out.name}.checkpoints"
        sides: list[Texts] = []
        with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console) as progress:
            for name, own, limit, most in (
                ("items", texts, settings.item_tokens, settings.items),
                ("queries", queries, settings.query_tokens, settings.queries),
            ):
                bar = progress.add_task(f"the teacher's vectors of {name}", total=None)
                told = partial(_tell, progress, bar)
                sides.append(taught(teacher, own, limit, most, settings.seed, work, told))
            margins = None
            if reranker is not None:
                bar = progress.add_task("the reranker's margins", total=None)
                # Nobody is measured by these: one query is held out because one must be.
                groups = Groups(shop, asked, 0.001, settings.seed, 1)
                triples = triples_of(reranker, groups, settings.triples, settings.seed, partial(_tell, progress, bar))
                margins = Margins(
                    [
                        (template.query_prefix + query, texts[answer], texts[other])
                        for query, (answer, other) in zip(triples.queries, triples.rows, strict=True)
                    ],
                    triples.margins,
                )
        ended = train(Distil(pupil, sides[0], sides[1], settings, margins), settings, out, console)
        facts = {"command": "distil", "settings": asdict(settings), "teacher": model.name, "before": ended.before}
        following = f"python -m training encoder export --model {out} --out {out}-onnx"
        finish(out, ended, lambda metrics: save(pupil, out, {**facts, "metrics": metrics}), console, following)
        keep_run("distil", [dataset, model, pairs, student, reranker], settings, ended, out)


def _tell(progress: Progress, bar: TaskID, done: int, total: int) -> None:
    progress.update(bar, completed=done, total=total)
