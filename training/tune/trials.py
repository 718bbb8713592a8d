"""What tuning may try: drawn by seed, the defaults first, words alone and words with vectors equally often."""

from dataclasses import dataclass

import numpy as np

from services.domain.search import FUSIONS, Bm25f, SearchManifest

# By how much a weight may be larger or smaller than its default. The title's stays: all of them times a number is what
# k1 times that number undoes.
_FACTOR = 4.0
_K1 = (0.1, 2.0)
_B = (0.2, 1.0)
_WORDS_WEIGHT = (0.1, 0.9)


@dataclass(frozen=True)
class Trial:
    """One way of scoring searches; `words` is the place of its BM25F among all that are tried."""

    words: int
    words_weight: float = SearchManifest.words_weight
    fusion: str = SearchManifest.fusion


def draw_bm25f(count: int, seed: int) -> list[Bm25f]:
    """`count` sets of BM25F parameters, log-uniform around the defaults, the defaults first."""
    rng = np.random.default_rng((seed, 1))
    drawn = [Bm25f()]
    while len(drawn) < count:
        near = {
            name: round(getattr(drawn[0], name) * _FACTOR ** rng.uniform(-1, 1), 3)
            for name in ("description", "brand", "attributes", "category")
        }
        k1 = round(float(np.exp(rng.uniform(*np.log(_K1)))), 3)
        drawn.append(Bm25f(**near, k1=k1, b=round(rng.uniform(*_B), 3)))
    return drawn


def draw_trials(count: int, seed: int) -> list[Trial]:
    """`count` ways of scoring by words and vectors, the defaults first, half of them with the default BM25F."""
    rng = np.random.default_rng((seed, 2))
    drawn = [Trial(0)]
    while len(drawn) < count:
        words = 0 if rng.random() < 0.5 else int(rng.integers(count))
        weight = round(rng.uniform(*_WORDS_WEIGHT), 2)
        drawn.append(Trial(words, weight, FUSIONS[int(rng.integers(len(FUSIONS)))]))
    return drawn
