"""Topics: clusters of content vectors, named in words, and the softmax that tells them from a vector."""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.ranker.log import Ints

_ROUNDS = 30
_STEPS = 80
_PENALTY = 1e-4
# Share of a topic's items that a category must hold to name it.
_NAMES = 0.5
_WORDS = 3
_WORD = re.compile(r"[^\W\d_]{3,}")


def how_many(items: int) -> int:
    """Topics for a catalogue: 32 to 64 by its size, fewer where an average topic would have less than five items."""
    return max(2, min(64, max(32, round(0.6 * math.sqrt(items))), items // 5))


def cluster(vectors: Float32, k: int, seed: int) -> Ints:
    """Spherical k-means (Dhillon and Modha 2001) from k-means++ seeds: the cluster of each vector of length 1, (n,)."""
    rng = np.random.default_rng(seed)
    centres = vectors[rng.integers(len(vectors))][None]
    distance = 1 - vectors @ centres[0]
    for _ in range(1, k):
        chance = np.clip(distance, 0, None).astype(np.float64) + 1e-12
        chosen = vectors[rng.choice(len(vectors), p=chance / chance.sum())]
        centres = np.concatenate([centres, chosen[None]])
        distance = np.minimum(distance, 1 - vectors @ chosen)
    found = np.full(len(vectors), -1)
    for _ in range(_ROUNDS):
        said = vectors @ centres.T
        nearest = said.argmax(axis=1)
        if np.array_equal(nearest, found):
            break
        found = nearest
        sums = np.zeros_like(centres)
        np.add.at(sums, found, vectors)
        # An empty cluster begins again at the vector that is worst served.
        for empty in np.flatnonzero(np.bincount(found, minlength=k) == 0):
            worst = said.max(axis=1).argmin()
            sums[empty] = vectors[worst]
            said[worst] = 1
        centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def softmax_of(vectors: Float32, topic: Ints) -> tuple[Float32, Float32]:
    """Multinomial logistic regression of the topics on the vectors: W (topics, dim) and b (topics,)."""
    x, y = torch.from_numpy(vectors), torch.from_numpy(topic)
    weights = torch.zeros(int(topic.max()) + 1, vectors.shape[1], requires_grad=True)
    bias = torch.zeros(len(weights), requires_grad=True)
    solver = torch.optim.LBFGS([weights, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = F.cross_entropy(x @ weights.T + bias, y) + _PENALTY * (weights**2).sum() / len(weights)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach().numpy(), bias.detach().numpy()


def labels(items: Sequence[types_pb2.Item], topic: Ints) -> tuple[str, ...]:
    """A readable name of each topic, none twice: the category that most of its items are in, else the words that its
    titles hold and others do not."""
    count = int(topic.max()) + 1
    words = [frozenset(_WORD.findall(item.title.lower())) for item in items]
    everywhere = Counter(word for one in words for word in one)
    names: list[str] = []
    for number in range(count):
        members = np.flatnonzero(topic == number).tolist()
        telling = _telling([words[member] for member in members], everywhere, len(items))
        category = _category([list(items[member].category_path) for member in members])
        name = category or ", ".join(telling[:_WORDS]) or "other"
        for word in telling:
            if name not in names:
                break
            if word not in name.lower():
                name = f"{name}, {word}"
        names.append(name if name not in names else f"{name} ({number + 1})")
    return tuple(names)


def agreement(one: Ints, two: Ints) -> float:
    """Normalised mutual information of two groupings, 0 to 1 (Strehl and Ghosh 2002)."""
    table = np.zeros((int(one.max()) + 1, int(two.max()) + 1))
    np.add.at(table, (one, two), 1)
    table /= table.sum()
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    there = table > 0
    mutual = float((table[there] * np.log(table[there] / np.outer(rows, columns)[there])).sum())
    entropies = [-float((part[part > 0] * np.log(part[part > 0])).sum()) for part in (rows, columns)]
    return mutual / math.sqrt(entropies[0] * entropies[1]) if min(entropies) > 0 else 0.0


def _telling(words: Sequence[frozenset[str]], everywhere: Counter[str], total: int) -> list[str]:
    """Words of titles by how much more often they are here than elsewhere, the most telling first."""
    here = Counter(word for one in words for word in one)

    def weight(word: str) -> float:
        inside = here[word] / len(words)
        outside = (everywhere[word] - here[word] + 1) / (total - len(words) + 1)
        return inside * math.log(inside / outside)

    return sorted((word for word in here if here[word] > 1), key=lambda word: (-weight(word), word))


def _category(paths: Sequence[Sequence[str]]) -> str:
    """The deepest category that at least half of the items are in; empty where there is none."""
    counts = Counter(tuple(path[:depth]) for path in paths for depth in range(1, len(path) + 1))
    able = [path for path, count in counts.items() if count >= _NAMES * len(paths)]
    return max(able, key=lambda path: (len(path), counts[path]))[-1] if able else ""
