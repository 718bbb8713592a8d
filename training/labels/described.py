"""Classes as they are described: which description a text is nearest to, by an encoder's vectors."""

import numpy as np

from souk.vectors import Float32
from training.labels.task import Floats, Task
from training.labels.voters import calibrated


def descriptions(task: Task) -> list[str]:
    """What each class is: its description, else its seed words."""
    return [one.description or ", ".join(one.words) for one in task.classes]


def nearness(texts: Float32, described: Float32, shares: Floats | None) -> Floats:
    """Probabilities (texts, classes) from vectors of length 1, (texts, dim) and (classes, dim)."""
    return calibrated(texts.astype(np.float64) @ described.T.astype(np.float64), shares)
