"""The vectors of a shop are taken whole, at length 1, and not in the order of the file."""

from pathlib import Path

import numpy as np

from loadtest.retriever_bench import shuffled


def test_vectors_of_a_file_are_mixed_and_of_length_1(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    written = random.standard_normal((200, 4)).astype(np.float64)
    np.save(tmp_path / "items.npy", written)
    vectors = shuffled(tmp_path / "items.npy", random)
    assert vectors.dtype == np.float32
    expected = written / np.linalg.norm(written, axis=1, keepdims=True)
    assert not np.allclose(vectors, expected, atol=1e-6)
    order = [np.lexsort(each.T.round(4)) for each in (vectors, expected)]
    np.testing.assert_allclose(vectors[order[0]], expected[order[1]], atol=1e-6)
