"""The behaviour space: items from their id and content, shoppers from their events by a Transformer.

SASRec (Kang and McAuley 2018) with a cosine head; one forward pass a moment of a shopper, so that every event's age at
that moment is known, as it is in serving.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from services.domain.ages import GAP_BUCKETS
from souk.types.v1 import types_pb2
from training.ranker.config import RankerConfig

TYPES = max(types_pb2.EventType.values()) + 1
_FIRST_SCALE = 12.0
_MAX_SCALE = 60.0
# Instead of minus infinity, which would be no number where nothing is left.
_NEVER = -1e9


class Items(nn.Module):
    """Vectors of n items: normalise(id + content W + b). `content` (n, content_dim), zeros where unreadable."""

    def __init__(self, content: Tensor, dim: int) -> None:
        super().__init__()
        self.ids = nn.Parameter(torch.randn(len(content), dim) / math.sqrt(dim) * 0.5)
        self.projection = nn.Linear(content.shape[1], dim)
        nn.init.normal_(self.projection.weight, std=1 / math.sqrt(dim))
        nn.init.zeros_(self.projection.bias)
        self.register_buffer("content", content, persistent=False)
        self.register_buffer("readable", (content != 0).any(dim=1, keepdim=True).float(), persistent=False)

    def forward(self, id_dropout: float = 0.0, chosen: Tensor | None = None) -> Tensor:
        """(n, dim), of length 1; of the chosen items alone, (chosen,), where they are given. A readable item stands
        without its id at the chance given."""
        ids: Tensor = self.ids
        readable: Tensor = self.readable  # type: ignore[assignment]
        content: Tensor = self.content  # type: ignore[assignment]
        if chosen is not None:
            ids, readable, content = ids[chosen], readable[chosen], content[chosen]
        if id_dropout:
            kept = (torch.rand_like(readable) >= id_dropout).float()
            ids = ids * torch.maximum(kept, 1 - readable)
        projected = self.projection(content) * readable
        return F.normalize(ids + projected, dim=1)


class Block(nn.Module):
    """One layer of a Transformer, normalised first (Xiong et al. 2020)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.before_widening = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, 2 * dim)
        self.narrow = nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor, last_only: bool) -> Tensor:
        """x (batch, length, dim); bias (batch, 1, 1, length) is added to what every place attends to.

        `last_only`: only the last place is worked out, (batch, 1, dim): all that the last layer is asked for.
        """
        batch, length, dim = x.shape
        size = dim // self.heads
        normal = self.before_attention(x)
        key, value = self.key_value(normal).reshape(batch, length, 2, self.heads, size).permute(2, 0, 3, 1, 4).unbind(0)
        if last_only:
            x, normal = x[:, -1:], normal[:, -1:]
        query = self.query(normal).reshape(batch, -1, self.heads, size).transpose(1, 2)
        weights = (query @ key.transpose(-1, -2) / math.sqrt(size) + bias).softmax(dim=-1)
        attended = (weights @ value).transpose(1, 2).reshape(batch, -1, dim)
        x = x + self.dropout(self.out(attended))
        widened: Tensor = x + self.dropout(self.narrow(F.gelu(self.widen(self.before_widening(x)))))
        return widened


class Shopper(nn.Module):
    """A shopper's events -> the shopper's vector; what serving runs as shopper.onnx."""

    def __init__(self, config: RankerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.max_history = config.max_history
        self.item = nn.Linear(dim, dim)
        self.types = nn.Embedding(TYPES, dim)
        self.gaps = nn.Embedding(GAP_BUCKETS, dim)
        self.places = nn.Embedding(config.max_history, dim)
        self.now = nn.Parameter(torch.zeros(dim))
        for table in (self.types, self.gaps, self.places):
            nn.init.normal_(table.weight, std=0.1)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(dim, config.heads, config.dropout) for _ in range(config.layers))
        self.last = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, dim)
        self.weigh = nn.Linear(dim, 1)

    def forward(self, items: Tensor, types: Tensor, gaps: Tensor, mask: Tensor) -> Tensor:
        """Oldest first, padded on the right. items (batch, length, dim), types and gaps int64, mask bool (batch,
        length) -> (batch, dim) of length 1. Without any event it is the vector of nobody in particular."""
        batch, length = mask.shape
        real = mask.unsqueeze(-1).to(items.dtype)
        # Counted from the newest: 0 is the last event.
        counts = mask.to(torch.int64).sum(dim=1, keepdim=True)
        place = (counts - 1 - torch.arange(length, device=mask.device)).clamp(0, self.max_history - 1)
        x = self.item(items) * math.sqrt(items.shape[-1]) + self.types(types) + self.gaps(gaps) + self.places(place)
        # A place of its own for the present reads the others.
        x = torch.cat([x * real, self.now.expand(batch, 1, -1)], dim=1)
        padding = (~mask).to(items.dtype) * _NEVER
        bias = torch.cat([padding, torch.zeros_like(padding[:, :1])], dim=1)[:, None, None, :]
        x = self.dropout(x)
        *inner, last = self.blocks
        for block in inner:
            x = block(x, bias, False)
        # What was met speaks for itself, each event as much as the model says; the head adds what follows from it.
        weights = (self.weigh(x[:, :-1]).squeeze(-1) + padding).softmax(dim=-1).unsqueeze(1)
        met = ((weights * mask.unsqueeze(1)) @ items).squeeze(1)
        return F.normalize(self.head(self.last(last(x, bias, True)[:, 0])) + met, dim=1)


class Ranker(nn.Module):
    """Items and shoppers of one behaviour space, and how sharp their cosines are."""

    def __init__(self, config: RankerConfig, content: Tensor) -> None:
        super().__init__()
        self.items = Items(content, config.dim)
        self.shopper = Shopper(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(_FIRST_SCALE)))

    def scale(self) -> Tensor:
        """What a cosine is multiplied with before the softmax."""
        return self.log_scale.exp().clamp(max=_MAX_SCALE)
