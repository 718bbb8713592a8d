"""PyTorch -> one file of ONNX, the same way for every model."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

OPSET = 18


def write_onnx(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    sizes: tuple[Any, ...],
    path: Path,
) -> None:
    """Writes a module with its weights inside the file.

    `sizes`: of each input, which of its dimensions are free. In `example` these must not be 1, which would be taken for
    a constant.
    """
    with warnings.catch_warnings():
        # The exporter warns of its own insides.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            example,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=sizes,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    # Where each node came from in the source: paths of the machine that exports, of no use to the one that serves.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.save(str(path), external_data=False)
