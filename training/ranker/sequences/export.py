"""What was trained as files, read back and scored as a service would: no torch on the way from files to scores."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from souk.vectors import Float32
from training.onnx_file import write_onnx
from training.ranker.card import ITEMS, SHOPPER, read_card
from training.ranker.export import MIN_INVARIANCE, MIN_PARITY, GateError
from training.ranker.log import Ints
from training.ranker.sequences.model import SequenceRanker
from training.ranker.sequences.signals import NETWORK, Signals

CARD = "sequences.json"
_GATE_HISTORIES = 48


@dataclass(frozen=True)
class Served:
    """A ranker as its files say: the score of an item is the sum of `weights` times the signals of their names, of
    which the product of its vector with the shopper's is one.

    `vectors` (n, dim) float32, a row an item.
    """

    session: onnxruntime.InferenceSession
    item_ids: list[str]
    vectors: Float32
    signals: Signals
    max_history: int
    weights: dict[str, float]

    @classmethod
    def open(cls, directory: Path) -> "Served":
        """Reads what `write` and `write_card` wrote. Raises CardError, OSError."""
        card = read_card(directory / CARD, "python -m training train ranker --sequences FILE")
        with np.load(directory / ITEMS) as items:
            ids, vectors = items["ids"].tolist(), items["vectors"]
        return cls(_session(directory), ids, vectors, Signals.open(directory), card["max_history"], card["weights"])

    def products(self, histories: list[Ints]) -> Float32:
        """Of each shopper with each item, by the rows of items that they met, oldest first, at least one each:
        (n, items)."""
        shoppers = _run(self.session, self.vectors, [history[-self.max_history :] for history in histories])
        found: Float32 = shoppers @ self.vectors.T
        return found

    def scores(self, histories: list[Ints]) -> Float32:
        """Of each shopper for each item: (n, items)."""
        found = self.products(histories) * np.float32(self.weights[NETWORK])
        for name, values in self.signals.named(histories).items():
            found += np.float32(self.weights.get(name, 0)) * values
        return found


def write(model: SequenceRanker, item_ids: list[str], signals: Signals, directory: Path) -> None:
    """Writes shopper.onnx, items.npz and signals.npz."""
    shopper = model.eval().shopper
    with torch.inference_mode():
        vectors = model.items().numpy()
    np.savez(directory / ITEMS, ids=np.array(item_ids, dtype=np.str_), vectors=vectors)
    signals.write(directory)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    example = (torch.zeros(2, 3, vectors.shape[1]), torch.ones(2, 3) > 0)
    write_onnx(shopper, example, ("items", "mask"), ("shopper",), (sizes, sizes), directory / SHOPPER)


def prove(model: SequenceRanker, directory: Path) -> dict[str, float]:
    """Runs what was written against what was trained, alone and in a batch. Raises GateError."""
    shopper = model.eval().shopper
    rng = np.random.default_rng(0)
    longest = len(shopper.place)
    lengths = [1, 2, longest, *rng.integers(1, longest + 1, _GATE_HISTORIES)]
    with np.load(directory / ITEMS) as items:
        vectors: Float32 = items["vectors"]
    histories = [rng.integers(0, len(vectors), length) for length in lengths]
    session = _session(directory)
    together = _run(session, vectors, histories)
    parity, invariance = 1.0, 1.0
    for row, history in enumerate(histories):
        alone = _run(session, vectors, [history])[0]
        with torch.inference_mode():
            met = torch.from_numpy(vectors[history])[None]
            reference = shopper(met, torch.ones(met.shape[:2]) > 0).numpy()[0]
        parity = min(parity, _cosine(alone, reference))
        invariance = min(invariance, _cosine(alone, together[row]))
    for name, value, limit in (("parity", parity, MIN_PARITY), ("batch invariance", invariance, MIN_INVARIANCE)):
        if not value >= limit:
            raise GateError(f"shopper.onnx: {name}: min cosine {value:.6f} is below the limit {limit}")
    return {"parity_min_cosine": parity, "invariance_min_cosine": invariance}


def _cosine(one: Float32, two: Float32) -> float:
    return float(one @ two / (np.linalg.norm(one) * np.linalg.norm(two)))


def write_card(directory: Path, model: SequenceRanker, weights: dict[str, float], facts: dict[str, Any]) -> None:
    """Writes sequences.json: what the files beside it mean together, and `facts`."""
    values = {
        "max_history": len(model.shopper.place),
        "weights": weights,
        **facts,
    }
    (directory / CARD).write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")


def _session(directory: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(directory / SHOPPER), options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, vectors: Float32, histories: list[Ints]) -> Float32:
    longest = max(len(history) for history in histories)
    items = np.zeros((len(histories), longest, vectors.shape[1]), np.float32)
    mask = np.zeros((len(histories), longest), bool)
    for row, history in enumerate(histories):
        items[row, : len(history)] = vectors[history]
        mask[row, : len(history)] = True
    found: Float32 = session.run(["shopper"], {"items": items, "mask": mask})[0]
    return found
