"""What was trained as files of a bundle, read back and scored as the ranker's process does: no torch on the way from
files to scores.

In serving an item is found by the cosine of its vector with the shopper's. Here the score is a product of vectors of
any length, so items are written with one more number, by which all have the same length (Bachrach et al. 2014), and
shoppers with a zero there: their cosines then order items as the products do.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from services.domain.bundle import RankerManifest
from services.domain.features import SCENES
from services.domain.signals import Signals
from souk.vectors import Float32
from training.onnx_file import write_onnx
from training.ranker.card import CARD, HEADS, ITEMS, PROJECTION, SHOPPER, SIGNALS, RankerCard, read_card
from training.ranker.export import MAX_DIFFERENCE, MIN_INVARIANCE, MIN_PARITY, GateError, space_version
from training.ranker.log import Ints
from training.ranker.sequences.model import SequenceRanker, Shopper
from training.ranker.sequences.signals import NETWORK
from training.ranker.sequences.texts import Texts

REPORT = "sequences.json"
AFFINITY, MET = "affinity", "in_history"
_GATE_HISTORIES = 48
_GATE_CANDIDATES = 64
# Of the log-odds of what is not to be shown again: nothing comes after it.
_NEVER = -30.0


@dataclass(frozen=True)
class Served:
    """A ranker as its files say: the score of an item is the sum of `weights` times the signals of their names, of
    which the product of its vector with the shopper's is one.

    `vectors` (n, dim + 1) float32 of length 1, a row an item; a product is `scale` times theirs with the shopper's.
    """

    session: onnxruntime.InferenceSession
    item_ids: list[str]
    vectors: Float32
    signals: Signals
    max_history: int
    scale: float
    weights: dict[str, float]

    @classmethod
    def open(cls, directory: Path) -> "Served":
        """Reads what `write` and `write_report` wrote. Raises CardError, OSError, ValueError."""
        report = read_card(directory / REPORT, "python -m training train ranker --sequences FILE")
        with np.load(directory / ITEMS) as items:
            ids, vectors = items["ids"].tolist(), items["vectors"]
        signals = Signals.read(directory / SIGNALS)
        numbers = report["max_history"], report["scale"], report["weights"]
        return cls(_session(directory / SHOPPER), ids, vectors, signals, *numbers)

    def products(self, histories: list[Ints]) -> Float32:
        """Of each shopper with each item, by the rows of items that they met, oldest first, at least one each:
        (n, items)."""
        shoppers = _run(self.session, self.vectors, [history[-self.max_history :] for history in histories])
        found: Float32 = shoppers @ self.vectors.T * np.float32(self.scale)
        return found

    def scores(self, histories: list[Ints]) -> Float32:
        """Of each shopper for each item: (n, items)."""
        found = self.products(histories) * np.float32(self.weights[NETWORK])
        for name, values in self.signals.named(histories).items():
            found += np.float32(self.weights.get(name, 0)) * values
        return found


class _ServedShopper(nn.Module):
    """The shopper's network over items as they are written, and its vector as items' are."""

    def __init__(self, shopper: Shopper, scale: float) -> None:
        super().__init__()
        self.shopper, self.scale = shopper, scale

    def forward(self, items: Tensor, mask: Tensor) -> Tensor:
        return F.pad(self.shopper(items[..., :-1] * self.scale, mask), (0, 1))


class _Heads(nn.Module):
    """Log-odds that a candidate is what the shopper meets next, and their probability."""

    def __init__(self, weights: Float32, bias: float) -> None:
        super().__init__()
        self.register_buffer("weights", torch.from_numpy(weights[:, None]))
        self.bias = bias

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logit = features @ self.get_buffer("weights") + self.bias
        return torch.sigmoid(logit), logit


def write(model: SequenceRanker, item_ids: list[str], signals: Signals, directory: Path) -> float:
    """Writes shopper.onnx, items.npz and signals.npz; the length that every item has here."""
    with torch.inference_mode():
        vectors = model.eval().items().numpy()
    lengths = (vectors.astype(np.float64) ** 2).sum(axis=1)
    scale = float(np.sqrt(max(lengths.max(), 1e-12)))
    rest = np.sqrt(np.maximum(scale**2 - lengths, 0))
    vectors = np.column_stack([vectors, rest]).astype(np.float32) / np.float32(scale)
    np.savez(directory / ITEMS, ids=np.array(item_ids, dtype=np.str_), vectors=vectors)
    signals.write(directory / SIGNALS)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    example = (torch.zeros(2, 3, vectors.shape[1]), torch.ones(2, 3) > 0)
    network = _ServedShopper(model.shopper, scale)
    write_onnx(network, example, ("items", "mask"), ("shopper",), (sizes, sizes), directory / SHOPPER)
    return scale


def prove(model: SequenceRanker, scale: float, directory: Path) -> dict[str, float]:
    """Runs what was written against what was trained, alone and in a batch. Raises GateError."""
    shopper = model.eval().shopper
    rng = np.random.default_rng(0)
    longest = len(shopper.place)
    lengths = [1, 2, longest, *rng.integers(1, longest + 1, _GATE_HISTORIES)]
    with np.load(directory / ITEMS) as items:
        vectors: Float32 = items["vectors"]
    with torch.inference_mode():
        table = model.items()
    histories = [rng.integers(0, len(vectors), length) for length in lengths]
    session = _session(directory / SHOPPER)
    together = _run(session, vectors, histories)
    parity, invariance = 1.0, 1.0
    for row, history in enumerate(histories):
        alone = _run(session, vectors, [history])[0]
        with torch.inference_mode():
            met = table[torch.from_numpy(history)][None]
            reference = shopper(met, torch.ones(met.shape[:2]) > 0)[0]
        # Whole scores: a network of another training, or items of another length, cannot pass.
        parity = min(parity, _cosine(scale * (vectors @ alone), (table @ reference).numpy()))
        invariance = min(invariance, _cosine(alone, together[row]))
    for name, value, limit in (("parity", parity, MIN_PARITY), ("batch invariance", invariance, MIN_INVARIANCE)):
        if not value >= limit:
            raise GateError(f"shopper.onnx: {name}: min cosine {value:.6f} is below the limit {limit}")
    return {"parity_min_cosine": parity, "invariance_min_cosine": invariance}


def write_ranker(
    model: SequenceRanker,
    scale: float,
    texts: Texts | None,
    weights: dict[str, float],
    bias: float,
    masked: bool,
    measured: dict[str, float],
    directory: Path,
) -> None:
    """Writes heads.onnx, projection.npz where there are texts, and ranker.json: with what `write` wrote, a ranker that
    `python -m training bundle` takes. Raises GateError.

    The heads give one probability: that a candidate, among such as retrieval brings, is what the shopper meets next. A
    file of sequences does not say what its events are. `scale` is what `write` gave; `weights` by name of signal,
    NETWORK among them; `masked`: what was met is never shown again.
    """
    with np.load(directory / ITEMS) as items:
        ids, vectors = items["ids"].tolist(), items["vectors"]
    of_features = {AFFINITY: weights[NETWORK] * scale}
    of_features |= {name: value for name, value in weights.items() if name != NETWORK}
    if masked:
        of_features[MET] = _NEVER
    coefficients = np.array(list(of_features.values()), np.float32)
    rows = {0: torch.export.Dim("n")}
    heads, example = _Heads(coefficients, bias), (torch.zeros(2, len(coefficients)),)
    write_onnx(heads, example, ("features",), ("probability", "logit"), (rows,), directory / HEADS)
    difference = _prove_heads(coefficients, bias, directory / HEADS)
    arrays = {"vectors": vectors}
    if texts is not None:
        arrays["W"], arrays["b"] = _projection(model, texts, scale)
        np.savez(directory / PROJECTION, W=arrays["W"], b=arrays["b"])
    named = RankerManifest(
        dim=vectors.shape[1],
        max_history=len(model.shopper.place),
        space_version="",
        content_space_version=None if texts is None else texts.space_version,
        features=tuple(of_features),
        scene_weights=dict.fromkeys(SCENES, (1.0,)),
        objectives=("click",),
        projection=None if texts is None else RankerManifest.projection,
        signals=f"ranker/{SIGNALS}",
    )
    facts = ["sequences", named.content_space_version, named.max_history, ids]
    manifest = replace(named, space_version=space_version(model.shopper, facts, arrays))
    metrics = {f"ranker.{name}": value for name, value in measured.items()}
    RankerCard(manifest, {**metrics, "ranker.heads_max_difference": difference}).write(directory / CARD)


def write_report(directory: Path, model: SequenceRanker, scale: float, weights: dict[str, float], facts: Any) -> None:
    """Writes sequences.json: what the files beside it mean together, and `facts` by name."""
    values = {"max_history": len(model.shopper.place), "scale": scale, "weights": weights, **facts}
    (directory / REPORT).write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")


def _projection(model: SequenceRanker, texts: Texts, scale: float) -> tuple[Float32, Float32]:
    """From a content vector to that of an item of which nothing else is known, as items are written: W (content dim,
    dim + 1) and b. Its last number is that of an item of usual length, and serving makes its length 1."""
    with torch.inference_mode():
        weight, bias = (tensor.numpy() for tensor in (model.items.projection.weight, model.items.projection.bias))
    told = texts.vectors[texts.vectors.any(axis=1)] @ weight.T + bias
    usual = min(float((told.astype(np.float64) ** 2).sum(axis=1).mean()), scale**2)
    first = texts.directions @ weight.T
    last = np.sqrt(scale**2 - usual)
    return (
        (np.pad(first, ((0, 0), (0, 1))) / scale).astype(np.float32),
        (np.append(bias - texts.mean @ first, last) / scale).astype(np.float32),
    )


def _prove_heads(coefficients: Float32, bias: float, path: Path) -> float:
    """The largest difference of probabilities, alone or together, to those of NumPy. Raises GateError."""
    session = _session(path)
    features = np.random.default_rng(0).random((_GATE_CANDIDATES, len(coefficients)), np.float32)
    (whole,) = session.run(["probability"], {"features": features})
    (alone,) = session.run(["probability"], {"features": features[:1]})
    expected = 1 / (1 + np.exp(-(features.astype(np.float64) @ coefficients + bias)))
    difference = float(max(np.abs(whole[:, 0] - expected).max(), np.abs(whole[:1] - alone).max()))
    if not difference <= MAX_DIFFERENCE:
        raise GateError(f"heads.onnx: probabilities differ by {difference:.2e}, more than {MAX_DIFFERENCE}")
    return difference


def _cosine(one: Float32, two: Float32) -> float:
    return float(one @ two / (np.linalg.norm(one) * np.linalg.norm(two)))


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, vectors: Float32, histories: list[Ints]) -> Float32:
    longest = max(len(history) for history in histories)
    items = np.zeros((len(histories), longest, vectors.shape[1]), np.float32)
    mask = np.zeros((len(histories), longest), bool)
    for row, history in enumerate(histories):
        items[row, : len(history)] = vectors[history]
        mask[row, : len(history)] = True
    found: Float32 = session.run(["shopper"], {"items": items, "mask": mask})[0]
    return found
