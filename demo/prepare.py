"""What the demo needs before the stack: a dataset and a bundle, each made by the command a user would type."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

# Small enough to be up within minutes on two cores.
_GENERATE = ("generate", "--items", "3000", "--shoppers", "1500", "--seed", "7")
# Where every other command looks for it, too.
_ENCODER, _BUNDLE = Path(".souk/encoder"), Path(".souk/bundle")
_LOADERS = {"online_retail_ii": "online-retail", "chorus_icecat": "chorus-icecat"}


@dataclass(frozen=True)
class Shop:
    """A dataset, the bundle that serves it, and the directory its stack keeps its things in."""

    name: str
    dataset: Path
    bundle: Path
    home: Path


def prepare(data: Path | None, home: Path, console: Console) -> Shop:
    """Makes what is missing; what an earlier run made is used again."""
    name = "generated" if data is None else data.resolve().name
    dataset = home / name / "dataset"
    if data is not None and (data / "dataset.json").is_file():
        dataset = data
    elif not (dataset / "dataset.json").is_file():
        if data is None:
            _run(console, *_GENERATE, "--out", str(dataset))
        elif name in _LOADERS:
            _run(console, "data", "load", _LOADERS[name], "--source", str(data), "--out", str(dataset))
        else:
            known = ", ".join(_LOADERS)
            raise SystemExit(f"{data}: neither a dataset (docs/data.md) nor a folder that a loader knows ({known})")
    if not (_BUNDLE / "manifest.json").is_file():
        if not (_ENCODER / "encoder.json").is_file():
            _run(console, "encoder", "export", "--out", str(_ENCODER))
        _run(console, "bundle", "--encoder", str(_ENCODER), "--out", str(_BUNDLE))
    return Shop(name, dataset, _BUNDLE, home / name)


def _run(console: Console, *arguments: str) -> None:
    console.print(f"[dim]$ python -m training {' '.join(arguments)}[/dim]")
    done = subprocess.run([sys.executable, "-m", "training", *arguments], check=False)
    if done.returncode:
        raise SystemExit(f"python -m training {' '.join(arguments)}: exit code {done.returncode}")
