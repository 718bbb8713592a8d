"""Sessions: outputs are counted and must be finite."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from services.runtime.onnx import Session


@pytest.fixture
def reciprocal(tmp_path: Path) -> Session:
    """1 / x, which is not finite at 0, and the same with a row too few."""
    graph = helper.make_graph(
        [
            helper.make_node("Reciprocal", ["x"], ["y"]),
            helper.make_node("Slice", ["y", "one", "end"], ["short"]),
        ],
        "reciprocal",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1]),
            helper.make_tensor_value_info("short", TensorProto.FLOAT, ["m", 1]),
        ],
        [
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("end", TensorProto.INT64, [1], [1000]),
        ],
    )
    path = tmp_path / "reciprocal.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return Session(path, "CPUExecutionProvider")


def test_it_runs(reciprocal: Session) -> None:
    (y,) = reciprocal.run(["y"], {"x": np.array([[2], [4]], np.float32)})
    assert y.tolist() == [[0.5], [0.25]]


def test_numbers_that_are_not_finite_fail_the_call(reciprocal: Session) -> None:
    with pytest.raises(RuntimeError, match="output y: holds a number that is not finite"):
        reciprocal.run(["y"], {"x": np.array([[2], [0]], np.float32)})


def test_fewer_outputs_than_inputs_fail_the_call(reciprocal: Session) -> None:
    with pytest.raises(RuntimeError, match="output short: 1 rows for 2 inputs"):
        reciprocal.run(["short"], {"x": np.array([[2], [4]], np.float32)})
