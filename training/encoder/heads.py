"""Heads on the encoder's token states: auxiliary tasks that teach it categories and relevance, kept beside it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from souk.vectors import Float32
from training.encoder.model import Model, token_states, tokens

WEIGHTS, FACTS = "heads.safetensors", "heads.json"
_AT_ONCE = 64
# Dimensions of an attention head, as MiniLM has them.
_HEAD = 32


class AttentionPooling(torch.nn.Module):
    """The mean of the tokens weighted by a learned query (Bahdanau et al. 2015): (b, l, dim), (b, l) -> (b, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = torch.nn.Linear(dim, 1)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """`mask`: 1 for a token, 0 for padding."""
        scores = self.query(states)[..., 0].masked_fill(mask == 0, float("-inf"))
        found: Tensor = (scores.softmax(dim=1)[..., None] * states).sum(dim=1)
        return found


class MeanPooling(torch.nn.Module):
    """The mean of the tokens: (b, l, dim), (b, l) -> (b, dim)."""

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """`mask`: 1 for a token, 0 for padding."""
        weights = mask[..., None].to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)


class CategoryHead(torch.nn.Module):
    """A linear classifier of an item's category: logits (b, classes)."""

    def __init__(self, dim: int, classes: int, pooling: torch.nn.Module) -> None:
        super().__init__()
        self.pooling = pooling
        self.linear = torch.nn.Linear(dim, classes)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Token states (b, l, dim) of the item and their mask."""
        logits: Tensor = self.linear(self.pooling(states, mask))
        return logits


class RelevanceHead(torch.nn.Module):
    """A linear classifier of (q, i, |q - i|, q * i) (Reimers and Gurevych 2019, with the product): logits (b,)."""

    def __init__(self, dim: int, pooling: torch.nn.Module) -> None:
        super().__init__()
        self.pooling = pooling
        self.linear = torch.nn.Linear(4 * dim, 1)

    def forward(self, query: Tensor, query_mask: Tensor, item: Tensor, item_mask: Tensor) -> Tensor:
        """Token states (b, l, dim) of queries and items and their masks."""
        q, i = self.pooling(query, query_mask), self.pooling(item, item_mask)
        logits: Tensor = self.linear(torch.cat([q, i, (q - i).abs(), q * i], dim=1))
        return logits[:, 0]


class DecoderHead(torch.nn.Module):
    """Scores query and item together: two causal layers read the tokens of the query, of the item, and a last one
    of their own that tells the score, as a decoder does (Nogueira et al. 2020)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.end = torch.nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.kind = torch.nn.Parameter(torch.randn(2, dim) * 0.02)
        layer = torch.nn.TransformerEncoderLayer(dim, max(1, dim // _HEAD), 2 * dim, batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.linear = torch.nn.Linear(dim, 1)

    def forward(self, query: Tensor, query_mask: Tensor, item: Tensor, item_mask: Tensor) -> Tensor:
        """Token states (b, l, dim) of queries and items and their masks; logits (b,)."""
        end = self.end.expand(len(query), -1, -1)
        read = torch.cat([query + self.kind[0], item + self.kind[1], end], dim=1)
        padding = torch.cat([query_mask == 0, item_mask == 0, query_mask[:, :1] == 0], dim=1)
        causal = torch.ones(read.shape[1], read.shape[1], dtype=torch.bool, device=read.device).triu(1)
        logits: Tensor = self.linear(self.layers(read, mask=causal, src_key_padding_mask=padding))
        return logits[:, -1, 0]


class Heads(torch.nn.Module):
    """The heads that have a weight above 0, and their weighted loss. `classes` are the names of the categories."""

    def __init__(
        self, dim: int, classes: Sequence[str], pooling: str, category: float, relevance: float, decoder: float
    ) -> None:
        super().__init__()
        self.classes, self._pooling = list(classes), pooling
        made = AttentionPooling if pooling == "attention" else lambda _: MeanPooling()
        self.weights = {"category": category, "relevance": relevance, "decoder": decoder}
        self.category = CategoryHead(dim, len(classes), made(dim)) if category and classes else None
        self.relevance = RelevanceHead(dim, made(dim)) if relevance else None
        self.decoder = DecoderHead(dim) if decoder else None

    def used(self) -> bool:
        """Whether there is any."""
        return any(True for _ in self.children())

    def files(self) -> dict[str, bytes]:
        """What `load_heads` reads, by name; nothing where there is no head."""
        if not self.used():
            return {}
        facts = {"classes": self.classes, "pooling": self._pooling, **self.weights}
        weights = {name: one.detach().cpu().contiguous() for name, one in self.state_dict().items()}
        return {
            WEIGHTS: safetensors.torch.save(weights),
            FACTS: (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode(),
        }

    def loss(
        self,
        queries: tuple[Tensor, Tensor],
        items: tuple[Tensor, Tensor],
        labels: Tensor,
        others: Tensor,
        strange: Tensor,
    ) -> Tensor:
        """The weighted sum, a scalar. Queries and items: (states, mask), row by row a query and its answer.

        `labels` (b,): categories, -1 for none. `others` (b,): for each query the row of another item; it counts where
        `strange` (b,) says that this one is no answer.
        """
        total = items[0].sum() * 0
        if self.category is not None and bool((labels >= 0).any()):
            logits = self.category(*items)
            total = total + self.weights["category"] * F.cross_entropy(logits, labels, ignore_index=-1)
        swapped = tuple(one[others] for one in items)
        for name in ("relevance", "decoder"):
            head = getattr(self, name)
            if head is not None:
                right, wrong = head(*queries, *items), head(*queries, *swapped)
                wrong_loss = (F.softplus(wrong) * strange).sum() / strange.sum().clamp(min=1)
                total = total + self.weights[name] * (F.softplus(-right).mean() + wrong_loss) / 2
        return total


def load_heads(directory: Path, model: Model) -> Heads:
    """The heads that were trained with the model of this directory, where it is. Raises FileNotFoundError."""
    if not (directory / FACTS).is_file():
        raise FileNotFoundError(f"{directory / FACTS}: missing; finetune with category, relevance or decoder above 0")
    heads = Heads(model.dim, **json.loads((directory / FACTS).read_text(encoding="utf-8")))
    heads.load_state_dict(safetensors.torch.load_file(directory / WEIGHTS))
    return heads.to(model.device).eval()


def classify(
    model: Model, heads: Heads, items: Sequence[str], max_tokens: int | None = None
) -> list[tuple[str, float]]:
    """The likeliest category of each item's text, and its probability. Raises ValueError without that head."""
    if heads.category is None:
        raise ValueError("category: the model was trained without this head")
    found: list[tuple[str, float]] = []
    with torch.inference_mode():
        for states in _read(model, items, max_tokens):
            shares, numbers = heads.category(*states).softmax(dim=1).max(dim=1)
            found += zip([heads.classes[number] for number in numbers.tolist()], shares.tolist(), strict=True)
    return found


def relevance(
    model: Model, heads: Heads, queries: Sequence[str], items: Sequence[str], max_tokens: int | None = None
) -> Float32:
    """How probable it is that an item's text answers the query of its place, float32 (n,). Raises ValueError without
    that head."""
    if heads.relevance is None:
        raise ValueError("relevance: the model was trained without this head")
    with torch.inference_mode():
        read = zip(_read(model, queries, max_tokens), _read(model, items, max_tokens), strict=True)
        parts = [heads.relevance(*query, *item).sigmoid().cpu().numpy() for query, item in read]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _read(model: Model, texts: Sequence[str], max_tokens: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    model.module.eval()
    for begin in range(0, len(texts), _AT_ONCE):
        yield token_states(model, tokens(model, texts[begin : begin + _AT_ONCE], max_tokens))
