"""Trains the topics of a catalogue and writes them down, with the blend that was learned."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from services.domain.bundle import ColdstartManifest
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.coldstart.card import BLEND, CARD, TOPICS, ColdstartCard
from training.coldstart.learn import Learned
from training.coldstart.topics import agreement, cluster, how_many, labels, softmax_of
from training.new_directory import new_directory

_MIN_ITEMS = 10


def train_coldstart(
    items: Sequence[types_pb2.Item],
    content: Float32,
    content_space: str,
    out: Path,
    topics: int | None,
    seed: int,
    blend: Learned | None = None,
) -> ColdstartCard:
    """Writes the new directory `out`: topics.npz, coldstart.json and, where there is a blend, blend.npz.

    `content`: normalised vectors (n, dim), zeros where the encoder cannot read an item. `topics` None: by the size of
    the catalogue. Raises FileExistsError, and ValueError where too few items can be read.
    """
    if out.exists():
        raise FileExistsError(f"{out}: exists already; name a new directory with --out")
    rows = np.flatnonzero(content.any(axis=1))
    if len(rows) < _MIN_ITEMS:
        raise ValueError(f"items: the encoder reads {len(rows)}; topics need at least {_MIN_ITEMS}")
    vectors, readable = content[rows], [items[row] for row in rows.tolist()]
    topic = cluster(vectors, min(topics or how_many(len(rows)), len(rows)), seed)
    weights, bias = softmax_of(vectors, topic)
    names = labels(readable, topic)
    metrics = {
        "coldstart.topics": float(len(names)),
        "coldstart.items_read": len(rows) / len(items),
        "coldstart.softmax_accuracy": float(((vectors @ weights.T + bias).argmax(axis=1) == topic).mean()),
    }
    paths = [" > ".join(item.category_path) for item in readable]
    if len(set(paths)) > 1:
        category = np.unique(paths, return_inverse=True)[1].astype(np.int64)
        metrics["coldstart.category_nmi"] = agreement(topic, category)
    digest = hashlib.sha256(json.dumps([content_space, names]).encode() + weights.tobytes() + bias.tobytes())
    manifest = ColdstartManifest(digest.hexdigest(), content_space, names)
    if blend is not None:
        manifest = replace(manifest, blend=f"coldstart/{BLEND}")
        metrics |= blend.metrics
    card = ColdstartCard(manifest, metrics)
    with new_directory(out) as draft:
        np.savez(draft / TOPICS, W=weights, b=bias)
        if blend is not None:
            blend.blended.write(draft / BLEND)
        card.write(draft / CARD)
    return card
