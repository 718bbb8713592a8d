"""What an exported encoder must prove before it may serve: it says what PyTorch says, alone and in any company."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from training.encoder.card import ExportError
from training.encoder.release import MIN_INVARIANCE, MIN_PARITY_OF

MIN_PARITY = MIN_PARITY_OF["fp32"]

_PHRASE = "The stand holds two monitors of up to 32 inches, turns by 90 degrees and is screwed or clamped to the desk. "

# Short, long, model numbers, marks, another script, one beyond any limit: what a shop's queries and items look like.
GATE_TEXTS: tuple[str, ...] = (
    "tv",
    "red running shoes",
    "WH-1000XM4",
    "usb-c to hdmi 2.1 cable 3m",
    "men's waterproof jacket, size XL",
    "iphone 13 pro max 256gb case",
    "NVMe SSD 2TB PCIe 4.0 x4 M.2 2280 (7,300 MB/s)",
    "crème brûlée torch",
    "无线蓝牙耳机",
    "HP 305XL (3YM63AE) ink, tri-colour",
    "a gift for a ten-year-old who likes dinosaurs and volcanoes",
    "Sony noise cancelling headphones. Sony. Audio, Headphones. colour black, weight 254 g",
    "!!! ??? ...",
    "ThinkPad T14s Gen 4 21F6004BGE 14 inch WUXGA Ryzen 7 PRO 7840U 32GB 1TB",
    _PHRASE,
    _PHRASE * 3,
    _PHRASE * 12,
)


class GateError(ExportError):
    """An encoder failed a gate; the message says which and by how much."""


@dataclass(frozen=True)
class Gates:
    """Lowest cosines measured over GATE_TEXTS."""

    parity: float
    """ONNX against PyTorch, or against the ONNX it was rounded from, each text alone."""
    invariance: float
    """A text alone against the same text in a batch of mixed lengths."""

    def check(self, precision: str = "fp32") -> None:
        """Raises GateError when a cosine lies below its limit."""
        failed = [
            f"{name}: min cosine {value:.6f} is {limit - value:.6f} below the limit {limit}"
            for name, value, limit in (
                ("parity with PyTorch", self.parity, MIN_PARITY_OF[precision]),
                ("batch invariance", self.invariance, MIN_INVARIANCE),
            )
            if not value >= limit
        ]
        if failed:
            raise GateError("; ".join(failed))

    def metrics(self) -> dict[str, float]:
        """As a bundle's manifest records them."""
        return {f"encoder.{name}_min_cosine": value for name, value in asdict(self).items()}


def measure(
    module: torch.nn.Module, session: onnxruntime.InferenceSession, tokenizer: Tokenizer, max_tokens: int
) -> Gates:
    """Embeds GATE_TEXTS by both engines. `module` maps (input_ids, attention_mask) to (pooled, sentence_embedding)."""
    sequences = _sequences(tokenizer, max_tokens)
    return _gates([_torch(module, sequence) for sequence in sequences], session, sequences)


def measure_rounded(
    original: onnxruntime.InferenceSession, session: onnxruntime.InferenceSession, tokenizer: Tokenizer, max_tokens: int
) -> Gates:
    """As `measure`, against the ONNX model that the session's was rounded from."""
    sequences = _sequences(tokenizer, max_tokens)
    return _gates([_onnx(original, [sequence]) for sequence in sequences], session, sequences)


def _gates(
    reference: list[list[NDArray[np.float32]]], session: onnxruntime.InferenceSession, sequences: list[list[int]]
) -> Gates:
    alone = [_onnx(session, [sequence]) for sequence in sequences]
    batched = _onnx(session, sequences)
    outputs = range(2)
    return Gates(
        parity=min(_cosine(a[i][0], r[i][0]) for a, r in zip(alone, reference, strict=True) for i in outputs),
        invariance=min(_cosine(a[i][0], batched[i][row]) for row, a in enumerate(alone) for i in outputs),
    )


def _sequences(tokenizer: Tokenizer, max_tokens: int) -> list[list[int]]:
    return [_cut(tokenizer.encode(text).ids, max_tokens) for text in GATE_TEXTS]


def _cut(ids: list[int], max_tokens: int) -> list[int]:
    return ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]]


def _onnx(session: onnxruntime.InferenceSession, sequences: Sequence[list[int]]) -> list[NDArray[np.float32]]:
    longest = max(map(len, sequences))
    ids = np.zeros((len(sequences), longest), np.int64)
    mask = np.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    outputs: list[NDArray[np.float32]] = session.run(
        ["pooled", "sentence_embedding"], {"input_ids": ids, "attention_mask": mask}
    )
    return outputs


def _torch(module: torch.nn.Module, sequence: list[int]) -> list[NDArray[np.float32]]:
    ids = torch.tensor([sequence])
    with torch.inference_mode():
        return [output.numpy() for output in module(ids, torch.ones_like(ids))]


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))
