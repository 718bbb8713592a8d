"""Layers and attention heads that a text's vector can do without: found by leaving each out, the least missed first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.encoder.adapters import bottleneck_width
from training.encoder.attention import head_size, keep_heads, kept_heads
from training.encoder.config import ConfigError
from training.encoder.distil import with_layers
from training.encoder.model import Model, encode


@dataclass(frozen=True)
class Pruned:
    """A smaller model and the mean cosine to the original's vectors.

    `layers`: the numbers of those that are left. `heads`: of each of these the numbers of its heads that are left, none
    where all are. Both count as in the original.
    """

    model: Model
    layers: list[int]
    heads: list[list[int]]
    cosine: float


def prune(
    model: Model,
    layers: int | None,
    heads: int | None,
    texts: Sequence[str],
    max_tokens: int,
    step: Callable[[str], None],
) -> Pruned:
    """Leaves `layers` layers, then `heads` heads in each of them, so that the vectors of the texts move little; None
    leaves all. Nothing is learned: `encoder distil` brings back what was lost.

    Raises ConfigError where that is not fewer than there are, for heads of a model with bottlenecks, or without a text.
    """
    config = model.module.model.config
    if layers is None and heads is None:
        raise ConfigError("layers, heads: one of them must be given")
    if layers is not None:
        _fewer("layers", layers, config.num_hidden_layers)
    if heads is not None:
        _fewer("heads", heads, kept_heads(config) or config.num_attention_heads)
        if bottleneck_width(config):
            raise ConfigError("heads: the model has bottlenecks; leave out heads first and train these on what is left")
    if not texts:
        raise ConfigError("texts: at least one is needed to tell what is missed")
    original = encode(model, texts, max_tokens)

    def cosine(tried: Model) -> float:
        return float(np.mean((encode(tried, texts, max_tokens) * original).sum(axis=1)))

    kept = list(range(config.num_hidden_layers))
    if layers is not None:
        kept = _layers(model, layers, cosine, step)
    smaller, kept_of_each = with_layers(model, kept), []
    if heads is not None:
        kept_of_each = _heads(smaller, heads, cosine, step)
    return Pruned(smaller, kept, kept_of_each, cosine(smaller))


def _layers(model: Model, layers: int, cosine: Callable[[Model], float], step: Callable[[str], None]) -> list[int]:
    """Numbers of the layers that stay: one after the other is left out, each time the one that is missed least
    (greedy, as Sajjad et al. 2023 compare)."""
    kept = list(range(model.module.model.config.num_hidden_layers))
    while len(kept) > layers:
        tried = []
        for number in kept:
            rest = [one for one in kept if one != number]
            tried.append((cosine(with_layers(model, rest)), rest))
        best, kept = max(tried)
        step(f"{len(kept)} layers: cosine {best:.4f}")
    return kept


def _heads(model: Model, heads: int, cosine: Callable[[Model], float], step: Callable[[str], None]) -> list[list[int]]:
    """Leaves in each layer of the model the heads that are missed most when one alone is left out (Michel et al. 2019,
    section 3.2), from the first layer to the last; gives their numbers. A layer is looked at with those before it as
    they are left, since it reads what they write."""
    bert = model.module.model
    size = head_size(bert.config)
    kept = []
    for place, layer in enumerate(bert.encoder.layer, 1):
        weight = layer.attention.output.dense.weight
        whole = weight.detach().clone()
        has = whole.shape[1] // size
        alone = []
        for number in range(has):
            _silence(weight, [number], size)
            alone.append(cosine(model))
            weight.data.copy_(whole)
        stay = sorted(np.argsort(alone, kind="stable")[:heads].tolist())
        _silence(weight, [number for number in range(has) if number not in stay], size)
        kept.append(stay)
        step(f"{heads} heads in {place} of {len(bert.encoder.layer)} layers: cosine {cosine(model):.4f}")
    keep_heads(bert, kept)
    return kept


def _silence(weight: torch.Tensor, numbers: Sequence[int], size: int) -> None:
    """Takes the heads' part out of the product that reads them: what comes of it is as without these heads."""
    for number in numbers:
        weight.data[:, number * size : (number + 1) * size] = 0


def _fewer(name: str, asked: int, has: int) -> None:
    if not 1 <= asked < has:
        raise ConfigError(f"{name}: must be from 1 to {has - 1}, fewer than the model's {has}, not {asked}")
