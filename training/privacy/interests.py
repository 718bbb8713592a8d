"""What the profile head learns from: moments of each shopper, what was known of them and wanted next."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax

from souk.dataset import read_items
from souk.vectors import Float32
from training.coldstart.topics import cluster, how_many, softmax_of
from training.content import Encoder
from training.data.canonical import open_dataset
from training.privacy.datasets import bucket
from training.ranker.examples import session_examples
from training.ranker.log import Ints, read_log
from training.ranker.measures import measure

MOMENTS = 8
"""Latest moments of a shopper that are learned from."""
ATTRIBUTES = 32
"""Columns that attributes are hashed to."""
# Of a hundred shoppers: the rest is learned from.
_VALIDATED, _TESTED = 10, 20


@dataclass(frozen=True)
class Catalogue:
    """The topics of items, made of their texts alone: nothing of any shopper is in them.

    `rows`: each item's row of `shares` (items, topics), float32, zeros where the encoder cannot read it, and of `topic`
    (items,), -1 there.
    """

    rows: dict[str, int]
    shares: Float32
    topic: Ints


@dataclass(frozen=True)
class Interests:
    """n shoppers with up to MOMENTS moments each.

    `known` (n, MOMENTS, topics + ATTRIBUTES), float32: the sum of the topics of all items met before, of length 1, and
    the shopper's attributes, of length 1 or 0. `wanted` (n, MOMENTS, topics), float32: how what was liked next is
    spread over topics, sums to 1. Zeros in both where there are fewer moments.
    """

    shoppers: tuple[str, ...]
    known: Float32
    wanted: Float32

    def __len__(self) -> int:
        return len(self.shoppers)

    def take(self, rows: Ints) -> "Interests":
        """These shoppers alone, in this order."""
        return Interests(tuple(self.shoppers[row] for row in rows.tolist()), self.known[rows], self.wanted[rows])

    def ndcg(self, scores: Float32) -> float:
        """NDCG@10 of the topics that were wanted, by scores (n, MOMENTS, topics): the mean over all moments.

        Raises ValueError where nobody has a moment.
        """
        there = self.wanted.any(axis=2)
        if not there.any():
            raise ValueError("shoppers: none has a moment to measure")
        rows, columns = np.nonzero(self.wanted[there])
        return float(measure(scores[there], rows, columns).ndcg.mean())


@dataclass(frozen=True)
class Split:
    """Shoppers that are learned from, that settings are chosen by, and that are measured on; nobody is in two."""

    train: Interests
    validation: Interests
    test: Interests


def read_catalogue(
    data: Path, encoder: Path, cache: Path, seed: int, progress: Callable[[int, int], None]
) -> Catalogue:
    """The topics of a canonical dataset's items, as the topics of a bundle are made (training.coldstart.topics).

    Raises ValueError where fewer than two items can be read.
    """
    items = list(read_items(data))
    content = Encoder.open(encoder).items(items, cache, progress)
    readable = np.flatnonzero(content.any(axis=1))
    if len(readable) < 2:
        raise ValueError(f"items: the encoder reads {len(readable)}; topics need at least 2")
    found = cluster(content[readable], how_many(len(readable)), seed)
    weights, bias = softmax_of(content[readable], found)
    shares = np.zeros((len(items), len(weights)), np.float32)
    shares[readable] = softmax(content[readable] @ weights.T + bias, axis=1)
    topic = np.full(len(items), -1)
    topic[readable] = found
    return Catalogue({item.id: row for row, item in enumerate(items)}, shares, topic)


def read_interests(data: Path, catalogue: Catalogue) -> Interests:
    """The interests of the shoppers of a canonical dataset, in the order of their ids.

    A moment is the begin of a session. What is said of a shopper depends on that shopper's rows alone, without which
    no privacy could be promised: no moment is drawn by chance, and attributes are hashed to columns (Weinberger et al.
    2009, "Feature hashing for large scale multitask learning"), so that no vocabulary is counted over shoppers.
    Raises ValueError where nobody has a moment.
    """
    dataset = open_dataset(data)
    log = read_log(dataset, dataset.events(), 0)
    topics = catalogue.shares.shape[1]
    where = np.array([catalogue.rows[item] for item in log.item_ids])
    topic = catalogue.topic[where]
    met = np.concatenate(
        [np.zeros((1, topics)), np.cumsum(catalogue.shares[where][log.item], axis=0, dtype=np.float64)]
    )

    examples = session_examples(log, 0, within=False)
    example = np.repeat(np.arange(len(examples)), np.diff(examples.starts))
    told = topic[examples.items] >= 0
    wanted = np.zeros((len(examples), topics))
    np.add.at(wanted, (example[told], topic[examples.items[told]]), examples.weights[told])
    before = met[examples.end] - met[examples.begin]
    # One item's shares sum to 1: less than that is what rounding left of items that cannot be read.
    usable = np.flatnonzero(wanted.any(axis=1) & (before.sum(axis=1) > 0.5))
    if not len(usable):
        raise ValueError(
            f"{data}: no shopper liked an item that the encoder reads after another; nothing to learn from"
        )
    of_shopper: dict[str, list[int]] = {}
    for number in usable[np.argsort(examples.end[usable], kind="stable")].tolist():
        of_shopper.setdefault(log.shopper_ids[log.shopper[examples.begin[number]]], []).append(number)

    people = dataset.shoppers().select("shopper_id", "attributes").iter_rows()
    attributes = {shopper: _hashed(json.loads(text or "{}")) for shopper, text in people}
    shoppers = tuple(sorted(of_shopper))
    known_of = np.zeros((len(shoppers), MOMENTS, topics + ATTRIBUTES), np.float32)
    wanted_of = np.zeros((len(shoppers), MOMENTS, topics), np.float32)
    for row, shopper in enumerate(shoppers):
        latest = of_shopper[shopper][-MOMENTS:]
        known_of[row, : len(latest), :topics] = before[latest] / np.linalg.norm(before[latest], axis=1, keepdims=True)
        known_of[row, : len(latest), topics:] = attributes.get(shopper, 0)
        wanted_of[row, : len(latest)] = wanted[latest] / wanted[latest].sum(axis=1, keepdims=True)
    return Interests(shoppers, known_of, wanted_of)


def split(data: Interests, seed: int) -> Split:
    """By a hash of the seed and each shopper's id: 70 of 100 to learn from, 10 to choose by, 20 to measure on.

    Raises ValueError where a part would be empty.
    """
    places = np.array([bucket(f"{seed}:{shopper}", 100) for shopper in data.shoppers], np.int64)
    told = places < _VALIDATED + _TESTED
    rows = [np.flatnonzero(part) for part in (~told, told & (places >= _TESTED), places < _TESTED)]
    if not all(map(len, rows)):
        raise ValueError(f"shoppers: {len(data)} with a moment are too few to split in three")
    return Split(*map(data.take, rows))


def _hashed(attributes: dict[str, list[str]]) -> Float32:
    out = np.zeros(ATTRIBUTES, np.float32)
    for name, values in attributes.items():
        for value in values:
            out[bucket(f"{name}={value}", ATTRIBUTES)] += 1
    found: Float32 = out / max(float(np.linalg.norm(out)), 1e-12)
    return found
