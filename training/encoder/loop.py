"""The training loop of every encoder and head: seeded, resumable to the bit, on one process or several by torchrun."""

import hashlib
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from training.checkpoint import keep_checkpoint, read_checkpoint
from training.encoder.config import TrainConfig
from training.encoder.model import autocast

_MOMENTUM = 0.9


class TrainingError(ValueError):
    """A training that cannot go on; the message says why and what to change."""


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found after so many steps; step 0 is the model as it came."""

    step: int
    metrics: dict[str, float]
    best: bool


@dataclass(frozen=True)
class Ended:
    """How a training ended: after so many steps, every evaluation, and the best of them, whose weights stand."""

    steps: int
    history: list[Evaluated]

    @property
    def before(self) -> dict[str, float]:
        """Metrics of the model as it came."""
        return self.history[0].metrics

    @property
    def best(self) -> Evaluated:
        """The evaluation whose weights the module has now."""
        return [one for one in self.history if one.best][-1]


class Task(ABC):
    """What is learned.

    `module` holds everything that is trained: its parameters that require a gradient. `chosen` names the metric of
    `evaluate` by which the best weights are kept (higher is better).
    """

    module: torch.nn.Module
    chosen: str
    working: Callable[[str, int, int], None] = staticmethod(lambda what, done, total: None)
    """Told of long work between steps: what it is, how much of it is done, and how much there is."""

    @abstractmethod
    def identity(self) -> str:
        """What a checkpoint must have been made of, besides the settings: the data, in a hash."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Sequence[Any]:
        """The examples of one batch over all processes, drawn from `rng` alone."""

    @abstractmethod
    def learn(self, examples: Sequence[Any], share: float, precision: str) -> dict[str, float]:
        """Adds `share` times the gradient of the loss to the parameters; returns what to show."""

    def before_step(self, step: int) -> None:  # noqa: B027 - a hook, nothing by default
        """Called before step `step` (from 0), with what was learned so far."""

    def after_step(self, step: int) -> None:  # noqa: B027 - a hook, nothing by default
        """Called after the weights were updated, before their gradients are dropped."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Metrics on what was held out."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides weights and optimiser."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027 - a hook, nothing by default
        """Takes over what `state` gave."""


class LossTask(Task):
    """A task whose gradient is that of one loss; a subclass gives `loss` in place of `learn`."""

    @abstractmethod
    def loss(self, examples: Sequence[Any]) -> tuple[Tensor, dict[str, float]]:
        """The mean loss of this process's examples, a scalar tensor, and what to show of it."""

    def learn(self, examples: Sequence[Any], share: float, precision: str) -> dict[str, float]:
        """Adds `share` times the gradient of the loss to the parameters; returns what to show."""
        device = next(self.module.parameters()).device
        with autocast(device, precision):
            loss, told = self.loss(examples)
        (loss * share).backward()  # type: ignore[no-untyped-call]
        return {"loss": float(loss.detach()), **told}


@dataclass
class _Progress:
    """Where a run is; kept in its checkpoint."""

    step: int = 0
    stale: int = 0
    best: float = -math.inf
    history: list[Evaluated] = field(default_factory=list)


