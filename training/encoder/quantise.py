"""An exported encoder in fewer bits: static int8 (products of eight-bit numbers) or weights in bfloat16."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from tokenizers import Tokenizer

from training.encoder.card import CARD, MODEL, TOKENIZER, Card, ExportError
from training.encoder.gates import measure_rounded
from training.new_directory import new_directory

MODES = ("int8", "bf16")
_AT_ONCE = 8


def quantise(encoder: Path, out: Path, mode: str, texts: Sequence[str], step: Callable[[str], None]) -> Card:
    """Writes the exported encoder in `encoder` anew as the new directory `out`, in fewer bits: another space.

    "int8" is static: the scales of the activations are fixed by `texts` (Jacob et al. 2018), so that a text's vector
    does not depend on its batch, as it does with scales taken at run time. "bf16" keeps the weights of the products in
    bfloat16: half the file; how fast that is, the provider decides. Raises ExportError for what cannot be read or an
    `out` that exists, GateError where parity with the original or batch invariance is beyond its limit; then nothing
    is left.
    """
    if out.exists():
        raise ExportError(f"{out}: exists already; name a new directory with --out")
    card = Card.read(encoder / CARD)
    if card.precision != "fp32":
        raise ExportError(f"{encoder}: is {card.precision} already; begin with what `encoder export` wrote")
    if mode == "int8" and not texts:
        raise ExportError("no texts to fix the scales with")
    tokenizer = Tokenizer.from_file(str(encoder / TOKENIZER))
    with new_directory(out) as draft:
        shutil.copyfile(encoder / TOKENIZER, draft / TOKENIZER)
        step(f"writing {mode}")
        if mode == "int8":
            _to_int8(encoder / MODEL, draft / MODEL, _Texts(texts, tokenizer, card.max_tokens))
        else:
            _to_bf16(encoder / MODEL, draft / MODEL)
        step("gates: parity with the original, batch invariance")
        sessions = [
            onnxruntime.InferenceSession(str(path / MODEL), providers=["CPUExecutionProvider"])
            for path in (encoder, draft)
        ]
        gates = measure_rounded(sessions[0], sessions[1], tokenizer, card.max_tokens)
        gates.check(mode)
        facts = {"of": card.space_version, "precision": mode}
        digest = hashlib.sha256((draft / MODEL).read_bytes() + json.dumps(facts, sort_keys=True).encode())
        rounded = replace(card, precision=mode, space_version=digest.hexdigest(), metrics=gates.metrics())
        rounded.write(draft / CARD)
    return rounded


class _Texts(CalibrationDataReader):  # type: ignore[misc]
    """Batches of texts, as an encoder reads them."""

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer, max_tokens: int) -> None:
        tokenizer.enable_truncation(max_tokens)
        ids = sorted((one.ids for one in tokenizer.encode_batch_fast(list(texts))), key=len)
        tokenizer.no_truncation()
        self._batches = self._made([ids[begin : begin + _AT_ONCE] for begin in range(0, len(ids), _AT_ONCE)])

    def get_next(self) -> dict[str, Any] | None:
        """Part of CalibrationDataReader."""
        return next(self._batches, None)

    @staticmethod
    def _made(parts: list[list[list[int]]]) -> Iterator[dict[str, Any]]:
        for part in parts:
            ids = np.zeros((len(part), max(map(len, part))), np.int64)
            mask = np.zeros_like(ids)
            for row, own in enumerate(part):
                ids[row, : len(own)] = own
                mask[row, : len(own)] = 1
            yield {"input_ids": ids, "attention_mask": mask}


def _to_int8(source: Path, target: Path, texts: _Texts) -> None:
    graph = onnx.load(source).graph
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    # Only products with weights: those of activations with each other are small and cost much quality. And none that
    # narrows: what a feed-forward network hands to its second product has so long a tail that one scale for all of it
    # costs more than everything else (lowest cosine of the gate's texts .88 with, .97 without; all-MiniLM-L6-v2).
    products = [
        node.name
        for node in graph.node
        if node.op_type in ("MatMul", "Gemm")
        and any(len(shape := shapes.get(name, ())) == 2 and shape[0] <= shape[1] for name in node.input)
    ]
    quantize_static(
        str(source),
        str(target),
        texts,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul", "Gemm"],
        nodes_to_quantize=products,
        per_channel=True,
        # Without VNNI two eight-bit products overflow the sixteen bits they are added in; seven bits cannot.
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )


def _to_bf16(source: Path, target: Path) -> None:
    """Weights of products as bfloat16 with a cast behind each; ONNX Runtime folds or fuses it as its provider can."""
    model = onnx.load(source)
    graph = model.graph
    wanted = {name for node in graph.node if node.op_type in ("MatMul", "Gemm") for name in node.input}
    casts = []
    for place, weight in enumerate(graph.initializer):
        if weight.name not in wanted or weight.data_type != TensorProto.FLOAT or len(weight.dims) < 2:
            continue
        bits = np.ascontiguousarray(numpy_helper.to_array(weight)).view(np.uint32)
        # To the nearest, ties to even, as casts round.
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        kept = helper.make_tensor(f"{weight.name}_bf16", TensorProto.BFLOAT16, weight.dims, rounded.tobytes(), raw=True)
        casts.append(helper.make_node("Cast", [kept.name], [weight.name], f"{weight.name}_cast", to=TensorProto.FLOAT))
        graph.initializer[place].CopyFrom(kept)
    for cast in reversed(casts):
        graph.node.insert(0, cast)
    onnx.save(model, target)
