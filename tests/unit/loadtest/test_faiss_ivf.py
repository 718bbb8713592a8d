"""What filtered search is measured against is no straw man: it reaches the recall, with few lists where few suffice."""

import numpy as np

from loadtest.faiss_ivf import InvertedFiles, recall_of

K = 10


def test_inverted_files_reach_the_recall_among_what_is_allowed_with_the_fewest_lists() -> None:
    random = np.random.default_rng(3)
    vectors = random.normal(size=(12_000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries, vectors = vectors[:40], vectors[40:]
    # Rows are called by other numbers than their own.
    slots = 3 * np.arange(len(vectors))
    mask = np.zeros(3 * len(vectors), bool)
    mask[slots[random.random(len(vectors)) < 0.3]] = True
    allowed = np.flatnonzero(mask[slots])
    nearest = [set(slots[allowed[np.argsort(-(vectors[allowed] @ query))[:K]]].tolist()) for query in queries]
    files = InvertedFiles(vectors, slots, threads=1)
    tuned = files.tuned(mask, queries, nearest, K, 0.9)
    answers = [set(tuned.search(query, mask, K).tolist()) for query in queries]
    assert all(mask[slot] for answer in answers for slot in answer)
    assert recall_of(answers, nearest) == tuned.recall >= 0.9
    assert 1 <= tuned.probes < tuned.index.nlist
    exact = files.tuned(mask, queries, nearest, K, 1.0)
    assert exact.recall == 1.0
    assert exact.probes > tuned.probes
