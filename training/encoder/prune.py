"""Layers that a text's vector can do without: found by leaving each out, the least missed first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from training.encoder.config import ConfigError
from training.encoder.distil import with_layers
from training.encoder.model import Model, encode


@dataclass(frozen=True)
class Pruned:
    """A model with fewer layers, their numbers in the original, and the mean cosine to its vectors."""

    model: Model
    layers: list[int]
    cosine: float


def prune(model: Model, layers: int, texts: Sequence[str], max_tokens: int, step: Callable[[str], None]) -> Pruned:
    """Leaves out one layer after the other, each time the one without which the vectors of the texts move least (mean
    cosine to the original's), until `layers` are left (greedy, as Sajjad et al. 2023 compare). Nothing is learned:
    `encoder distil` brings back what was lost. Raises ConfigError where that is no fewer than there are, or no text."""
    has = model.module.model.config.num_hidden_layers
    if not 1 <= layers < has:
        raise ConfigError(f"layers: must be from 1 to {has - 1}, fewer than the model's {has}, not {layers}")
    if not texts:
        raise ConfigError("texts: at least one is needed to tell what is missed")
    original = encode(model, texts, max_tokens)
    kept = list(range(has))
    cosine = 1.0
    while len(kept) > layers:
        tried = []
        for number in kept:
            rest = [one for one in kept if one != number]
            vectors = encode(with_layers(model, rest), texts, max_tokens)
            tried.append((float(np.mean((vectors * original).sum(axis=1))), rest))
        cosine, kept = max(tried)
        step(f"{len(kept)} layers: cosine {cosine:.4f}")
    return Pruned(with_layers(model, kept), kept, cosine)
