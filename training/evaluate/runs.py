"""Finished runs of a long comparison, kept on disk so that it goes on there when it was killed."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluate.sasrec import Steps
from training.ranker.measures import Measured


@dataclass(frozen=True)
class Run:
    """One training, or what needs none, judged. `measured`: by the name of the system; `steps`: of a training
    that the validation ended; `metrics`: what the training says of itself."""

    measured: dict[str, Measured]
    steps: Steps | None = None
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)


class Runs:
    """Finished runs of one comparison, kept on disk until all are done: killed and begun again, it goes on there."""

    def __init__(self, directory: Path, identity: str) -> None:
        """Runs of another comparison than `identity` are thrown away."""
        self._directory = directory
        stamp = directory / "identity"
        if not stamp.is_file() or stamp.read_text() != identity:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            stamp.write_text(identity)

    def once(self, name: str, make: Callable[[Path], Run]) -> Run:
        """The run of that name, made only if it is not there. `make` is given a directory for checkpoints."""
        file = self._directory / f"{name}.npz"
        if not file.is_file():
            checkpoints = self._directory / f"{name}.checkpoints"
            checkpoints.mkdir(exist_ok=True)
            _write_run(file, make(checkpoints))
            shutil.rmtree(checkpoints)
        return _read_run(file)

    def done(self) -> None:
        """Nothing is kept any longer."""
        shutil.rmtree(self._directory)


def _write_run(file: Path, run: Run) -> None:
    arrays: dict[str, Any] = {"numbers": np.array([run.seconds, *(asdict(run.steps).values() if run.steps else ())])}
    arrays["metrics"] = np.array(json.dumps(run.metrics))
    for system, measured in run.measured.items():
        arrays[f"{system}/first"] = measured.first
        arrays |= {f"{system}/{name}": values for name, values in measured.values.items()}
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as draft:
        np.savez(draft, **arrays)
    os.replace(draft.name, file)


def _read_run(file: Path) -> Run:
    with np.load(file) as arrays:
        seconds, *steps = arrays["numbers"].tolist()
        metrics = json.loads(str(arrays["metrics"]))
        found: dict[str, dict[str, Any]] = {}
        for key in arrays.files:
            system, _, name = key.rpartition("/")
            if system:
                found.setdefault(system, {})[name] = arrays[key]
    measured = {}
    for system, values in found.items():
        first = values.pop("first")
        measured[system] = Measured(values, first)
    return Run(measured, Steps(*map(int, steps)) if steps else None, seconds, metrics)
