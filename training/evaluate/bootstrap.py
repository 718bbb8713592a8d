"""Whether one system is better than another on the same queries, or only luckier in them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
# Half a gigabyte.
_NUMBERS_AT_ONCE = 2**25


@dataclass(frozen=True)
class Difference:
    """Mean of the paired differences, its 95% percentile interval, and the two-sided p-value of no difference."""

    mean: float
    low: float
    high: float
    p_value: float


def paired_bootstrap(system: NDArray[np.float64], baseline: NDArray[np.float64], seed: int = 0) -> Difference:
    """The gain of a system over a baseline, both float64 (queries,) in the same order of queries.

    Queries are drawn with replacement `DRAWS` times; the p-value is the share of draws whose mean, around zero, lies
    as far out as the one observed (shift method; Efron and Tibshirani 1993, Noreen 1989, as in Smucker, Allan and
    Carterette 2007), so it is 1 for systems that do not differ and never 0. Raises ValueError for other shapes.
    """
    if system.shape != baseline.shape or system.ndim != 1 or not len(system):
        raise ValueError(f"system, baseline: must be of one shape (queries,), not {system.shape} and {baseline.shape}")
    differences = system - baseline
    mean = float(differences.mean())
    means = _means(differences, seed)
    low, high = np.percentile(means, [2.5, 97.5])
    # Rounding must not make a mean of equal differences look nearer than itself.
    beyond = np.count_nonzero(np.abs(means - mean) >= abs(mean) * (1 - 1e-9))
    return Difference(mean, float(low), float(high), float((beyond + 1) / (DRAWS + 1)))


def interval(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """The 95% percentile interval of the mean of float64 (queries,)."""
    low, high = np.percentile(_means(values, seed), [2.5, 97.5])
    return float(low), float(high)


def _means(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Means of values (n,) drawn with replacement, (DRAWS,); in memory for some of the draws at a time."""
    rng, n = np.random.default_rng(seed), len(values)
    at_once = max(1, _NUMBERS_AT_ONCE // n)
    parts = [min(at_once, DRAWS - begin) for begin in range(0, DRAWS, at_once)]
    return np.concatenate([values[rng.integers(0, n, (part, n))].mean(axis=1) for part in parts])
