"""Small but real networks with the interface of a bundle's ranker, and requests to rank with them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from services.domain.bundle import Bundle, EncoderManifest, Manifest, RankerManifest, write_bundle
from services.domain.features import FEATURES, SCENES
from services.domain.text import TextTemplate
from souk.coldstart.v1 import coldstart_pb2
from souk.ranker.v1 import ranker_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32

DIM = 8
MAX_HISTORY = 12
SPACE = "b" * 64
WEIGHTS = (0.2, 0.3, 0.5)
NOW = 1_760_000_000.0

# What the heads make of a feature, for the first objective; the others have a half and a quarter of it.
COEFFICIENTS = {
    "affinity": 3.0,
    "words": 2.0,
    "meaning": 1.0,
    "like": 1.5,
    "together": 1.0,
    "popularity": 2.0,
    "recency": 1.0,
    "price_closeness": 0.5,
    "brand_share": 2.0,
    "category_share": 1.0,
    "history_recency": 0.5,
    "seen": -1.0,
}


def shopper_network(sign: float = 1.0) -> Any:
    """normalise(sum over events of type weight x gap weight x (1 + place / 4) x item)."""
    of_type = sign * np.array([0, 0.1, 1, 1.2, 2, -0.5, 3, -1, -1], np.float32)
    of_gap = np.linspace(1, 0.2, 16).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["of_type", "types"], ["type"]),
        helper.make_node("Gather", ["of_gap", "gaps"], ["gap"]),
        helper.make_node("Cast", ["mask"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("CumSum", ["real", "one"], ["place"]),
        helper.make_node("Mul", ["place", "quarter"], ["quarters"]),
        helper.make_node("Add", ["quarters", "whole"], ["late"]),
        helper.make_node("Mul", ["type", "gap"], ["both"]),
        helper.make_node("Mul", ["both", "late"], ["all"]),
        helper.make_node("Mul", ["all", "real"], ["weight"]),
        helper.make_node("Unsqueeze", ["weight", "two"], ["wide"]),
        helper.make_node("Mul", ["items", "wide"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "first"], ["sum"], keepdims=0),
        helper.make_node("LpNormalization", ["sum"], ["shopper"], axis=1, p=2),
    ]
    constants = {
        "of_type": of_type,
        "of_gap": of_gap,
        "one": np.array(1, np.int64),
        "quarter": np.array(0.25, np.float32),
        "whole": np.array(1, np.float32),
        "two": np.array([2], np.int64),
        "first": np.array([1], np.int64),
    }
    inputs = [
        helper.make_tensor_value_info("items", TensorProto.FLOAT, ["batch", "length", DIM]),
        helper.make_tensor_value_info("types", TensorProto.INT64, ["batch", "length"]),
        helper.make_tensor_value_info("gaps", TensorProto.INT64, ["batch", "length"]),
        helper.make_tensor_value_info("mask", TensorProto.BOOL, ["batch", "length"]),
    ]
    output = helper.make_tensor_value_info("shopper", TensorProto.FLOAT, ["batch", DIM])
    return _model(nodes, inputs, [output], constants)


def heads_network(
    bias: float = -2.0,
    coefficients: dict[str, float] = COEFFICIENTS,
    columns: Sequence[str] = FEATURES,
    log_odds: bool = True,
) -> Any:
    """sigmoid(features W + b), and made-up deviations of softplus(features W + b); bundles of earlier versions have
    fewer columns and give neither these nor the log-odds."""
    nodes = [
        helper.make_node("Gemm", ["features", "w", "b"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
        helper.make_node("Softplus", ["logit"], ["deviation"]),
    ]
    column = np.array([coefficients.get(name, 0.0) for name in columns], np.float32)
    weights = np.stack([column, column / 2, column / 4], axis=1)
    constants = {"w": weights, "b": np.array([bias, bias - 1, bias - 2], np.float32)}
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(columns)])]
    names = ("probability", "logit", "deviation") if log_odds else ("probability",)
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in names]
    return _model(nodes, inputs, outputs, constants)


def ranker_manifest(**fields: Any) -> RankerManifest:
    """A manifest that fits the networks."""
    given: dict[str, Any] = {
        "dim": DIM,
        "max_history": MAX_HISTORY,
        "space_version": SPACE,
        "content_space_version": "a" * 64,
        "features": FEATURES,
        "scene_weights": dict.fromkeys(SCENES, WEIGHTS),
    }
    return RankerManifest(**given | fields)


def write_ranker_bundle(
    path: Path, *, ranker: bool = True, created_at: str = "", shopper: Any = None, heads: Any = None, **fields: Any
) -> Bundle:
    """A bundle with these networks; its encoder is of no use."""
    (path / "encoder").mkdir(parents=True)
    (path / "encoder/model.onnx").write_bytes(b"")
    (path / "encoder/tokenizer.json").write_text("")
    encoder = EncoderManifest(dim=4, max_tokens=16, space_version="a" * 64, scripts=("latin",), template=TextTemplate())
    if not ranker:
        return write_bundle(path, Manifest(encoder, created_at))
    write_networks(path, {}, encoder.dim, shopper, heads)
    return write_bundle(path, Manifest(encoder, created_at, ranker=ranker_manifest(**fields)))


def write_networks(
    path: Path, vectors: dict[str, Float32], content_dim: int, shopper: Any = None, heads: Any = None
) -> None:
    """The files of a ranker; an item that has no vector here gets the first numbers of its content."""
    (path / "ranker").mkdir()
    onnx.save(shopper or shopper_network(), path / "ranker/shopper.onnx")
    onnx.save(heads or heads_network(), path / "ranker/heads.onnx")
    rows = np.array(list(vectors.values()), np.float32).reshape(-1, DIM)
    np.savez(path / "ranker/items.npz", ids=np.array(list(vectors), np.str_), vectors=rows)
    projection = np.eye(content_dim, DIM, dtype=np.float32)
    np.savez(path / "ranker/projection.npz", W=projection, b=np.zeros(DIM, np.float32))


def item_vectors(count: int, seed: int = 5) -> dict[str, Float32]:
    """Vectors of length 1 of items i0, i1, ..."""
    rows = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return {f"i{n}": row for n, row in enumerate(rows)}


def candidates(*ids: str, **columns: Any) -> types_pb2.CandidateColumns:
    """Candidates that are alike in all that is not given."""
    n = len(ids)
    given: dict[str, Any] = {
        "id": ids,
        "revision": [1] * n,
        "title": [f"thing {item_id}" for item_id in ids],
        "price": [10.0] * n,
        "currency": [0] * n,
        "currencies": ["EUR"],
        "brand": [0] * n,
        "brands": [""],
        "category": [0] * n,
        "categories": [""],
        "stock": [-1] * n,
        "created_at": [int(NOW) - 10_000_000] * n,
        "popularity": [1.0] * n,
        "score": [1.0] * n,
        "bid": [1.0] * n,
    }
    return types_pb2.CandidateColumns(**given | columns)


def history(*events: tuple[str, types_pb2.EventType.ValueType]) -> list[coldstart_pb2.HistoryEntry]:
    """Events, the last an hour ago and each a day after the one before."""
    last = int(NOW - 3600) * 1000
    return [
        coldstart_pb2.HistoryEntry(
            item_id=item_id, type=kind, time_ms=last - 86_400_000 * (len(events) - 1 - at), quantity=1
        )
        for at, (item_id, kind) in enumerate(events)
    ]


def request(columns: types_pb2.CandidateColumns, **fields: Any) -> ranker_pb2.RankRequest:
    """To rank, on the first page unless another scene is given."""
    return ranker_pb2.RankRequest(candidates=columns, **{"scene": types_pb2.SCENE_HOME} | fields)


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any]) -> Any:
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
