"""Which texts a person should label next."""

import numpy as np
from scipy import sparse

from training.labels.task import Floats, Ints

# Of the texts asked for, that many times are looked at.
_LOOKED_AT = 20


def ask(features: sparse.csr_matrix, soft: Floats, budget: int) -> Ints:
    """Rows to label next, the most telling first: at most (budget,).

    A text is worth asking where its two likeliest classes are near (margin sampling, Scheffer et al. 2001), where many
    texts are like it (information density, Settles and Craven 2008) and where none asked for is like it. `features`:
    rows of length 1; `soft`: probabilities (texts, classes).
    """
    best = -np.sort(-soft, axis=1)
    uncertain = 1 - (best[:, 0] - best[:, 1])
    mean = np.asarray(features.mean(axis=0)).ravel()
    density = np.asarray(features @ (mean / max(float(np.linalg.norm(mean)), 1e-12)))
    worth = uncertain * density
    looked = np.argsort(-worth, kind="stable")[: budget * _LOOKED_AT]
    near, chosen = np.zeros(len(looked)), []
    for _ in range(min(budget, len(looked))):
        place = int(np.argmax(np.where(near > 1, -1.0, worth[looked] * (1 - near))))
        chosen.append(int(looked[place]))
        alike = features[looked] @ features[looked[place]].T
        near = np.where(near > 1, near, np.maximum(near, np.minimum(alike.toarray().ravel(), 1)))
        near[place] = 2.0
    return np.array(chosen, np.int64)
