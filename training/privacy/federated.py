"""Federated averaging of the profile head: shards learn from their own shoppers and tell nobody but the head."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.privacy.head import Head, Pace, learn, untrained
from training.privacy.interests import Catalogue, Interests, read_interests, split
from training.privacy.learning import PACES

# Every shopper of a shard takes part in every step, as in FedSGD; several steps a round spare the wire.
_ROUNDS, _STEPS = 10, 5
_RATES = tuple(pace.learning_rate for pace in PACES)


class Shard:
    """Where some shoppers are: it reads its own directory, and only heads leave it."""

    def __init__(self, directory: Path, catalogue: Catalogue, seed: int) -> None:
        """Raises ValueError where too few of its shoppers have a moment."""
        self._train = split(read_interests(directory, catalogue), seed).train
        self.shoppers = len(self._train)

    def improve(self, head: Head, pace: Pace, seed: int) -> Head:
        """The head after some steps on the shard's own shoppers."""
        return learn(self._train, pace, None, seed, begin=head)


@dataclass(frozen=True)
class Federation:
    """Of one seed: NDCG@10 over the test's moments; `alone` of the heads of single shards, mean."""

    seed: int
    shoppers: tuple[int, ...]
    """Learned from, by shard."""
    untrained: float
    alone: float
    federated: float
    central: float


def federate(shards: Sequence[Shard], topics: int, rate: float, seed: int) -> Head:
    """FedAvg (McMahan et al. 2017, algorithm 1, all clients in every round): each round every shard improves the same
    head, and the mean of what comes back, weighted by its number of shoppers, is the next."""
    head = untrained(topics)
    shares = np.array([shard.shoppers for shard in shards], np.float32) / sum(shard.shoppers for shard in shards)
    for _ in range(_ROUNDS):
        heads = [shard.improve(head, Pace(_STEPS, 1.0, rate), seed) for shard in shards]
        weights = np.tensordot(shares, np.stack([one.weights for one in heads]), 1)
        bias = np.tensordot(shares, np.stack([one.bias for one in heads]), 1)
        head = Head(weights.astype(np.float32), bias.astype(np.float32))
    return head


def compare(
    data: Interests, directories: Sequence[Path], catalogue: Catalogue, seed: int, done: Callable[[int, int], None]
) -> Federation:
    """Learns from shards together, from each alone, and from `data`, all of their shoppers in one place, with as many
    steps and the same rates to choose from on the validation; all are measured on the same test.

    `done` is told the rates that were tried, and of how many. Raises ValueError where too few shoppers of a shard have
    a moment.
    """
    shards = [Shard(directory, catalogue, seed) for directory in directories]
    parts, topics = split(data, seed), data.wanted.shape[2]
    start = untrained(topics)
    ways: tuple[Callable[[float], list[Head]], ...] = (
        lambda rate: [shard.improve(start, Pace(_ROUNDS * _STEPS, 1.0, rate), seed) for shard in shards],
        lambda rate: [federate(shards, topics, rate, seed)],
        lambda rate: [learn(parts.train, Pace(_ROUNDS * _STEPS, 1.0, rate), None, seed)],
    )
    found: list[float] = []
    for way in ways:
        tried = []
        for rate in _RATES:
            tried.append(way(rate))
            done(len(found) * len(_RATES) + len(tried), len(ways) * len(_RATES))
        best = max(tried, key=lambda heads: _ndcg(heads, parts.validation))
        found.append(_ndcg(best, parts.test))
    return Federation(seed, tuple(shard.shoppers for shard in shards), start.ndcg(parts.test), *found)


def _ndcg(heads: Sequence[Head], data: Interests) -> float:
    return float(np.mean([head.ndcg(data) for head in heads]))
