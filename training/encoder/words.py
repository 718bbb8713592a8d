"""The head that guesses hidden words: what pre-training by gaps learns beside the encoder, and keeps."""

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from training.encoder.card import ExportError
from training.encoder.model import Model

FILE = "words.safetensors"


class Words(torch.nn.Module):
    """Logits over the vocabulary, by BERT's transform and its own embeddings: (n, dim) -> (n, vocabulary)."""

    def __init__(self, bert: Any) -> None:
        super().__init__()
        dim = bert.config.hidden_size
        self.dense = torch.nn.Linear(dim, dim)
        self.norm = torch.nn.LayerNorm(dim)
        self.bias = torch.nn.Parameter(torch.zeros(bert.config.vocab_size))

    def forward(self, states: Tensor, embeddings: Tensor) -> Tensor:
        """States (n, dim) of tokens, the encoder's word embeddings (vocabulary, dim)."""
        return F.linear(self.norm(F.gelu(self.dense(states))), embeddings, self.bias)

    def files(self) -> dict[str, bytes]:
        """What is kept beside the encoder; the embeddings are the encoder's own and not kept twice."""
        return {FILE: safetensors.torch.save({name: one.cpu() for name, one in self.state_dict().items()})}


def load_words(directory: Path, model: Model) -> Words | None:
    """The head beside the encoder in `directory`, on the encoder's device; None where pre-training has left none.

    Raises ExportError where it is of another encoder.
    """
    if not (directory / FILE).is_file():
        return None
    words = Words(model.module.model)
    try:
        words.load_state_dict(safetensors.torch.load_file(directory / FILE))
    except (RuntimeError, SafetensorError) as error:
        raise ExportError(f"{directory / FILE}: not the head of the encoder beside it ({error})") from None
    return words.to(model.device).eval()
