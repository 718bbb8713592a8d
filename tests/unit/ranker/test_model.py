"""The networks: what they are told of a history, and that what cannot be right is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from services.domain.features import FEATURES
from services.ranker.model import History, Model
from services.runtime.onnx import ProviderError
from souk.types.v1 import types_pb2
from tests.unit.ranker import tiny

CPU = "CPUExecutionProvider"
VIEW = types_pb2.EVENT_TYPE_VIEW


def model(path: Path, provider: str = CPU, **made: Any) -> Model:
    bundle = tiny.write_ranker_bundle(path / "bundle", **made)
    assert bundle.manifest.ranker is not None
    return Model(bundle.path, bundle.manifest.ranker, provider)


def test_a_history_is_its_latest_events_whose_items_have_vectors() -> None:
    entries = tiny.history(*((f"i{n}", VIEW) for n in range(6)))
    entries[3].type = types_pb2.EVENT_TYPE_CART
    entries[5].time_ms = 0
    vectors = np.arange(6 * tiny.DIM, dtype=np.float32).reshape(6, -1)
    present = np.array([True, True, False, True, True, True])
    history = History.of(entries, vectors, present, 4, tiny.NOW)
    np.testing.assert_array_equal(history.items, vectors[[1, 3, 4, 5]])
    assert history.types.tolist() == [VIEW, types_pb2.EVENT_TYPE_CART, VIEW, VIEW]
    # 97, 49 and 25 hours ago; the last says no time.
    assert history.gaps.tolist() == [6, 5, 4, 0]
    assert len(History.of(entries, vectors, np.zeros(6, np.bool_), 4, tiny.NOW)) == 0


def test_a_candidate_alone_has_the_probabilities_it_has_among_others(tmp_path: Path) -> None:
    loaded = model(tmp_path)
    rows = np.random.default_rng(1).random((300, len(FEATURES)), np.float32)
    together = loaded.probabilities(rows)
    assert together.shape == (300, 3)
    for n in range(0, 300, 37):
        np.testing.assert_allclose(loaded.probabilities(rows[n : n + 1])[0], together[n], atol=1e-6)


def test_the_heads_read_the_features_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).random((5, len(FEATURES)), np.float32)
    expected = model(tmp_path / "a").probabilities(rows)
    # The same network told that its first column is the last feature.
    turned = model(tmp_path / "b", features=FEATURES[::-1])
    np.testing.assert_array_equal(turned.probabilities(rows[:, ::-1].copy()), expected)


def test_a_bundle_of_an_earlier_version_goes_on_and_tells_no_parts(tmp_path: Path) -> None:
    known = tuple(name for name in FEATURES if name != "promotion")
    old = model(tmp_path / "old", features=known, heads=tiny.heads_network(columns=known, log_odds=False))
    new = model(tmp_path / "new")
    rows = np.random.default_rng(1).random((5, len(FEATURES)), np.float32)
    np.testing.assert_allclose(old.probabilities(rows), new.probabilities(rows), atol=1e-6)
    assert old.parts(rows) is None
    assert old.deviations(rows) is None


def test_what_features_add_is_told_in_the_order_of_the_features(tmp_path: Path) -> None:
    turned = model(tmp_path, features=FEATURES[::-1], heads=tiny.heads_network(columns=FEATURES[::-1]))
    rows = np.random.default_rng(1).random((5, len(FEATURES)), np.float32)
    parts = turned.parts(rows)
    assert parts is not None
    assert parts.shape == (5, len(FEATURES) + 1, 3)
    at = FEATURES.index("popularity")
    np.testing.assert_allclose(parts[:, at, 0], rows[:, at] * tiny.COEFFICIENTS["popularity"], atol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-parts.sum(axis=1))), turned.probabilities(rows), atol=1e-6)


def test_heads_that_are_not_linear_tell_no_parts(tmp_path: Path) -> None:
    network = tiny.heads_network()
    network.graph.node[0].output[0] = "linear"
    network.graph.node.insert(1, helper.make_node("Mul", ["linear", "linear"], ["logit"]))
    rows = np.zeros((1, len(FEATURES)), np.float32)
    assert model(tmp_path, heads=network).parts(rows) is None


def _softmax_over_the_batch() -> Any:
    network = tiny.heads_network()
    network.graph.node[1].CopyFrom(helper.make_node("Softmax", ["logit"], ["probability"], axis=0))
    return network


def _not_a_number() -> Any:
    return tiny.heads_network(bias=float("nan"))


def _more_than_one() -> Any:
    network = tiny.heads_network()
    network.graph.node[1].CopyFrom(helper.make_node("Relu", ["logit"], ["probability"]))
    return network


def _two_objectives() -> Any:
    network = tiny.heads_network()
    for tensor in network.graph.initializer:
        if tensor.name in ("w", "b"):
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values[..., :2].copy(), tensor.name))
    return network


def _other_inputs() -> Any:
    network = tiny.heads_network()
    network.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", len(FEATURES)]))
    network.graph.node[0].input[0] = "x"
    return network


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ({"heads": _softmax_over_the_batch()}, "alone and among others differ"),
        ({"heads": _not_a_number()}, "not finite"),
        ({"heads": _two_objectives()}, r"gave \(64, 2\) for 64"),
        ({"heads": _other_inputs()}, "features"),
        ({"shopper": tiny.heads_network()}, "shopper|features"),
        ({"dim": 16}, "16"),
        ({"features": (*FEATURES[1:], "star_sign")}, "star_sign are not known"),
    ],
)
def test_networks_that_cannot_be_right_are_refused(tmp_path: Path, made: dict[str, Any], problem: str) -> None:
    with pytest.raises(Exception, match=problem):
        model(tmp_path, **made)


def test_a_probability_beyond_one_fails_the_request(tmp_path: Path) -> None:
    rows = np.full((3, len(FEATURES)), 50, np.float32)
    with pytest.raises(RuntimeError, match="not from 0 to 1"):
        model(tmp_path, heads=_more_than_one()).probabilities(rows)


def test_a_provider_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="NoSuchProvider is not installed"):
        model(tmp_path, provider="NoSuchProvider")


def test_a_model_that_fails_on_one_input_goes_on_with_the_next(tmp_path: Path) -> None:
    loaded = model(tmp_path)
    bad = History(np.ones((1, tiny.DIM), np.float32), np.array([99]), np.array([0]))
    with pytest.raises(Exception, match="99"):
        loaded.shopper(bad)
    loaded.check()
    good = History(np.ones((1, tiny.DIM), np.float32), np.array([2]), np.array([0]))
    np.testing.assert_allclose(np.linalg.norm(loaded.shopper(good)), 1, rtol=1e-6)
