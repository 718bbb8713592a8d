"""Copies a BERT directory with its weights in 16 bits, so that half has to be carried to a GPU and back.

    python scripts/gpu/halve.py --out DIR [--model DIR]

Every command reads it as any other; computing goes on in 32 bits.
"""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from training.encoder.export import default_model
from training.new_directory import new_directory

WEIGHTS = "model.safetensors"


def main() -> None:
    """Writes the copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="Default: the installed all-MiniLM-L6-v2.")
    parser.add_argument("--out", type=Path, required=True, help="New directory.")
    given = parser.parse_args()
    if given.out.exists():
        parser.error(f"--out: {given.out} exists already")
    halve(given.model or default_model(), given.out)


def halve(model: Path, out: Path) -> None:
    """All files of the model; its weights rounded to float16."""
    with new_directory(out) as draft:
        shutil.copytree(model, draft, dirs_exist_ok=True, ignore=shutil.ignore_patterns(WEIGHTS))
        weights = load_file(model / WEIGHTS)
        # Safetensors made by transformers say that they are of torch; readers ask for it.
        halves = {name: one.half() if one.dtype == torch.float32 else one for name, one in weights.items()}
        save_file(halves, draft / WEIGHTS, {"format": "pt"})


if __name__ == "__main__":
    main()
