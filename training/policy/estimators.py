"""What a policy would have earned, estimated from answers that another policy gave with known propensities.

The unit is a place of an answer. What a policy earns by an answer is the sum over its places, and an item at a place is
taken to be clicked or not whatever stands around it: the item-position model (Li, Abbasi-Yadkori, Kveton,
Muthukrishnan, Vinay, Wen 2018, "Offline evaluation of ranking policies with click models"). A row's weight is
target / propensity: the probability of this item at this place under the policy asked about, over that under the one
that was logged. Every figure is a mean per answer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training.ranker.log import Floats, Ints

DRAWS = 1_000
"""Of the bootstrap."""
LEAST_COVERED = 0.95
"""Share of what a policy would show to which the log must have given a chance."""
MOST_COVERED = 1.05
"""Above it the propensities cannot be those of the places: true ones leave the mean weight at 1 or below."""
LEAST_PLACES = 100.0
"""Places of the policy's own that the log must be worth."""


@dataclass(frozen=True)
class Logged:
    """n places of answers as they were logged. Raises ValueError naming the field that cannot be.

    `answer` (n,): the answer of each, from 0 without gaps; `place` (n,): from 0; `propensity` (n,): above 0, at most 1;
    `reward` (n,); `shopper` (answers,): whose answers the bootstrap draws together.
    """

    answer: Ints
    place: Ints
    propensity: Floats
    reward: Floats
    shopper: Ints

    def __post_init__(self) -> None:
        for name in ("place", "propensity", "reward"):
            if getattr(self, name).shape != self.answer.shape:
                raise ValueError(f"{name}: {getattr(self, name).shape}, but answer is {self.answer.shape}")
        if not len(self.answer):
            raise ValueError("answer: there are none")
        if not np.array_equal(np.unique(self.answer), np.arange(len(self.shopper))):
            raise ValueError(f"answer: must hold every number from 0 to {len(self.shopper) - 1}, those of shopper")
        low, high = float(self.propensity.min()), float(self.propensity.max())
        if not (low > 0 and high <= 1):
            raise ValueError(f"propensity: from {low} to {high}; each must be above 0 and at most 1")

    def weights(self, target: Floats) -> Floats:
        """Target / propensity (n,). Raises ValueError for a target that is no probability."""
        if target.shape != self.answer.shape or not ((target >= 0) & (target <= 1 + 1e-9)).all():
            raise ValueError(f"target: must be probabilities {self.answer.shape}")
        found: Floats = target / self.propensity
        return found

    @property
    def clip(self) -> float:
        """The weight above which a weight counts no more: the root of the number of answers, which lets the bias
        vanish as the log grows (Ionides 2008, "Truncated importance sampling")."""
        return math.sqrt(len(self.shopper))


