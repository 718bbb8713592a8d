"""How the scores that a model gives texts and classes become probabilities, and votes beside the seed words."""

import numpy as np
from scipy import sparse

from training.labels.functions import Votes
from training.labels.label_model import offset, softmax
from training.labels.task import Floats

# Of all texts, the share that is sure enough for a vote.
_VOTES = 0.5


def calibrated(scores: Floats, shares: Floats | None) -> Floats:
    """Probabilities (texts, classes) from scores of that shape, be they cosines or logarithms of likelihoods.

    Of each text's scores the mean over the classes is taken away, then of each class's the mean over the texts, without
    which the class that any text is near to wins; this is to all texts what contextual calibration is to an empty one
    (Zhao et al. 2021) and domain-conditional PMI to the domain (Holtzman et al. 2021). Then they count in their
    standard deviations. Where `shares` are believed, the mean is theirs.
    """
    scores = scores - scores.mean(axis=1, keepdims=True)
    scores = (scores - scores.mean(axis=0)) / np.maximum(scores.std(axis=0), 1e-9)
    return softmax(scores if shares is None else scores + offset(scores, shares))


def with_surest(votes: Votes, soft: Floats, names: list[str]) -> Votes:
    """The votes and, for each class, a function of these names: the half of all texts that `soft` is surest of."""
    best = np.sort(soft, axis=1)
    margin = best[:, -1] - best[:, -2]
    rows = np.flatnonzero(margin >= np.quantile(margin, 1 - _VOTES))
    said = soft[rows].argmax(axis=1)
    near = sparse.csr_matrix((np.ones(len(rows)), (rows, said)), shape=soft.shape)
    fired = sparse.csr_matrix(sparse.hstack([votes.fired, near]))
    says = np.concatenate([votes.says, np.arange(soft.shape[1])])
    return Votes(fired, says, (*votes.names, *names), votes.models + len(names))
