"""Thresholds that a dataset must hold before anything learns from it."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from souk.dataset import DatasetError
from training.data.quality.measure import Figures


@dataclass(frozen=True)
class Threshold:
    """A figure must be at least `least` and at most `most`."""

    figure: str
    least: float | None = None
    most: float | None = None

    def failed(self, figures: Figures) -> str | None:
        """What is wrong, None where it holds. A figure that could not be measured fails."""
        value = figures.get(self.figure)
        limit = f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"
        if value is None:
            return f"{self.figure} cannot be measured here (or there is no such figure), must be {limit}"
        low = self.least is not None and value < self.least
        high = self.most is not None and value > self.most
        return f"{self.figure} is {value:.4g}, must be {limit}" if low or high else None


def read_gate(file: Path) -> list[Threshold]:
    """Thresholds of a TOML file with the tables `least` and `most`: figure = number. Raises DatasetError."""
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file}: {error}") from error
    if not raw or not set(raw) <= {"least", "most"}:
        raise DatasetError(f"{file}: holds the tables [least] and [most] alone, at least one of them")
    thresholds = []
    for side, limits in raw.items():
        for figure, limit in limits.items():
            if isinstance(limit, bool) or not isinstance(limit, int | float):
                raise DatasetError(f"{file}: [{side}] {figure} must be a number, not {limit!r}; quote names with dots")
            thresholds.append(Threshold(figure, **{side: float(limit)}))
    return thresholds


def failures(thresholds: list[Threshold], figures: Figures) -> list[str]:
    """What of the thresholds does not hold; a figure of an unknown name cannot be measured either."""
    return [problem for one in thresholds if (problem := one.failed(figures)) is not None]
