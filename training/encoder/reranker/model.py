"""The cross-encoder: a BERT that reads query and item as one text, and one number."""

from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from services.domain.reranking import batch, joined
from souk.vectors import Float32

_AT_ONCE = 64


class CrossEncoder(torch.nn.Module):
    """From (input_ids, attention_mask, token_type_ids), all int64 (n, length), to the relevance, float32 (n,), 0 to 1.

    The mean over the tokens and a linear layer (as Nogueira and Cho 2019, with the mean for [CLS]: it begins with a
    model that was pooled so). `logits` gives the same before the sigmoid.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.head = torch.nn.Linear(model.config.hidden_size, 1)

    def logits(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """float32 (n,)."""
        hidden = self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        found: Tensor = self.head(pooled).squeeze(-1)
        return found

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """The relevance."""
        return torch.sigmoid(self.logits(input_ids, attention_mask, token_type_ids))


class Reader:
    """A cross-encoder with its tokenizer: texts in, numbers out, as serving reads them."""

    def __init__(self, module: CrossEncoder, tokenizer: Tokenizer, max_tokens: int) -> None:
        self.module, self.tokenizer, self.max_tokens = module, tokenizer, max_tokens

    def inputs(self, pairs: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
        """What the module takes, for (query, item) pairs."""
        asked = self.tokenizer.encode_batch_fast([query for query, _ in pairs])
        items = self.tokenizer.encode_batch_fast([item for _, item in pairs])
        rows = [joined(a.ids, b.ids, self.max_tokens) for a, b in zip(asked, items, strict=True)]
        device = next(self.module.parameters()).device
        return {name: torch.from_numpy(values).to(device) for name, values in batch(rows).items()}

    def logits(self, pairs: Sequence[tuple[str, str]]) -> Float32:
        """float32 (n,), without dropout; the module's mode is as before afterwards."""
        training = self.module.training
        self.module.eval()
        # By length: short pairs need not be padded to long ones.
        order = sorted(range(len(pairs)), key=lambda row: len(pairs[row][1]))
        out = np.zeros(len(pairs), np.float32)
        with torch.inference_mode():
            for begin in range(0, len(order), _AT_ONCE):
                rows = order[begin : begin + _AT_ONCE]
                out[rows] = self.module.logits(**self.inputs([pairs[row] for row in rows])).float().cpu().numpy()
        self.module.train(training)
        return out
