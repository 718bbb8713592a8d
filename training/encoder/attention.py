"""Attention with fewer heads than a BERT's config can say: how many are kept stands there in a word of our own."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

_KEPT = "kept_heads"


def head_size(config: Any) -> int:
    """Dimensions of a head, pruned or not."""
    return int(config.hidden_size // config.num_attention_heads)


def kept_heads(config: Any) -> int:
    """Heads of each layer of a BERT with this config, 0 where none was left out."""
    return int(getattr(config, _KEPT, 0))


def keep_heads(bert: PreTrainedModel, kept: Sequence[Sequence[int]]) -> None:
    """Leaves in each layer only the heads of these numbers, in this order, as many in each; its config says how many,
    and `read_model` of training.encoder.export obeys it."""
    size = head_size(bert.config)
    for layer, numbers in zip(bert.encoder.layer, kept, strict=True):
        places = [number * size + i for number in numbers for i in range(size)]
        attention, output = layer.attention.self, layer.attention.output
        for name in ("query", "key", "value"):
            linear = getattr(attention, name)
            setattr(attention, name, _linear(linear.weight[places], linear.bias[places]))
        output.dense = _linear(output.dense.weight[:, places], output.dense.bias)
    setattr(bert.config, _KEPT, len(kept[0]))


def _linear(weight: Tensor, bias: Tensor) -> torch.nn.Linear:
    made = torch.nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
    with torch.no_grad():
        made.weight.copy_(weight)
        made.bias.copy_(bias)
    return made
