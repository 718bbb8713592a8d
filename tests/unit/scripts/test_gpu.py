"""What a session with a GPU runs: its settings are known ones, and what runs around the trainings does what it says."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts.gpu.halve import WEIGHTS, halve
from scripts.gpu.measure import measure
from tests.unit.training.encoder import tiny
from training.encoder.config import TrainConfig
from training.encoder.distil import DistilConfig
from training.encoder.finetune import FinetuneConfig
from training.encoder.model import encode, load
from training.encoder.pretrain import PretrainConfig
from training.encoder.reranker.train import RerankerConfig

GPU = Path(__file__).parents[3] / "scripts" / "gpu"
KINDS: dict[str, type[TrainConfig]] = {
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "reranker": RerankerConfig,
    "distil": DistilConfig,
}


@pytest.mark.parametrize("name", KINDS)
def test_its_settings_are_settings(name: str) -> None:
    assert KINDS[name].read(GPU / f"{name}.toml").steps >= 1000


def test_the_script_says_what_it_needs() -> None:
    script = str(GPU / "encoder.sh")
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    bare = {"PATH": os.environ["PATH"]}
    refused = subprocess.run(["bash", script], capture_output=True, text=True, env=bare, check=False)
    assert refused.returncode != 0
    assert "SOUK_GPU_DATA: must name a directory with dataset/, pairs.parquet and model/" in refused.stderr


def test_missing_modules_are_named_before_anything_runs() -> None:
    # Without site-packages nothing that is installed is there.
    refused = subprocess.run(
        [sys.executable, "-I", "-S", str(GPU / "check.py")], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("missing here: numpy, pyarrow, torch, transformers")
    assert "protobuf" in refused.stderr


def test_a_halved_model_is_read_as_any_other_and_measured_against_the_first(tmp_path: Path) -> None:
    whole = tiny.write_model(tmp_path / "whole")
    halve(whole, tmp_path / "half")
    assert (tmp_path / "half" / WEIGHTS).stat().st_size < 0.6 * (whole / WEIGHTS).stat().st_size
    texts = ["red kettle", "blue ladder"]
    cosines = (encode(load(whole), texts) * encode(load(tmp_path / "half"), texts)).sum(axis=1)
    assert np.all((cosines > 0.9999) & (cosines < 1 + 1e-6))

    shop = tiny.write_shop(tmp_path / "toy", judged=40)
    other = tiny.write_model(tmp_path / "other", seed=5)
    found = measure(shop, [whole, tmp_path / "half", other])
    assert (found["queries"], found["items"]) == (8, 80)
    models = found["models"]
    assert list(models) == ["whole", "half", "other"]
    assert models["other"]["gain_as_zero"]["mean"] == pytest.approx(
        models["other"]["as_zero"] - models["whole"]["as_zero"], abs=1e-6
    )
    assert 0 < models["whole"]["condensed"] <= 1
