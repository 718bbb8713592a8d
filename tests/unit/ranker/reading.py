"""A small but real cross-encoder with the interface of a bundle's reranker: it likes some words in an item."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from services.domain.bundle import RerankerManifest

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def write_reranker(path: Path, likes: dict[str, float], weight: float = 0.5) -> RerankerManifest:
    """Writes the files of a reranker whose relevance is sigmoid(sum of what it likes of the item's words)."""
    manifest = RerankerManifest(max_tokens=64, weight=weight, scripts=("latin",))
    (path / "reranker").mkdir(parents=True)
    words = [*_SPECIAL, *likes]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(path / manifest.tokenizer))
    onnx.save(_network(np.array([0.0] * len(_SPECIAL) + list(likes.values()), np.float32)), path / manifest.model)
    return manifest


def _network(liked: Any) -> Any:
    names = ("input_ids", "attention_mask", "token_type_ids")
    nodes = [
        helper.make_node("Gather", ["liked", "input_ids"], ["each"]),
        helper.make_node("Mul", ["token_type_ids", "attention_mask"], ["of_item"]),
        helper.make_node("Cast", ["of_item"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["each", "real"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "last"], ["sum"], keepdims=0),
        helper.make_node("Sigmoid", ["sum"], ["relevance"]),
    ]
    graph = helper.make_graph(
        nodes,
        "reranker",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in names],
        [helper.make_tensor_value_info("relevance", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(liked, "liked"), numpy_helper.from_array(np.array([1]), "last")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    return model
