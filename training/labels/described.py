"""Classes as they are described: which description a text is nearest to, by an encoder's vectors."""

import numpy as np
from scipy import sparse

from souk.vectors import Float32
from training.labels.functions import Votes
from training.labels.label_model import offset, softmax
from training.labels.task import Floats, Task

# Of all texts, the share that is sure enough for a vote.
_VOTES = 0.5


def descriptions(task: Task) -> list[str]:
    """What each class is: its description, else its seed words."""
    return [one.description or ", ".join(one.words) for one in task.classes]


def nearness(texts: Float32, described: Float32, shares: Floats | None) -> Floats:
    """Probabilities (texts, classes) from vectors of length 1, (texts, dim) and (classes, dim).

    Of each cosine its mean over the texts is taken away, without which the description nearest to any text wins, as
    domain-conditional PMI does for prompts (Holtzman et al. 2021); then it counts in its standard deviations. Where
    `shares` are believed, the mean is theirs.
    """
    cosines = texts.astype(np.float64) @ described.T.astype(np.float64)
    scores = (cosines - cosines.mean(axis=0)) / np.maximum(cosines.std(axis=0), 1e-9)
    return softmax(scores if shares is None else scores + offset(scores, shares))


def with_nearness(votes: Votes, soft: Floats, names: list[str]) -> Votes:
    """The votes and, for each class, those of the texts nearest to it: the half of all texts that is surest."""
    best = np.sort(soft, axis=1)
    margin = best[:, -1] - best[:, -2]
    rows = np.flatnonzero(margin >= np.quantile(margin, 1 - _VOTES))
    said = soft[rows].argmax(axis=1)
    near = sparse.csr_matrix((np.ones(len(rows)), (rows, said)), shape=soft.shape)
    fired = sparse.csr_matrix(sparse.hstack([votes.fired, near]))
    says = np.concatenate([votes.says, np.arange(soft.shape[1])])
    return Votes(fired, says, (*votes.names, *(f"like {name}" for name in names)))
