"""Items and the shopper's Transformer: causal, so that one pass over a history learns at every place of it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from training.ranker.sequences.config import SequencesConfig

# Small at first, as in BERT: what sets items apart is learned, not drawn.
_SPREAD = 0.02
_OF_FACTS = 0.06
# Instead of minus infinity, which would be no number where nothing is left.
_NEVER = -1e9


@dataclass(frozen=True)
class Facts:
    """What is known of n items. `vectors` (n, k) float32: of their content, zeros where there is no text, or,
    where no file tells any, of where they stand in the graph of what follows what. `bags` (n, attributes) sparse
    float32, rows of length 1 or empty; None where no file tells."""

    vectors: Tensor
    bags: Tensor | None = None


class Dropout(nn.Module):
    """As nn.Dropout, to 1/256, from random bytes: torch's own draws take four times as long (measured)."""

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.below = round(chance * 256)

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        if not self.training or not self.below:
            return x
        noise = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        kept = noise.view(torch.uint8)[: x.numel()].view(x.shape) >= self.below
        return x * kept * (256 / (256 - self.below))


class Items(nn.Module):
    """Vectors of n items: id + vector W + b + mean of attributes."""

    def __init__(self, dim: int, facts: Facts) -> None:
        super().__init__()
        self.ids = nn.Parameter(torch.randn(len(facts.vectors), dim) * _SPREAD)
        self.facts = facts
        self.projection = nn.Linear(facts.vectors.shape[1], dim)
        nn.init.normal_(self.projection.weight, std=_OF_FACTS)
        nn.init.zeros_(self.projection.bias)
        self.attributes = None
        if facts.bags is not None:
            self.attributes = nn.Parameter(torch.randn(facts.bags.shape[1], dim) * _SPREAD)

    def forward(self) -> Tensor:
        """(n, dim)."""
        out: Tensor = self.ids + self.projection(self.facts.vectors)
        if self.attributes is not None:
            out = out + torch.sparse.mm(self.facts.bags, self.attributes)
        return out


class Block(nn.Module):
    """One layer of a Transformer, normalised last (Vaswani et al. 2017)."""

    def __init__(self, config: SequencesConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.after_attention = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, 4 * dim)
        self.narrow = nn.Linear(4 * dim, dim)
        self.after_widening = nn.LayerNorm(dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """x (rows, length, dim); hidden (rows, length, length), added to what a place attends to."""
        rows, length, dim = x.shape
        size = dim // self.heads
        mixed = self.query_key_value(x).reshape(rows, length, 3, self.heads, size)
        query, key, value = mixed.permute(2, 0, 3, 1, 4).unbind(0)
        weights = query @ key.transpose(-1, -2) / math.sqrt(size) + hidden.unsqueeze(1)
        attended = (weights.softmax(dim=-1) @ value).transpose(1, 2).reshape(rows, length, dim)
        x = self.after_attention(x + self.dropout(self.out(attended)))
        widened: Tensor = self.after_widening(x + self.dropout(self.narrow(F.gelu(self.widen(x)))))
        return widened


class Shopper(nn.Module):
    """Items met -> the shopper's vector after each of them (SASRec, Kang and McAuley 2018); what serving runs as
    shopper.onnx."""

    def __init__(self, config: SequencesConfig) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(config.max_history, config.dim) * _SPREAD)
        self.first = nn.LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=_SPREAD)
                nn.init.zeros_(module.bias)

    def forward(self, items: Tensor, mask: Tensor) -> Tensor:
        """Oldest first, padded on the right. items (batch, length, dim), mask bool (batch, length), at least one a row,
        at most `max_history` -> (batch, dim)."""
        alone = torch.zeros_like(mask, dtype=torch.int64)
        places = self.places(items, alone, torch.arange(items.shape[1]).expand(alone.shape))
        last = mask.to(torch.int64).sum(dim=1, keepdim=True) - 1
        return places.gather(1, last.unsqueeze(-1).expand(-1, 1, places.shape[-1])).squeeze(1)

    def places(self, items: Tensor, segment: Tensor, number: Tensor) -> Tensor:
        """items (rows, length, dim), segment and number int64 (rows, length) -> (rows, length, dim).

        A place knows itself and what stands before it in its row under its segment's number, nothing else; `number`
        counts the places of a segment from 0.
        """
        place = torch.arange(items.shape[1])
        own = (segment[:, :, None] == segment[:, None, :]) & (place[:, None] >= place)
        hidden = (~own).to(items.dtype) * _NEVER
        x: Tensor = self.dropout(self.first(items + F.embedding(number, self.place)))
        for block in self.blocks:
            x = block(x, hidden)
        return x


class SequenceRanker(nn.Module):
    """Items and shoppers of one space; an item's score is the product of both vectors."""

    def __init__(self, config: SequencesConfig, facts: Facts) -> None:
        super().__init__()
        self.items = Items(config.dim, facts)
        self.shopper = Shopper(config)
