"""Content vectors in which what sets one shop's items apart counts as much as what sets them apart from others'."""

import numpy as np

from souk.vectors import Float32

_DIRECTIONS = 192
_SMALLEST_VARIANCE = 1e-4


def whitening(vectors: Float32) -> tuple[Float32, Float32]:
    """The mean (dim,) to take away and the directions (dim, up to 192) to multiply with, after which vectors (n, dim)
    have mean 0 in their 192 widest directions, each of the same spread, and mean square length 1."""
    mean = vectors.astype(np.float64).mean(axis=0)
    centred = vectors - mean
    values, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    widest = np.argsort(-values)[:_DIRECTIONS]
    scaled = directions[:, widest] / np.sqrt(np.maximum(values[widest], 0) + _SMALLEST_VARIANCE)
    length = np.sqrt(((centred @ scaled) ** 2).sum(axis=1).mean())
    return mean.astype(np.float32), (scaled / max(length, 1e-12)).astype(np.float32)
