"""What systems reached on a test: by shopper, by seed, and by how much one is ahead of the others."""

import math
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from training.evaluate.bootstrap import Difference, paired_bootstrap
from training.ranker.log import Floats

GAINS_IN = ("ndcg@10", "recall@20")
"""What the ranker is compared with each baseline in."""
CALIBRATION = ("ece", "mean", "rate")
"""What is told of each head: expected calibration error, mean probability, share that was met."""


@dataclass(frozen=True)
class Outcome:
    """A system on the test: `values` (shoppers,) by measure, those of its lists among them."""

    values: dict[str, Floats]
    totals: dict[str, float]
    exposure: dict[str, float]

    def mean(self, name: str) -> float:
        """A total, or the mean of the values that are defined; NaN where none is."""
        if name in self.totals:
            return self.totals[name]
        values = self.values[name]
        return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


@dataclass(frozen=True)
class Result:
    """What a system reached: NDCG@10 of each trial on the validation, the test with the best of them by seed.

    `seconds` are those of all its runs, `metrics` what each training of the tested says of itself, if anything.
    """

    name: str
    trials: list[tuple[dict[str, Any], float]]
    chosen: dict[str, Any]
    tested: list[Outcome]
    seconds: float
    metrics: list[dict[str, float]] = field(default_factory=list)

    @property
    def measures(self) -> list[str]:
        """Names of all that was measured."""
        return [*self.tested[0].values, *self.tested[0].totals]

    def spread(self, name: str) -> tuple[float, float, float]:
        """Mean over the seeds, the lowest and the highest of them."""
        means = [one.mean(name) for one in self.tested]
        return float(np.mean(means)), min(means), max(means)

    def error(self, name: str) -> float:
        """Standard error of the mean over shoppers; NaN of a total."""
        if name in self.tested[0].totals:
            return math.nan
        values = self.by_shopper(name)
        values = values[~np.isnan(values)]
        return float(values.std() / math.sqrt(len(values))) if len(values) else math.nan

    @property
    def calibration(self) -> dict[str, dict[str, tuple[float, float, float]]]:
        """By objective of the heads and CALIBRATION, at moments that the heads did not learn from: mean over the seeds,
        lowest, highest. Empty without heads."""
        found: dict[str, dict[str, tuple[float, float, float]]] = {}
        for name in next(iter(self.metrics), {}):
            objective, _, kind = name.removeprefix("ranker.").rpartition("_")
            if kind in CALIBRATION and all(name in one for one in self.metrics):
                values = [one[name] for one in self.metrics]
                found.setdefault(objective, {})[kind] = float(np.mean(values)), min(values), max(values)
        return found

    def by_shopper(self, name: str) -> Floats:
        """The mean over the seeds for each shopper, (shoppers,)."""
        mean: Floats = np.mean([one.values[name] for one in self.tested], axis=0)
        return mean


@dataclass(frozen=True)
class Report:
    """Results with what they are of. `wanted`: share of each group in what was wanted; empty without groups."""

    facts: dict[str, Any]
    results: list[Result]
    wanted: dict[str, float]

    @cached_property
    def gains(self) -> dict[str, dict[str, Difference]]:
        """By baseline and measure: by how much the ranker, the last of the results, is ahead; paired by shopper."""
        *baselines, ranker = self.results
        return {
            one.name: {name: paired_bootstrap(ranker.by_shopper(name), one.by_shopper(name)) for name in GAINS_IN}
            for one in baselines
        }

    def to_json(self) -> dict[str, Any]:
        """All numbers; null where one is not defined."""
        systems = {}
        for one in self.results:
            measures = {}
            for name in one.measures:
                mean, low, high = one.spread(name)
                by_seed = [tested.mean(name) for tested in one.tested]
                measures[name] = {
                    "mean": mean,
                    "lowest": low,
                    "highest": high,
                    "standard_error": one.error(name),
                    "by_seed": by_seed,
                }
            systems[one.name] = {
                "chosen": one.chosen,
                "trials": [{"settings": settings, "validation_ndcg@10": value} for settings, value in one.trials],
                "seconds": round(one.seconds, 1),
                "test": measures,
                "exposure": exposure(one),
            }
            if one.calibration:
                systems[one.name]["calibration"] = {
                    objective: {
                        kind: dict(zip(("mean", "lowest", "highest"), value, strict=True))
                        for kind, value in kinds.items()
                    }
                    for objective, kinds in one.calibration.items()
                }
        gains = {baseline: {name: asdict(gain) for name, gain in by.items()} for baseline, by in self.gains.items()}
        found: dict[str, Any] = _defined(
            {**self.facts, "systems": systems, "gains_of_ranker": gains, "wanted_by_group": self.wanted}
        )
        return found


def exposure(result: Result) -> dict[str, float]:
    """Share of what is shown by group, the mean over the seeds."""
    return {
        group: float(np.mean([one.exposure[group] for one in result.tested])) for group in result.tested[0].exposure
    }


def figure(result: Result, name: str) -> str:
    """Mean over seeds, and the spread between them; with one run, the standard error over shoppers."""
    mean, low, high = result.spread(name)
    if math.isnan(mean):
        return "-"
    if len(result.tested) > 1:
        return between(mean, low, high)
    error = result.error(name)
    return f"{mean:.4f}" if math.isnan(error) else f"{mean:.4f} ± {error:.4f}"


def between(mean: float, low: float, high: float) -> str:
    """A mean and what it lies between."""
    return f"{mean:.4f} ({low:.4f} to {high:.4f})"


def _defined(value: Any) -> Any:
    """The same with None for every number that is none: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _defined(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_defined(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
