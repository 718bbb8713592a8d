"""The profile head: a softmax regression from what is known of a shopper to topics, learned privately or not."""

import warnings
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
    """Log-odds of topics: known @ weights.T + bias. weights (topics, topics + ATTRIBUTES), bias (topics,), float32."""

    weights: Float32
    bias: Float32

    def scores(self, known: Float32) -> Float32:
        """(..., topics) of known (..., topics + ATTRIBUTES)."""
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
    generator = torch.Generator().manual_seed(seed)
    known, wanted = torch.from_numpy(data.known), torch.from_numpy(data.wanted)
    start = begin or untrained(wanted.shape[2])
    linear = torch.nn.Linear(known.shape[2], wanted.shape[2])
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(start.weights))
        linear.bias.copy_(torch.from_numpy(start.bias))
    # The number of shoppers expected in a step: the number drawn would tell who is there.
    expected = pace.share * len(data)
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
        chosen = torch.nonzero(torch.rand(len(data), generator=generator) < pace.share)[:, 0]
        x, y = known[chosen], wanted[chosen]
        if not len(chosen):
            # Noise is added where nobody takes part, too: someone without a moment stands there.
            x, y = torch.zeros_like(known[:1]), torch.zeros_like(wanted[:1])
        optimiser.zero_grad()
        _losses(model(x), y).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return Head(linear.weight.detach().numpy().copy(), linear.bias.detach().numpy().copy())


def _losses(scores: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    by_moment = -(wanted * F.log_softmax(scores, dim=-1)).sum(dim=-1)
    found: torch.Tensor = by_moment.sum(dim=1) / wanted.sum(dim=(1, 2)).clamp(min=1)
    return found
