"""Two processes share each batch and learn what one learns from the whole of it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.ports import free_port
from tests.unit.training.encoder import tiny
from training.encoder.finetune import Finetune, FinetuneConfig
from training.encoder.loop import Loop, processes, rank
from training.encoder.shops import Shop

# Adam would make much of the last bit of a gradient near 0.
CONFIG = FinetuneConfig(
    steps=6, batch=16, chunk=8, learning_rate=0.1, optimiser="sgd", evaluate_every=6, item_tokens=16, query_tokens=8
)


def trained(path: Path, config: FinetuneConfig) -> list[float]:
    """All weights after a training in `path`, which has the shop."""
    shop = Shop.open(path.parent / "toy", tiny.pairs_of(), config.held_out, config.seed)
    task = Finetune(tiny.model(), [shop], config, {})
    Loop(task, config, path / "work", path / "board", lambda *told: None).run()
    return torch.cat([p.detach().flatten() for p in task.module.parameters()]).tolist()


def test_two_processes_learn_as_one(tmp_path: Path) -> None:
    tiny.write_shop(tmp_path / "toy")
    alone = trained(tmp_path / "alone", CONFIG)
    # As torchrun sets it.
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "tests.unit.training.encoder.test_processes", str(tmp_path / "two")]
    root = str(Path(__file__).parents[4])
    environment = os.environ | rendezvous | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, cwd=root, env=environment | {"RANK": str(number), "LOCAL_RANK": str(number)})
        for number in range(2)
    ]
    assert [one.wait(timeout=200) for one in started] == [0, 0]
    together = [json.loads((tmp_path / f"two/weights-{number}.json").read_text()) for number in range(2)]
    assert together[0] == together[1]
    assert together[0] == pytest.approx(alone, abs=1e-4)
    assert trained(tmp_path / "other", replace(CONFIG, seed=8)) != pytest.approx(alone, abs=1e-3)


if __name__ == "__main__":
    # One process of the two above.
    with processes():
        out = Path(sys.argv[1])
        weights = trained(out, CONFIG)
        (out / f"weights-{rank()}.json").write_text(json.dumps(weights))
