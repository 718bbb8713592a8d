"""Items and the shopper's Transformer: causal, so that one pass over a history learns at every place of it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from training.ranker.sequences.config import SequencesConfig

_FIRST_SCALE = 12.0
# Logits stay far from what float32 can hold as an exponential.
_MAX_SCALE = 60.0
# Instead of minus infinity, which would be no number where nothing is left.
_NEVER = -1e9


@dataclass(frozen=True)
class Facts:
    """What is known of n items beside who met them. `content` (n, k) float32, zeros where there is no text; `bags`
    (n, attributes) sparse float32, rows of length 1 or empty. None where no file tells."""

    content: Tensor | None = None
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
    """Vectors of n items: normalise(id + content W + b + mean of attributes)."""

    def __init__(self, n: int, dim: int, facts: Facts) -> None:
        super().__init__()
        spread = 0.5 / math.sqrt(dim)
        self.ids = nn.Parameter(torch.randn(n, dim) * spread)
        self.facts = facts
        self.projection = None
        if facts.content is not None:
            self.projection = nn.Linear(facts.content.shape[1], dim)
            nn.init.normal_(self.projection.weight, std=spread)
            nn.init.zeros_(self.projection.bias)
        self.attributes = None
        if facts.bags is not None:
            self.attributes = nn.Parameter(torch.randn(facts.bags.shape[1], dim) * spread)

    def forward(self) -> Tensor:
        """(n, dim), of length 1."""
        out: Tensor = self.ids
        if self.projection is not None:
            out = out + self.projection(self.facts.content)
        if self.attributes is not None:
            out = out + torch.sparse.mm(self.facts.bags, self.attributes)
        return F.normalize(out, dim=1)


class Block(nn.Module):
    """One layer of a Transformer, normalised first (Xiong et al. 2020); what is near and what far is learned by how
    many events lie between (Shaw et al. 2018, as one number a head)."""

    def __init__(self, config: SequencesConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.before_attention = nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.distance = nn.Parameter(torch.zeros(config.heads, config.max_history))
        self.before_widening = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, 2 * dim)
        self.narrow = nn.Linear(2 * dim, dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, apart: Tensor, hidden: Tensor) -> Tensor:
        """x (rows, length, dim); apart (length, length) int64, events between two places; hidden (rows or 1, length,
        length), added to what a place attends to."""
        rows, length, dim = x.shape
        size = dim // self.heads
        mixed = self.query_key_value(self.before_attention(x)).reshape(rows, length, 3, self.heads, size)
        query, key, value = mixed.permute(2, 0, 3, 1, 4).unbind(0)
        weights = query @ key.transpose(-1, -2) / math.sqrt(size) + self.distance[:, apart] + hidden.unsqueeze(1)
        attended = (weights.softmax(dim=-1) @ value).transpose(1, 2).reshape(rows, length, dim)
        x = x + self.dropout(self.out(attended))
        widened: Tensor = x + self.dropout(self.narrow(F.gelu(self.widen(self.before_widening(x)))))
        return widened


class Shopper(nn.Module):
    """Items met -> the shopper's vector after each of them; what serving runs as shopper.onnx."""

    def __init__(self, config: SequencesConfig) -> None:
        super().__init__()
        dim = config.dim
        self.max_history = config.max_history
        self.item = nn.Linear(dim, dim)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.last = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, dim)
        self.met = nn.Parameter(torch.zeros(config.max_history))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1 / math.sqrt(dim))
                nn.init.zeros_(module.bias)

    def forward(self, items: Tensor, mask: Tensor) -> Tensor:
        """Oldest first, padded on the right. items (batch, length, dim), mask bool (batch, length), at least one a row
        -> (batch, dim) of length 1."""
        places = self.places(items, torch.zeros_like(mask, dtype=torch.int64))
        last = mask.to(torch.int64).sum(dim=1, keepdim=True) - 1
        return places.gather(1, last.unsqueeze(-1).expand(-1, 1, places.shape[-1])).squeeze(1)

    def places(self, items: Tensor, segment: Tensor) -> Tensor:
        """items (rows, length, dim), segment int64 (rows, length) -> (rows, length, dim) of length 1. A place knows
        itself and what stands before it in its row under its segment's number, nothing else."""
        length = items.shape[1]
        place = torch.arange(length)
        apart = place[:, None] - place
        own = (segment[:, :, None] == segment[:, None, :]) & (apart >= 0)
        hidden = (~own).to(items.dtype) * _NEVER
        apart = apart.clamp(0, self.max_history - 1)
        x = self.dropout(self.item(items) * math.sqrt(items.shape[-1]))
        for block in self.blocks:
            x = block(x, apart, hidden)
        # What was met speaks for itself, by how long ago; the head adds what follows from it.
        met = (self.met[apart] + hidden).softmax(dim=-1) @ items
        return F.normalize(self.head(self.last(x)) + met, dim=-1)


class SequenceRanker(nn.Module):
    """Items and shoppers of one space, and how sharp their cosines are."""

    def __init__(self, config: SequencesConfig, n: int, facts: Facts) -> None:
        super().__init__()
        self.items = Items(n, config.dim, facts)
        self.shopper = Shopper(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(_FIRST_SCALE)))

    def scale(self) -> Tensor:
        """What a cosine is multiplied with before the softmax."""
        return self.log_scale.exp().clamp(max=_MAX_SCALE)
