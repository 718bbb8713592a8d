"""A shopper's interests from events: over topics (readable) and in the content space (dense)."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from services.coldstart.knowledge import Topics
from souk.coldstart.v1 import coldstart_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32

MAX_TOPICS = 16
# What one event says for its item, or against it.
WEIGHTS: Mapping[int, float] = {
    types_pb2.EVENT_TYPE_VIEW: 1.0,
    types_pb2.EVENT_TYPE_CLICK: 1.0,
    types_pb2.EVENT_TYPE_CART: 2.0,
    types_pb2.EVENT_TYPE_PURCHASE: 3.0,
    types_pb2.EVENT_TYPE_UNCART: -0.5,
    types_pb2.EVENT_TYPE_RETURN: -1.0,
    types_pb2.EVENT_TYPE_SKIP: -1.0,
    # For each of up to three items that a search is about: together as much as a view.
    types_pb2.EVENT_TYPE_SEARCH: 1 / 3,
}
_DAY_MS = 86_400_000


def signals(context: coldstart_pb2.ShopperContext) -> list[tuple[str, int, int]]:
    """What was done with items and searched for: (item, type, time in ms), oldest first."""
    found = [(entry.item_id, int(entry.type), entry.time_ms) for entry in context.history]
    for search in context.searches:
        # The best last, since what comes later counts more.
        found += [(item, types_pb2.EVENT_TYPE_SEARCH, search.time_ms) for item in reversed(search.item_ids)]
    return sorted(found, key=lambda each: each[2])


def item_weights(entries: Sequence[tuple[str, int, int]], half_life_days: float) -> dict[str, float]:
    """What the events (item, type, time in ms) say of each item: sums of weights that halve with age.

    Age counts from the latest event, so that a shopper's profile does not fade by waiting.
    """
    latest = max((time_ms for _, _, time_ms in entries), default=0)
    sums: dict[str, float] = {}
    for item, kind, time_ms in entries:
        decay = 2.0 ** (-(latest - time_ms) / (_DAY_MS * half_life_days))
        sums[item] = sums.get(item, 0.0) + WEIGHTS.get(kind, 0.0) * decay
    return sums


def dense(weights: Mapping[str, float], vectors: Mapping[str, Float32]) -> Float32 | None:
    """Weighted sum of the items' content vectors, each of length 1, scaled to length 1; None without direction."""
    known = [item for item in weights if item in vectors and weights[item]]
    if not known:
        return None
    rows = np.stack([vectors[item] for item in known])
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    total = _scaled([weights[item] for item in known]) @ rows
    length = float(np.linalg.norm(total))
    return (total / length).astype(np.float32) if length > 1e-6 else None


def interests(weights: Mapping[str, float], vectors: Mapping[str, Float32], topics: Topics) -> Float32 | None:
    """Mean of the items' topic vectors, weighted by what speaks for them: (topics,), summing to 1; None without."""
    liked = [item for item in weights if item in vectors and weights[item] > 0]
    if not liked:
        return None
    shares = _scaled([weights[item] for item in liked])
    mean: Float32 = (shares @ topics.of(np.stack([vectors[item] for item in liked])) / shares.sum()).astype(np.float32)
    return mean


def topic_shares(vector: Float32, topics: Topics) -> list[coldstart_pb2.TopicShare]:
    """The 16 largest shares of a topic vector (topics,), largest first."""
    best = np.argsort(-vector, kind="stable")[:MAX_TOPICS]
    return [
        coldstart_pb2.TopicShare(topic=int(topic), label=topics.labels[topic], share=float(vector[topic]))
        for topic in best
    ]


def topic_vector(shares: Sequence[coldstart_pb2.TopicShare], count: int) -> Float32:
    """The topic vector (count,) that shares were told of; what was not told is 0."""
    vector = np.zeros(count, np.float32)
    for share in shares:
        if share.topic < count:
            vector[share.topic] = share.share
    return vector


def _scaled(weights: Sequence[float]) -> NDArray[np.float64]:
    """Weights with the largest 1: those of long ago beside one event of now are too small for float32."""
    array = np.array(weights)
    scaled: NDArray[np.float64] = array / np.abs(array).max()
    return scaled
