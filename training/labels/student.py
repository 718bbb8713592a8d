"""The model that learns from soft labels: softmax regression on TF-IDF of characters or words."""

import numpy as np
from scipy import optimize, sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from training.labels.label_model import softmax
from training.labels.task import Floats

# Of the squared weights beside the summed loss of all texts; the 1 / C of other libraries.
RIDGE = 0.08


def vectoriser(language: str) -> TfidfVectorizer:
    """Chinese: one to three characters; English: one and two words. Log counts, rows of length 1."""
    options = {"sublinear_tf": True, "max_features": 200_000, "dtype": np.float64}
    if language == "zh":
        return TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=4, **options)
    return TfidfVectorizer(ngram_range=(1, 2), min_df=3, token_pattern=r"(?u)\b\w+(?:'\w+)?\b|[!?]", **options)


class Student:
    """Multinomial logistic regression that learns from probabilities instead of labels.

    Minimises the weighted cross entropy to them plus a ridge, by L-BFGS. `weights` (features, classes), `bias`
    (classes,).
    """

    def __init__(self, weights: Floats, bias: Floats) -> None:
        self.weights, self.bias = weights, bias

    def scores(self, features: sparse.csr_matrix) -> Floats:
        """Logarithms of the probabilities but for a constant: (texts, classes)."""
        return np.asarray(features @ self.weights + self.bias)

    def soft(self, features: sparse.csr_matrix) -> Floats:
        """Probabilities: (texts, classes)."""
        return softmax(self.scores(features))


def balanced(soft: Floats, balance: float) -> Floats:
    """What each text counts so that large classes do not drown small ones: (texts,), mean about 1.

    A class of n texts counts as its effective number (1 - balance^n) / (1 - balance) (Cui et al. 2019); `soft`:
    probabilities (texts, classes), n their sums. 0 leaves all as they are, near 1 classes count alike.
    """
    if not balance:
        return np.ones(len(soft))
    each = (1 - balance) / (1 - balance ** np.maximum(soft.sum(axis=0), 1))
    found: Floats = soft @ (each / each.mean())
    return found


def fit_student(
    features: sparse.csr_matrix,
    soft: Floats,
    weights: Floats | None = None,
    ridge: float = RIDGE,
    rounds: int = 40,
    focal: float = 0.0,
) -> Student:
    """Learns `soft` (texts, classes) from features (texts, features), each text counting `weights` (texts,).

    With `focal` g the loss of a class counts (1 - its probability)^g, so that what is known well already counts little
    (Lin et al. 2017); 0 is the cross entropy.
    """
    size, classes = features.shape[1], soft.shape[1]
    counted = np.ones(len(soft)) if weights is None else weights
    counted = counted / counted.sum()
    transposed = features.T.tocsr()
    penalty = ridge / len(soft)

    def loss(flat: Floats) -> tuple[float, Floats]:
        table = flat.reshape(size + 1, classes)
        scores = features @ table[:-1] + table[-1]
        scores -= scores.max(axis=1, keepdims=True)
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        told = np.exp(logs)
        # Above 0, or a g below 1 would divide by it.
        missing = np.maximum(1 - told, 1e-12)
        unknown = missing**focal
        value = -float(counted @ (soft * unknown * logs).sum(axis=1)) + penalty / 2 * float((table[:-1] ** 2).sum())
        # By the logarithm of each probability; then by the scores.
        slope = -soft * (unknown - focal * unknown / missing * told * logs)
        wrong = (slope - told * slope.sum(axis=1, keepdims=True)) * counted[:, None]
        gradient = np.vstack([transposed @ wrong + penalty * table[:-1], wrong.sum(axis=0)])
        return value, gradient.ravel()

    first = np.zeros((size + 1) * classes)
    found = optimize.minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": rounds, "maxcor": 5})
    table = found.x.reshape(size + 1, classes)
    return Student(table[:-1], table[-1])
