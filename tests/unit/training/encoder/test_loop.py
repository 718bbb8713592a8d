"""The loop learns, and goes on after a kill as if nothing had been."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from training.encoder.config import TrainConfig
from training.encoder.loop import Evaluated, Loop, LossTask, Task, TrainingError, rate

CONFIG = TrainConfig(
    steps=40, batch=16, accumulate=2, learning_rate=0.05, evaluate_every=10, patience=0, weight_decay=0.0
)


class Line(LossTask):
    """Finds the slope of a line, through dropout."""

    chosen = "closeness"

    def __init__(self, dropout: float = 0.1, data: str = "line") -> None:
        torch.manual_seed(0)
        self.module = torch.nn.Sequential(torch.nn.Dropout(dropout), torch.nn.Linear(4, 1))
        self.data = data

    def identity(self) -> str:
        return self.data

    def draw(self, rng: np.random.Generator) -> Sequence[Any]:
        return list(rng.standard_normal((16, 4)).astype(np.float32))

    def loss(self, examples: Sequence[Any]) -> tuple[Tensor, dict[str, float]]:
        x = torch.from_numpy(np.stack(examples))
        found = ((self.module(x)[:, 0] - x.sum(dim=1)) ** 2).mean()
        return found, {"seen": float(len(x))}

    def evaluate(self) -> dict[str, float]:
        weights = self.module[1].weight.detach()  # type: ignore[index]
        return {"closeness": -float((weights - 1).abs().max())}


class Killed(Exception):
    """Stands for the end of a process."""


def loop(path: Path, config: TrainConfig = CONFIG, task: Line | None = None, kill_at: int = -1) -> Loop:
    def told(step: int, evaluated: Evaluated | None) -> None:
        if step == kill_at:
            raise Killed

    return Loop(task or Line(), config, path / "work", path / "board", told)


def weights(task: Task) -> Tensor:
    return torch.cat([p.detach().flatten() for p in task.module.parameters()])


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_it_learns_and_keeps_the_best(tmp_path: Path, optimiser: str) -> None:
    task = Line()
    ended = loop(tmp_path, replace(CONFIG, optimiser=optimiser), task).run()
    assert ended.before["closeness"] < -0.5
    assert ended.best.metrics["closeness"] > ended.before["closeness"] / 2
    assert task.evaluate() == ended.best.metrics
    assert list((tmp_path / "board").glob("events*"))


def test_killed_and_made_again_it_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, broken = Line(), Line()
    loop(tmp_path / "whole", task=whole).run()
    for at in (17, 33):
        with pytest.raises(Killed):
            loop(tmp_path / "broken", kill_at=at).run()
    ended = loop(tmp_path / "broken", task=broken).run()
    assert torch.equal(weights(broken), weights(whole))
    assert [one.step for one in ended.history] == [0, 10, 20, 30, 40]


def test_a_checkpoint_of_other_settings_data_or_weights_is_refused(tmp_path: Path) -> None:
    loop(tmp_path).run()
    begun_elsewhere = Line()
    torch.nn.init.ones_(begun_elsewhere.module[1].weight)  # type: ignore[index]
    others = ((replace(CONFIG, seed=8), Line()), (CONFIG, Line(data="another")), (CONFIG, begun_elsewhere))
    for config, task in others:
        with pytest.raises(
            TrainingError, match=r"checkpoint\.pt: made with other settings, data, weights or processes"
        ):
            loop(tmp_path, config, task)


def test_it_stops_when_it_gets_no_better(tmp_path: Path) -> None:
    ended = loop(tmp_path, replace(CONFIG, steps=1000, learning_rate=2.0, evaluate_every=1, patience=3)).run()
    assert ended.steps < 1000
    assert [one.best for one in ended.history[-3:]] == [False, False, False]


class Broken(Line):
    """Gives what is no number in its third step."""

    drawn = 0

    def loss(self, examples: Sequence[Any]) -> tuple[Tensor, dict[str, float]]:
        self.drawn += 1
        found, told = super().loss(examples)
        return found * (float("nan") if self.drawn == 5 else 1), told


def test_what_is_not_finite_ends_it_by_name(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"learning_rate: the gradient of step 3 is not finite; 0\.05 is too high"):
        loop(tmp_path, task=Broken()).run()


def test_the_rate_rises_and_falls() -> None:
    config = replace(CONFIG, steps=100, warm_up=0.1, learning_rate=1.0)
    rates = [rate(config, step) for step in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.001