@dataclass(frozen=True)
class Estimate:
    """A mean per answer and its 95% interval over shoppers."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Support:
    """How much of what a policy would do is in a log.

    `covered`: the mean weight, which is 1 where the log gave everything the policy would show a chance, and else about
    the share of it that had one, from `covered_low` to `covered_high` by the interval; `places`: the effective sample
    size (sum w)^2 / sum w^2 (Kish 1965); `clipped`: what clipping the weights may take off an estimate at most, if
    every clipped row earns as much as the best.
    """

    covered: float
    covered_low: float
    covered_high: float
    places: float
    clipped: float

    @property
    def problem(self) -> str:
        """Why nothing can be said of the policy; empty where something can."""
        if self.covered_high < LEAST_COVERED:
            return f"the log gave a chance to {self.covered:.0%} of what it would show; {LEAST_COVERED:.0%} is needed"
        if self.covered_low > MOST_COVERED:
            return (
                f"the propensities are too small: the weights are {self.covered:.2f} in the mean, where true ones give "
                "1 at most. One of an item drawn from more than was shown is none of these orders"
            )
        if self.places < LEAST_PLACES:
            return f"the log is worth {self.places:.0f} places of its own; {LEAST_PLACES:.0f} are needed"
        return ""


def support(logged: Logged, weights: Floats, seed: int = 0) -> Support:
    """Whether a policy of these weights can be judged by this log at all."""
    stats = np.stack([weights, np.ones(len(weights))], axis=1)
    covered = _bootstrap(_by_shopper(logged, stats), lambda sums: sums[..., 0] / sums[..., 1], seed)
    over = np.maximum(weights - logged.clip, 0).sum() * float(logged.reward.max()) / len(logged.shopper)
    square = float((weights**2).sum())
    return Support(
        covered.value, covered.low, covered.high, float(weights.sum() ** 2) / square if square else 0.0, over
    )


def ips(logged: Logged, weights: Floats, seed: int = 0) -> Estimate:
    """Inverse propensity scoring: the mean over answers of sum w r (Horvitz and Thompson 1952).

    Unbiased where the log gave everything a chance, but for what clipping takes off (`Support.clipped` at most).
    """
    return mean(logged, np.minimum(weights, logged.clip) * logged.reward, seed)


def snips(logged: Logged, weights: Floats, seed: int = 0) -> Estimate:
    """Self-normalised IPS (Swaminathan and Joachims 2015): at every place sum w r / sum w, times how often an answer
    has that place. A constant added to all rewards is added as it is; biased by order 1 / answers."""
    clipped = np.minimum(weights, logged.clip)
    places = int(logged.place.max()) + 1
    stats = np.zeros((len(weights), 3 * places))
    rows = np.arange(len(weights))
    for part, values in enumerate((clipped * logged.reward, clipped, np.ones(len(weights)))):
        stats[rows, part * places + logged.place] = values

    def value(sums: Floats) -> Floats:
        earned, weight, count = (sums[..., part * places : (part + 1) * places] for part in range(3))
        rate = np.divide(earned, weight, out=np.zeros_like(earned), where=weight > 0)
        total: Floats = (rate * count).sum(axis=-1) / sums[..., -1]
        return total

    return _bootstrap(_means(logged, stats), value, seed)


def mean(logged: Logged, values: Floats, seed: int = 0) -> Estimate:
    """The mean over answers of the sum of (n,): of the rewards, what the logged policy earned; of what a model expects
    of each logged item wherever a policy puts it, the direct method."""
    return _bootstrap(_means(logged, values[:, None]), lambda sums: sums[..., 0] / sums[..., -1], seed)


def doubly_robust(logged: Logged, weights: Floats, predicted: Floats, expected: Floats, seed: int = 0) -> Estimate:
    """The direct method, corrected by IPS of what the model missed (Dudík, Langford, Li 2011): right where either the
    propensities or the model are.

    `predicted` (n,): the model's reward of each row as it was logged; `expected` (n,): of its item wherever the policy
    puts it.
    """
    missed = np.minimum(weights, logged.clip) * (logged.reward - predicted)
    return mean(logged, expected + missed, seed)


def _means(logged: Logged, stats: Floats) -> Floats:
    """By shopper, with the number of answers as the last column."""
    answers = np.bincount(logged.shopper[logged.answer], 1 / np.bincount(logged.answer)[logged.answer])
    return np.concatenate([_by_shopper(logged, stats), answers[np.unique(logged.shopper), None]], axis=1)


def _by_shopper(logged: Logged, stats: Floats) -> Floats:
    """Sums of the rows (n, c) over each shopper: (shoppers, c)."""
    _, owner = np.unique(logged.shopper, return_inverse=True)
    rows = owner[logged.answer]
    return np.stack([np.bincount(rows, column) for column in stats.T], axis=1)


def _bootstrap(stats: Floats, value: Callable[[Floats], Floats], seed: int) -> Estimate:
    """A function of the sums of (shoppers, c), with the percentile interval over shoppers drawn with replacement."""
    rng = np.random.default_rng(seed)
    count = len(stats)
    drawn = np.stack([np.bincount(rng.integers(0, count, count), minlength=count) @ stats for _ in range(DRAWS)])
    low, high = np.percentile(value(drawn), [2.5, 97.5])
    return Estimate(float(value(stats.sum(axis=0))), float(low), float(high))
