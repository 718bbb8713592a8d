"""Runs as files: what was asked, of which data, by which code, and what came of it."""

import hashlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

HOME = "SOUK_RUNS"
"""Environment variable: the directory of the runs. Default: .souk/runs below where the command runs."""
_BLOCK = 1 << 20


class NoSuchRun(ValueError):
    """No run, or more than one, has a name that begins so; the message says which."""


@dataclass(frozen=True)
class Run:
    """One training. `data`: SHA-256 of each file or directory that it read, by path; `cpu_seconds`: of processor, of
    the process that ended it."""

    name: str
    command: str
    ended: str
    """UTC, ISO 8601."""
    code: str
    """Version of Souk and, in a checkout, the commit; a + after it tells of uncommitted changes."""
    data: dict[str, str]
    settings: dict[str, Any]
    metrics: dict[str, float]
    cpu_seconds: float
    out: str


def record(
    command: str, data: Iterable[Path | None], settings: Mapping[str, Any], metrics: Mapping[str, float], out: Path
) -> Run:
    """Keeps a run that has ended. `data`: what it read, None for what was not given. Raises OSError."""
    now = datetime.now(UTC)
    run = Run(
        name=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        command=command,
        ended=now.isoformat(timespec="seconds"),
        code=_code(),
        data={str(path): fingerprint(path) for path in data if path is not None},
        settings=dict(settings),
        metrics={name: float(value) for name, value in metrics.items()},
        cpu_seconds=round(time.process_time(), 1),
        out=str(out),
    )
    home = _home()
    home.mkdir(parents=True, exist_ok=True)
    draft = home / f".{run.name}.json"
    draft.write_text(json.dumps(asdict(run), indent=1, sort_keys=True, default=str) + "\n")
    draft.rename(home / f"{run.name}.json")
    return run


def runs() -> list[Run]:
    """All that were kept, the oldest first. Raises ValueError naming a file that is no run."""
    return [_read(path) for path in sorted(_home().glob("[!.]*.json"))]


def find(name: str) -> Run:
    """The one whose name begins so, or ends so. Raises NoSuchRun."""
    found = [run for run in runs() if run.name.startswith(name) or run.name.endswith(name)]
    if len(found) != 1:
        what = f"{len(found)} runs are called so" if found else "no run is called so"
        raise NoSuchRun(f"{name}: {what}; python -m training runs list shows the names")
    return found[0]


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files below a directory, whatever their order on disk."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file()):
        digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _read(path: Path) -> Run:
    try:
        return Run(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: is no run: {error}") from None


def _home() -> Path:
    return Path(os.environ.get(HOME) or ".souk/runs")


def _code() -> str:
    """Read from the checkout that this file is in; an installed package has its version alone."""
    here = Path(__file__).parent
    told = [
        subprocess.run(["git", "-C", str(here), *asked], capture_output=True, text=True, check=False, timeout=10)
        for asked in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    ]
    commit = told[0].stdout.strip() if told[0].returncode == 0 else ""
    changed = "+" if commit and told[1].stdout.strip() else ""
    return f"{version('souk')} {commit}{changed}".strip()
