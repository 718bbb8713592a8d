"""Where items stand in the graph of what follows what: what a network begins with, long before it could learn it."""

import numpy as np
import torch

from services.domain.neighbours import Neighbours
from souk.vectors import Float32

# Passes of the randomised decomposition, with which it finds what the exact one does (measured: no difference in rank).
_PASSES = 6
_LEAST = 1e-6


def directions(follows: Neighbours, most: int, seed: int) -> Float32:
    """Rows of length 1, or zero for an item that nothing follows and that follows nothing: (n, at most `most`).

    With S the scores of follows in both directions and D the sums of its rows: the singular directions of
    D^-1/2 S D^-1/2 of the largest values, times the roots of those values (Halko et al. 2011 for how they are found).
    """
    n = len(follows.starts) - 1
    one = np.repeat(np.arange(n), np.diff(follows.starts))
    sums = np.bincount(one, follows.scores, n) + np.bincount(follows.items, follows.scores, n) + _LEAST
    values = torch.from_numpy((follows.scores / np.sqrt(sums[one] * sums[follows.items])).astype(np.float32))
    half = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([one, follows.items])), values, (n, n), check_invariants=True
    )
    torch.manual_seed(seed)
    left, sizes, _ = torch.svd_lowrank((half + half.t()).coalesce(), q=min(most, n), niter=_PASSES)
    found = left * sizes.sqrt()
    return torch.nn.functional.normalize(found, dim=1).numpy()
