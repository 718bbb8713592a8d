"""What a list is ordered by: the probability of each objective, weighted by what it counts in the scene."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from souk.ranker.v1 import ranker_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32


class Objectives:
    """The objectives that the heads predict and their weights by scene, as a bundle's manifest states them.

    Raises ValueError where an objective is not one of the contract's, a scene has no weights, or weights do not fit.
    """

    def __init__(self, names: Sequence[str], scene_weights: Mapping[str, Sequence[float]]) -> None:
        known = ranker_pb2.Objective.items()
        numbers = {name.removeprefix("OBJECTIVE_").lower(): number for name, number in known if number}
        if unknown := [name for name in names if name not in numbers]:
            raise ValueError(f"objectives: {', '.join(unknown)} are not among {', '.join(numbers)}")
        self.numbers = [numbers[name] for name in names]
        self._weights: dict[int, NDArray[np.float64]] = {}
        for name, scene in types_pb2.Scene.items():
            if scene != types_pb2.SCENE_UNSPECIFIED:
                short = name.removeprefix("SCENE_")
                weights = np.array(scene_weights.get(short, ()), np.float64)
                if weights.shape != (len(names),) or not (np.isfinite(weights) & (weights >= 0)).all():
                    raise ValueError(f"scene_weights: {short} needs {len(names)} finite numbers of 0 or more")
                self._weights[scene] = weights

    def score(self, probability: Float32, scene: int) -> NDArray[np.float64]:
        """Sum of weight x probability: (n,) of probabilities (n, objectives)."""
        # Summed row by row, so that a candidate's score does not depend on how many there are.
        scores: NDArray[np.float64] = (probability.astype(np.float64) * self._weights[scene]).sum(axis=1)
        return scores

    def mean(self, values: Float32, scene: int) -> NDArray[np.float64]:
        """The mean of values (..., objectives) by the weights of the scene: (...)."""
        weights = self._weights[scene]
        mean: NDArray[np.float64] = values @ (weights / max(float(weights.sum()), 1e-12))
        return mean

    def columns(self, probability: Float32, deviation: Float32 | None = None) -> list[ranker_pb2.ObjectiveColumn]:
        """Probabilities, and deviations of their log-odds (n, objectives) where there are, as the answer holds them."""
        return [
            ranker_pb2.ObjectiveColumn(
                objective=number,
                probability=probability[:, at].tolist(),
                log_odds_deviation=() if deviation is None else deviation[:, at].tolist(),
            )
            for at, number in enumerate(self.numbers)
        ]