class Loop:
    """One run of a task.

    Examples and dropout of a step follow from (seed, step) alone, so a run that was killed and made again with the
    same arguments ends as one that was not. The checkpoint (one file, replaced after every evaluation) is in `work`,
    the scalars for TensorBoard in `board`. Several processes share each batch and average their gradients.
    """

    def __init__(
        self, task: Task, config: TrainConfig, work: Path, board: Path, told: Callable[[int, Evaluated | None], None]
    ) -> None:
        self._task, self._config, self._told = task, config, told
        self._checkpoint, self._board = work / "checkpoint.pt", board
        self._parameters = {name: p for name, p in task.module.named_parameters() if p.requires_grad}
        if not self._parameters:
            raise TrainingError("no parameter of the model is to be trained")
        self._optimiser = _optimiser(self._parameters, config)
        self._identity = _identity(task, config)
        self._at = _Progress()
        self._kept = self._weights()
        self._restore()

    def run(self) -> Ended:
        """Trains to the end or until it gets no better, then sets the best weights. Raises TrainingError."""
        config, at = self._config, self._at
        board = SummaryWriter(str(self._board), purge_step=at.step + 1) if rank() == 0 else None
        if not at.history:
            self._evaluate(board)
        while at.step < config.steps and not (config.patience and at.stale >= config.patience):
            told = self._step()
            at.step += 1
            if board is not None:
                for name, value in told.items():
                    board.add_scalar(f"train/{name}", value, at.step)
            self._told(at.step, None)
            if at.step % config.evaluate_every == 0 or at.step == config.steps:
                self._evaluate(board)
        if board is not None:
            board.close()
        self._set(self._kept)
        return Ended(at.step, at.history)

    def _step(self) -> dict[str, float]:
        config, step = self._config, self._at.step
        self._task.before_step(step)
        # By step, not by how often it was drawn from: a resumed run sees the same.
        torch.manual_seed(_seed(config.seed, step, rank()))
        self._task.module.train()
        for group in self._optimiser.param_groups:
            group["lr"] = rate(config, step)
        told: dict[str, float] = {}
        for part in range(config.accumulate):
            examples = self._task.draw(np.random.default_rng([config.seed, step, part]))
            own = examples[rank() :: world()]
            shown = self._task.learn(own, 1 / config.accumulate, config.precision)
            for name, value in shown.items():
                told[name] = told.get(name, 0.0) + value / config.accumulate
        self._average_gradients()
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters.values(), config.max_norm))
        if not math.isfinite(norm):
            raise TrainingError(f"learning_rate: the gradient of step {step + 1} is not finite; {config.learning_rate} "
                                "is too high, or a batch holds what it should not")  # fmt: skip
        self._optimiser.step()
        self._task.after_step(step)
        self._optimiser.zero_grad(set_to_none=True)
        return {**told, "gradient": norm, "rate": rate(config, step)}

    def _average_gradients(self) -> None:
        if world() == 1:
            return
        for parameter in self._parameters.values():
            # A parameter that took no part on this process may have on another.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= world()

    def _evaluate(self, board: SummaryWriter | None) -> None:
        at = self._at
        metrics = self._measure()
        value = metrics[self._task.chosen]
        best = value > at.best
        if best:
            at.best, self._kept = value, self._weights()
        at.stale = 0 if best else at.stale + 1
        evaluated = Evaluated(at.step, metrics, best)
        at.history.append(evaluated)
        if board is not None:
            for name, number in metrics.items():
                board.add_scalar(f"held_out/{name}", number, at.step)
            self._keep()
        self._told(at.step, evaluated)

    def _measure(self) -> dict[str, float]:
        """Metrics as the first process measured them, so that all decide alike."""
        told = [self._task.evaluate() if rank() == 0 else {}]
        if world() > 1:
            dist.broadcast_object_list(told)
        if not math.isfinite(told[0][self._task.chosen]):
            raise TrainingError(f"{self._task.chosen} is not a number: the held-out data cannot tell how good it is")
        return told[0]

    def _weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    def _set(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(weights[name])

    def _keep(self) -> None:
        keep_checkpoint(
            self._checkpoint,
            {
                "identity": self._identity,
                "weights": self._weights(),
                "kept": self._kept,
                "optimiser": self._optimiser.state_dict(),
                "progress": asdict(self._at),
                "task": self._task.state(),
            },
        )

    def _restore(self) -> None:
        state = read_checkpoint(self._checkpoint)
        if state is None:
            return
        if state["identity"] != self._identity:
            raise TrainingError(
                f"{self._checkpoint}: made with other settings, data, weights or processes; use the same, or remove it"
            )
        self._set(state["weights"])
        self._kept = {name: state["kept"][name].to(p.device) for name, p in self._parameters.items()}
        self._optimiser.load_state_dict(state["optimiser"])
        progress = state["progress"]
        history = [Evaluated(**one) for one in progress.pop("history")]
        self._at = _Progress(**progress, history=history)
        self._task.restore(state["task"])


def rate(config: TrainConfig, step: int) -> float:
    """The learning rate of step `step` (from 0): linear warm-up, half a cosine to 0 (Loshchilov and Hutter 2017)."""
    warm = max(1, round(config.warm_up * config.steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, config.steps - warm)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def rank() -> int:
    """The number of this process among those of torchrun, 0 without it."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gathered(values: list[Any]) -> list[Any]:
    """The values of all processes, one after the other."""
    if world() == 1:
        return values
    everything: list[Any] = [None] * world()
    dist.all_gather_object(everything, values)
    return [value for own in everything for value in own]


@contextmanager
def processes() -> Iterator[torch.device]:
    """The device of this process; under torchrun joins the others (NCCL with CUDA, else Gloo) until the block ends."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if "RANK" not in os.environ:
        yield device
        return
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def _optimiser(parameters: dict[str, torch.nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    # Biases and layer norms are vectors; what decays is a matrix.
    groups = [
        {"params": [p for p in parameters.values() if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters.values() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=_MOMENTUM)
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def _identity(task: Task, config: TrainConfig) -> str:
    """What a checkpoint must have been made of: settings, data, the weights to begin with, how many processes."""
    digest = hashlib.sha256(json.dumps([asdict(config), task.identity(), world()], sort_keys=True).encode())
    for name, parameter in task.module.named_parameters():
        digest.update(f"{name} {parameter.requires_grad}".encode())
        digest.update(parameter.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])
