"""Exports a cross-encoder to ONNX and proves that it says what PyTorch says, alone and in a batch."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from services.domain.bundle import RerankerManifest
from services.domain.reranking import batch, joined
from training.encoder.gates import GATE_TEXTS
from training.encoder.reranker.card import CARD, MODEL, TOKENIZER, RerankerCard, RerankerError
from training.encoder.reranker.model import Reader
from training.encoder.scripts import covered_scripts
from training.new_directory import new_directory
from training.onnx_file import write_onnx

MOST_DIFFERENT = 1e-4
"""Of the relevance, 0 to 1: ONNX against PyTorch, and a pair alone against the same in a batch."""


def export_reranker(reader: Reader, weight: float, metrics: dict[str, float], out: Path) -> RerankerCard:
    """Writes the new directory `out`: model.onnx, tokenizer.json, reranker.json.

    Raises RerankerError where `out` exists or a gate fails; then nothing is left.
    """
    if out.exists():
        raise RerankerError(f"{out}: exists already; name a new directory with --out")
    reader.module.eval().cpu()
    with new_directory(out) as draft:
        reader.tokenizer.save(str(draft / TOKENIZER))
        _to_onnx(reader, draft / MODEL)
        measured = prove(reader, draft / MODEL) | metrics
        card = RerankerCard(
            RerankerManifest(reader.max_tokens, weight, covered_scripts(reader.tokenizer)),
            {f"reranker.{name}": value for name, value in measured.items()},
        )
        card.write(draft / CARD)
    return card


def _to_onnx(reader: Reader, path: Path) -> None:
    ids = torch.ones((2, 3), dtype=torch.int64)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    example = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    write_onnx(reader.module, example, inputs, ("relevance",), (sizes, sizes, sizes), path)


def prove(reader: Reader, model: Path) -> dict[str, float]:
    """The largest differences over pairs of the gate's texts. Raises RerankerError where one is beyond the limit."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    pairs = [(GATE_TEXTS[i % 6], text) for i, text in enumerate(GATE_TEXTS)]
    asked, items = ([reader.tokenizer.encode(pair[side]).ids for pair in pairs] for side in (0, 1))
    rows = [joined(a, b, reader.max_tokens) for a, b in zip(asked, items, strict=True)]
    (together,) = session.run(["relevance"], dict(batch(rows)))
    alone = np.concatenate([session.run(["relevance"], dict(batch([row])))[0] for row in rows])
    with torch.inference_mode():
        expected = reader.module(**reader.inputs(pairs)).numpy()
    parity, invariance = float(np.abs(alone - expected).max()), float(np.abs(alone - together).max())
    for name, value in (("parity with PyTorch", parity), ("batch invariance", invariance)):
        if not value <= MOST_DIFFERENT:
            raise RerankerError(f"{name}: relevance differs by {value:.2g}, the limit is {MOST_DIFFERENT:g}")
    return {"parity_max_difference": parity, "invariance_max_difference": invariance}
