"""The file a training goes on from: replaced as a whole, or left as it was."""

import os
from pathlib import Path
from typing import Any

import torch


def keep_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes the state, tensors and plain values, in the place of what `path` held."""
    draft = path.with_suffix(".draft")
    draft.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, draft)
    os.replace(draft, path)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """What was kept, tensors on the CPU; None where nothing was."""
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return state
