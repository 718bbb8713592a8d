"""Federated averaging of the profile head: shards learn from their own shoppers and tell nobody but the head."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.privacy.head import Head, Pace, learn, untrained
from training.privacy.interests import Catalogue, Interests, read_interests, split

# Every shopper of a shard takes part in every step, as in FedSGD; several steps a round spare the wire.
_ROUNDS, _STEPS, _RATE = 10, 5, 1.0
LOCAL = Pace(_STEPS, 1.0, _RATE)
"""What a shard does in a round."""
ALONE = Pace(_ROUNDS * _STEPS, 1.0, _RATE)
"""What is learned in one place: as many steps as all rounds have."""


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


def federate(shards: Sequence[Shard], topics: int, seed: int, done: Callable[[int, int], None]) -> Head:
    """FedAvg (McMahan et al. 2017, algorithm 1, all clients in every round): each round every shard improves the same
    head, and the mean of what comes back, weighted by its number of shoppers, is the next."""
    head = untrained(topics)
    shares = np.array([shard.shoppers for shard in shards], np.float32) / sum(shard.shoppers for shard in shards)
    for number in range(_ROUNDS):
        heads = [shard.improve(head, LOCAL, seed) for shard in shards]
        weights = np.tensordot(shares, np.stack([one.weights for one in heads]), 1)
        bias = np.tensordot(shares, np.stack([one.bias for one in heads]), 1)
        head = Head(weights.astype(np.float32), bias.astype(np.float32))
        done(number + 1, _ROUNDS)
    return head


def compare(
    data: Interests, directories: Sequence[Path], catalogue: Catalogue, seed: int, done: Callable[[int, int], None]
) -> Federation:
    """Learns from shards together, from each alone, and from `data`, all of their shoppers in one place; all are
    measured on the same test. Raises ValueError where too few shoppers of a shard have a moment."""
    shards = [Shard(directory, catalogue, seed) for directory in directories]
    parts, topics = split(data, seed), data.wanted.shape[2]
    start = untrained(topics)
    return Federation(
        seed,
        tuple(shard.shoppers for shard in shards),
        start.ndcg(parts.test),
        float(np.mean([shard.improve(start, ALONE, seed).ndcg(parts.test) for shard in shards])),
        federate(shards, topics, seed, done).ndcg(parts.test),
        learn(parts.train, ALONE, None, seed).ndcg(parts.test),
    )
