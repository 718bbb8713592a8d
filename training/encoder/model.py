"""A trainable encoder on disk: a Hugging Face directory of a mean-pooled BERT, read, written and run."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from souk.vectors import Float32
from training.encoder.card import ExportError
from training.encoder.export import SentenceEncoder, read_model
from training.new_directory import new_directory

TRAINING = "training.json"
# Of one forward pass: bounds its memory whatever the texts are.
_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Model:
    """A mean-pooled BERT with its tokenizer, which neither pads nor truncates; `max_tokens` is what serving reads."""

    module: SentenceEncoder
    tokenizer: Tokenizer
    max_tokens: int

    @property
    def dim(self) -> int:
        """Dimensions of its vectors."""
        size: int = self.module.model.config.hidden_size
        return size

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.module.parameters()).device


def load(directory: Path) -> Model:
    """The encoder in a Hugging Face directory, on the CPU. Raises ExportError where it is not a mean-pooled BERT."""
    return Model(*read_model(directory))


def save(model: Model, out: Path, facts: dict[str, Any], files: Mapping[str, bytes] | None = None) -> None:
    """Writes the directory that `load`, `encoder export` and sentence-transformers read.

    `facts` (settings, data, metrics: JSON values) are kept beside it as training.json, and so are `files`, by name. It
    appears under its name only when all of it is there. Raises ExportError where `out` exists.
    """
    if out.exists():
        raise ExportError(f"{out}: exists already; name a new directory with --out")
    with new_directory(out) as draft:
        model.module.model.save_pretrained(draft)
        save_tokenizer(model.tokenizer, draft)
        (draft / "1_Pooling").mkdir()
        pooling = {"word_embedding_dimension": model.dim, "pooling_mode_mean_tokens": True}
        # modules.json is how sentence-transformers finds the parts.
        kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(kinds)
        ]
        for name, value in (
            ("1_Pooling/config.json", pooling),
            ("sentence_bert_config.json", {"max_seq_length": model.max_tokens, "do_lower_case": False}),
            ("modules.json", modules),
            (TRAINING, facts),
        ):
            (draft / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (draft / "2_Normalize").mkdir()
        for name, content in (files or {}).items():
            (draft / name).write_bytes(content)


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json, as BERT's tokenizers have them."""
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(directory)


def tokens(model: Model, texts: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
    """Token ids of each text, cut as serving cuts: the last token kept is the closing one."""
    limit = min(max_tokens or model.max_tokens, model.max_tokens)
    encodings = model.tokenizer.encode_batch_fast(list(texts))
    return [one.ids if len(one.ids) <= limit else [*one.ids[: limit - 1], one.ids[-1]] for one in encodings]


def padded(sequences: Sequence[Sequence[int]], device: torch.device, pad: int = 0) -> tuple[Tensor, Tensor]:
    """(input_ids, attention_mask), both int64 (batch, longest)."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return ids.to(device), mask.to(device)


def token_states(model: Model, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """The last layer's states of the tokens, (b, longest, dim), and their mask: what heads read."""
    input_ids, mask = padded(ids, model.device)
    found = model.module.model(
        input_ids=input_ids, attention_mask=mask, token_type_ids=torch.zeros_like(input_ids)
    ).last_hidden_state
    return found, mask


def encode(model: Model, texts: Sequence[str], max_tokens: int | None = None, precision: str = "fp32") -> Float32:
    """Vectors of length 1, float32 (n, dim), without dropout; the module's mode is as before afterwards."""
    out = np.zeros((len(texts), model.dim), np.float32)
    ids = tokens(model, texts, max_tokens)
    training = model.module.training
    model.module.eval()
    device = model.device
    with torch.inference_mode(), autocast(device, precision):
        for rows in by_length(ids):
            _, vectors = model.module(*padded([ids[row] for row in rows], device))
            out[rows] = vectors.float().cpu().numpy()
    model.module.train(training)
    return out


def by_length(ids: Sequence[Sequence[int]], most: int = _BATCH_TOKENS) -> Iterator[list[int]]:
    """Batches of rows, shortest first, each of at most `most` tokens once padded, but of one row at least."""
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    begin = 0
    while begin < len(order):
        end = begin + 1
        # In order of length, so the next is the longest of its batch.
        while end < len(order) and (end - begin + 1) * len(ids[order[end]]) <= most:
            end += 1
        yield order[begin:end]
        begin = end


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which products are computed in bfloat16, if `precision` is "bf16"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
