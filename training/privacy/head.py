"""Heads learned privately or not, and the profile head: a softmax regression from what is known to topics."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.accountants import RDPAccountant
from opacus.accountants.utils import get_noise_multiplier
from opacus.optimizers import DPOptimizer
from torch.nn import functional as F  # noqa: N812

from souk.vectors import Float32
from training.privacy.interests import ATTRIBUTES, Interests
from training.ranker.log import Floats

CLIP = 1.0
"""Length to which the gradient of a shopper is cut."""
_MOMENTUM = 0.9
# Log-odds that the topics met so far begin with.
_TRUST = 4.0
# What Opacus says each time and nobody can mend: the orders at which it looks end below what is best for very small
# epsilons, and the input of a head of one layer needs no gradient.
warnings.filterwarnings("ignore", message="Optimal order is the largest alpha")
warnings.filterwarnings("ignore", message="Full backward hook is firing")


@dataclass(frozen=True)
class Pace:
    """How a head learns: steps, in each of which every shopper takes part with the chance `share`, by itself."""

    steps: int
    share: float
    learning_rate: float


@dataclass(frozen=True)
class Head:
    """Scores: known @ weights.T + bias, float32.

    Of the profile head log-odds of topics, weights (topics, topics + ATTRIBUTES) and bias (topics,); of the ranking
    heads log-odds of objectives (training.privacy.ranking).
    """

    weights: Float32
    bias: Float32

    def scores(self, known: Float32) -> Float32:
        """(..., outputs) of known (..., inputs)."""
        found: Float32 = known @ self.weights.T + self.bias
        return found

    def ndcg(self, data: Interests) -> float:
        """NDCG@10 over the moments of shoppers. Raises ValueError where they have none."""
        return data.ndcg(self.scores(data.known))

    def losses(self, data: Interests) -> Floats:
        """Mean cross entropy of each shopper's moments, (n,)."""
        scores = torch.from_numpy(self.scores(data.known))
        found: Floats = _losses(scores, torch.from_numpy(data.wanted)).numpy().astype(np.float64)
        return found


def untrained(topics: int) -> Head:
    """Where every head begins, and what coldstart says without one: the topics wanted next are those met so far."""
    weights = np.zeros((topics, topics + ATTRIBUTES), np.float32)
    weights[:, :topics] = _TRUST * np.eye(topics)
    return Head(weights, np.zeros(topics, np.float32))


def noise_for(epsilon: float, delta: float, pace: Pace) -> float:
    """Standard deviation of the noise over CLIP with which all steps together are (epsilon, delta)-private.

    By Rényi differential privacy of the sampled Gaussian mechanism (Mironov, Talwar, Zhang 2019), an upper bound.
    Raises ValueError for an epsilon that no noise reaches.
    """
    found: float = get_noise_multiplier(
        target_epsilon=epsilon, target_delta=delta, sample_rate=pace.share, steps=pace.steps, accountant="rdp"
    )
    return found


def spent(noise: float, delta: float, pace: Pace) -> float:
    """The epsilon of all steps with that noise."""
    accountant = RDPAccountant()
    accountant.history = [(noise, pace.share, pace.steps)]
    return float(accountant.get_epsilon(delta))


def learn(data: Interests, pace: Pace, noise: float | None, seed: int, begin: Head | None = None) -> Head:
    """A head from stochastic gradient descent, from `begin` (default: `untrained`) on.

    With `noise` by DP-SGD (Abadi et al. 2016). The shopper is what is private: all moments of one are a single example,
    whose gradient is cut to CLIP, so that no shopper moves the sum of a step by more, however much they did. Without it
    nothing is cut or added, and all else is the same.
    """
    start = begin or untrained(data.wanted.shape[2])
    tensors = (torch.from_numpy(data.known), torch.from_numpy(data.wanted))
    return descend(start, tensors, _losses, pace, noise, seed)


def descend(
    start: Head,
    tensors: tuple[torch.Tensor, ...],
    losses: Callable[..., torch.Tensor],
    pace: Pace,
    noise: float | None,
    seed: int,
) -> Head:
    """Stochastic gradient descent over n shoppers, from `start` on, as `learn` has it.

    `tensors` (n, ...) hold a row a shopper, the first of them what the head reads. `losses` is told the scores of some
    shoppers and their rows of the other tensors, and gives a loss for each; rows of zeros must have the loss of nobody,
    0. Nobody's loss may depend on who else is there.
    """
    generator = torch.Generator().manual_seed(seed)
    linear = torch.nn.Linear(start.weights.shape[1], start.weights.shape[0])
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(start.weights))
        linear.bias.copy_(torch.from_numpy(start.bias))
    n = len(tensors[0])
    # The number of shoppers expected in a step: the number drawn would tell who is there.
    expected = pace.share * n
    rate = pace.learning_rate / expected
    model: torch.nn.Module = linear
    optimiser: torch.optim.Optimizer = torch.optim.SGD(linear.parameters(), lr=rate, momentum=_MOMENTUM)
    if noise is not None:
        model = GradSampleModule(linear, loss_reduction="sum")
        optimiser = DPOptimizer(
            optimiser,
            noise_multiplier=noise,
            max_grad_norm=CLIP,
            expected_batch_size=None,
            loss_reduction="sum",
            generator=generator,
        )
    for _ in range(pace.steps):
        chosen = torch.nonzero(torch.rand(n, generator=generator) < pace.share)[:, 0]
        # Noise is added where nobody takes part, too: someone without a moment stands there.
        x, *told = (each[chosen] if len(chosen) else torch.zeros_like(each[:1]) for each in tensors)
        optimiser.zero_grad()
        losses(model(x), *told).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return Head(linear.weight.detach().numpy().copy(), linear.bias.detach().numpy().copy())


def _losses(scores: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    by_moment = -(wanted * F.log_softmax(scores, dim=-1)).sum(dim=-1)
    found: torch.Tensor = by_moment.sum(dim=1) / wanted.sum(dim=(1, 2)).clamp(min=1)
    return found
