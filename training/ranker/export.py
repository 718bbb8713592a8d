"""Exports a trained ranker to ONNX and arrays, refuses one that fails its gates, and writes down what it is."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.domain.ages import GAP_BUCKETS
from services.domain.bundle import RankerManifest
from services.domain.features import FEATURES
from souk.vectors import Float32
from training.new_directory import new_directory
from training.onnx_file import write_onnx
from training.ranker.card import CARD, HEADS, ITEMS, PROJECTION, SHOPPER, Promise, RankerCard
from training.ranker.heads import OBJECTIVES, SCENE_WEIGHTS, Heads
from training.ranker.model import TYPES, Shopper
from training.ranker.train import Trained

MIN_PARITY = 0.99999
MIN_INVARIANCE = 0.9999
MAX_DIFFERENCE = 1e-5
# Of a deviation above 1 as a share of it.
MAX_DEVIATION_DIFFERENCE = 1e-4
_GATE_HISTORIES = 24


class GateError(ValueError):
    """What was exported does not do as what was trained; the message says by how much. Refused as bad input is."""


class _Logistic(nn.Module):
    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.register_buffer("weights", torch.from_numpy(heads.weights))
        self.register_buffer("bias", torch.from_numpy(heads.bias))
        self.doubts = heads.doubt is not None
        if heads.doubt is not None:
            # Side by side: one product for all objectives.
            self.register_buffer("doubt", torch.from_numpy(np.concatenate(list(heads.doubt), axis=1)))

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        weights, bias = self.get_buffer("weights"), self.get_buffer("bias")
        logit = features @ weights + bias
        told = torch.sigmoid(logit), logit
        if not self.doubts:
            return told
        doubt = self.get_buffer("doubt")
        parts = (features @ doubt[:-1] + doubt[-1]).reshape(-1, len(bias), len(doubt))
        return *told, parts.square().sum(dim=2).sqrt()


def export_ranker(
    trained: Trained,
    heads: Heads,
    item_ids: list[str],
    content_space: str,
    metrics: dict[str, float],
    out: Path,
    promise: Promise | None = None,
) -> RankerCard:
    """Writes the new directory `out`: shopper.onnx, heads.onnx, items.npz, projection.npz, ranker.json.

    `item_ids` are those of the whole log; the known ones are written. `promise` is made where the heads are private.
    Raises GateError, FileExistsError; then nothing is left at `out`.
    """
    if out.exists():
        raise FileExistsError(f"{out}: exists already; name a new directory with --out")
    model = trained.model.eval()
    shopper = model.shopper
    with new_directory(out) as draft:
        dim = shopper.head.out_features
        with torch.inference_mode():
            vectors = model.items().numpy()
            projection = model.items.projection
            weight, bias = projection.weight.numpy().T.copy(), projection.bias.numpy().copy()
        ids = np.array([item_ids[number] for number in trained.known], dtype=np.str_)
        np.savez(draft / ITEMS, ids=ids, vectors=vectors)
        np.savez(draft / PROJECTION, W=weight, b=bias)
        rows = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
        write_onnx(
            shopper,
            # Two tensors of one kind, not one twice: the exporter would make one input of them.
            (torch.zeros(2, 3, dim), *torch.ones(2, 2, 3, dtype=torch.int64).unbind(), torch.ones(2, 3) > 0),
            ("items", "types", "gaps", "mask"),
            ("shopper",),
            (rows, rows, rows, rows),
            draft / SHOPPER,
        )
        write_onnx(
            _Logistic(heads),
            (torch.zeros(2, len(FEATURES)),),
            ("features",),
            # The second tells serving what each feature adds, the third how unsure the log-odds are.
            ("probability", "logit", "deviation")[: 2 if heads.doubt is None else 3],
            ({0: torch.export.Dim("n")},),
            draft / HEADS,
        )
        proved = prove(shopper, heads, draft)
        card = RankerCard(
            RankerManifest(
                dim=dim,
                max_history=shopper.max_history,
                space_version=space_version(
                    shopper,
                    [content_space, shopper.max_history, ids.tolist()],
                    {"vectors": vectors, "W": weight, "b": bias},
                ),
                content_space_version=content_space,
                features=FEATURES,
                scene_weights=SCENE_WEIGHTS,
                objectives=OBJECTIVES,
            ),
            {**metrics, **proved},
            promise,
        )
        card.write(draft / CARD)
    return card


def prove(shopper: Shopper, heads: Heads, directory: Path) -> dict[str, float]:
    """Runs what was exported against what was trained, alone and in a batch. Raises GateError."""
    session = onnxruntime.InferenceSession(str(directory / SHOPPER), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    sizes = [0, 1, 2, shopper.max_history, *rng.integers(1, shopper.max_history + 1, _GATE_HISTORIES)]
    alone = [_history(rng, size, shopper.head.out_features) for size in sizes]
    longest = max(sizes)
    batch = {name: np.concatenate([_padded(one[name], longest) for one in alone]) for name in alone[0]}
    together: Float32 = session.run(["shopper"], batch)[0]
    parity, invariance = 1.0, 1.0
    for row, one in enumerate(alone):
        with torch.inference_mode():
            reference = shopper(*(torch.from_numpy(one[name]) for name in ("items", "types", "gaps", "mask"))).numpy()
        single: Float32 = session.run(["shopper"], one)[0]
        parity = min(parity, float(single[0] @ reference[0]))
        invariance = min(invariance, float(single[0] @ together[row]))
    for name, value, limit in (("parity", parity, MIN_PARITY), ("batch invariance", invariance, MIN_INVARIANCE)):
        if not value >= limit:
            raise GateError(f"shopper.onnx: {name}: min cosine {value:.6f} is below the limit {limit}")
    session = onnxruntime.InferenceSession(str(directory / HEADS), providers=["CPUExecutionProvider"])
    features = rng.random((64, len(FEATURES)), dtype=np.float32)
    whole: Float32 = session.run(["probability"], {"features": features})[0]
    lone: Float32 = session.run(["probability"], {"features": features[:1]})[0]
    difference = float(np.abs(whole - heads.probability(features)).max())
    company = float(np.abs(whole[:1] - lone).max())
    for name, found in (("parity", difference), ("batch invariance", company)):
        if not found <= MAX_DIFFERENCE:
            raise GateError(f"heads.onnx: {name}: probabilities differ by {found:.2e}, more than {MAX_DIFFERENCE}")
    if heads.doubt is not None:
        told = heads.deviation(features)
        deviation: Float32 = session.run(["deviation"], {"features": features})[0]
        unlike = float((np.abs(deviation - told) / np.maximum(told, 1)).max())
        if not unlike <= MAX_DEVIATION_DIFFERENCE:
            raise GateError(f"heads.onnx: deviations differ by {unlike:.2e}, more than {MAX_DEVIATION_DIFFERENCE}")
    return {
        "ranker.parity_min_cosine": parity,
        "ranker.invariance_min_cosine": invariance,
        "ranker.heads_max_difference": max(difference, company),
    }


def _history(rng: np.random.Generator, size: int, dim: int) -> dict[str, NDArray[Any]]:
    """A history of one shopper as the model reads it; one place of padding where there is none."""
    length = max(size, 1)
    items = rng.standard_normal((1, length, dim)).astype(np.float32)
    items /= np.linalg.norm(items, axis=-1, keepdims=True)
    mask = np.full((1, length), size > 0)
    return {
        "items": items * mask[..., None],
        "types": rng.integers(1, TYPES, (1, length)) * mask,
        "gaps": rng.integers(0, GAP_BUCKETS, (1, length)) * mask,
        "mask": mask,
    }


def _padded(array: NDArray[Any], length: int) -> NDArray[Any]:
    return np.pad(array, [(0, 0), (0, length - array.shape[1]), *[(0, 0)] * (array.ndim - 2)])


def space_version(shopper: nn.Module, facts: list[Any], arrays: dict[str, Float32]) -> str:
    """Hash of all that decides where shoppers and items land: the network, plain facts and arrays."""
    digest = hashlib.sha256(json.dumps(facts).encode())
    weights = {name: tensor.numpy() for name, tensor in sorted(shopper.state_dict().items())}
    for name, array in {**weights, **arrays}.items():
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
