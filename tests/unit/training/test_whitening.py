"""Whitened vectors spread alike in all directions."""

import numpy as np

from training.whitening import whitening


def test_whitened_vectors_spread_alike_in_all_directions() -> None:
    rng = np.random.default_rng(1)
    narrow = rng.standard_normal((500, 4)) @ np.diag([3, 2, 1, 0.5]) + 5
    mean, directions = whitening(narrow.astype(np.float32))
    out = (narrow - mean) @ directions
    np.testing.assert_allclose(out.T @ out / len(out), np.eye(4) / 4, atol=0.01)
