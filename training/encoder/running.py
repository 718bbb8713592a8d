"""A training on the command line: its progress, its checkpoints beside the output, what it found."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from transformers.utils import logging as transformers_logging

from training.encoder.config import TrainConfig
from training.encoder.loop import Ended, Evaluated, Loop, Task, rank
from training.runs.registry import record


def train(task: Task, config: TrainConfig, out: Path, console: Console) -> Ended:
    """Runs the task to its end; killed and run again with the same arguments it goes on where it was.

    Checkpoints are in `.NAME.checkpoints` beside `out` until `finish`, what TensorBoard shows stays in
    `NAME.tensorboard`. Raises FileExistsError where `out` exists.
    """
    if out.exists():
        raise FileExistsError(f"{out}: exists already; name a new directory with --out")
    with _progress(console) as progress:
        bar = progress.add_task("steps", total=config.steps)

        def told(step: int, evaluated: Evaluated | None) -> None:
            progress.update(bar, completed=step)
            if evaluated is not None:
                mark = "  the best so far" if evaluated.best and evaluated.step else ""
                shown = ", ".join(f"{name} {value:.4f}" for name, value in evaluated.metrics.items())
                progress.console.print(f"step {evaluated.step}: {shown}{mark}", highlight=False, soft_wrap=True)

        bars: dict[str, TaskID] = {}

        def working(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what)
            progress.update(bars[what], completed=done, total=total, visible=done < total)

        task.working = working
        return Loop(task, config, _work(out), _board(out), told).run()


def finish(out: Path, ended: Ended, save: Callable[[dict[str, float]], Any], console: Console, following: str) -> None:
    """Saves (by the first process alone), drops the checkpoints, tells what was found and what to run next."""
    if rank():
        return
    save(ended.best.metrics)
    shutil.rmtree(_work(out), ignore_errors=True)
    table = Table("held out", "before", "after")
    for name, value in ended.best.metrics.items():
        table.add_row(name, f"{ended.before[name]:.4f}", f"{value:.4f}")
    console.print(table)
    kept = f"step {ended.best.step} of {ended.steps} was best" if ended.best.step else "no step was better than before"
    console.print(f"{kept} -> {out}", soft_wrap=True, highlight=False)
    console.print(f"curves: tensorboard --logdir {_board(out)}", soft_wrap=True, highlight=False)
    console.print(f"next: {following}", soft_wrap=True, highlight=False)


def keep_run(command: str, data: Iterable[Path | None], config: TrainConfig, ended: Ended, out: Path) -> None:
    """Keeps what ended among the runs (by the first process alone); `data`: what was read, None for what was not."""
    if not rank():
        record(f"encoder {command}", data, asdict(config), ended.best.metrics, out)


def quiet_console() -> Console:
    """A console that speaks for the first process only; transformers draws no bars of its own beside it."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    return Console(quiet=rank() > 0)


def _work(out: Path) -> Path:
    return out.parent / f".{out.name}.checkpoints"


def _board(out: Path) -> Path:
    return out.parent / f"{out.name}.tensorboard"


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console)
