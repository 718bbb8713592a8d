"""ONNX Runtime sessions: the provider asked for or an error, never a silent fallback."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.runtime.errors import Unavailable

# TF32 rounds to 10 bits, and the same text would differ between batches.
_PROVIDER_OPTIONS: dict[str, dict[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}


# On a CPU the fused kernel takes ten times as long as the layer normalisation alone: all of a MiniLM took 1.09 times as
# long with it (12 tokens x 32, AVX2).
_SLOWER = ["SkipLayerNormFusion"]


class ProviderError(Exception):
    """The provider that was asked for cannot run here; the message names those that can."""


class SessionLost(Unavailable):
    """The session no longer answers anything: its device is gone or out of memory."""


class Session:
    """A model that any number of threads may call at once, each call computing in its caller's thread.

    On short inputs that is faster than one call spread over the threads. Raises ProviderError where `provider` cannot
    run here, and whatever ONNX Runtime raises for a file that is not a model.
    """

    def __init__(self, model: Path, provider: str) -> None:
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise ProviderError(f"provider {provider} is not installed; here are {', '.join(available)}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(model),
            options,
            providers=[(provider, _PROVIDER_OPTIONS.get(provider, {}))],
            disabled_optimizers=_SLOWER if provider == "CPUExecutionProvider" else [],
        )
        # A provider whose libraries are missing is dropped with a warning at best.
        if (running := self._session.get_providers()[0]) != provider:
            raise ProviderError(f"provider {provider} could not be started, {running} was; see what it lacks")
        self.provider = provider
        self.inputs = frozenset(given.name for given in self._session.get_inputs())
        self.outputs = frozenset(output.name for output in self._session.get_outputs())

    def run(self, outputs: Sequence[str], inputs: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """The named outputs, each checked to have as many rows as the inputs and finite numbers only.

        Raises RuntimeError when they have not, and what ONNX Runtime raises.
        """
        values: list[NDArray[np.float32]] = self._session.run(list(outputs), inputs)
        return checked(outputs, values, len(next(iter(inputs.values()))))


def checked(outputs: Sequence[str], values: list[NDArray[np.float32]], rows: int) -> list[NDArray[np.float32]]:
    """The values of the named outputs. Raises RuntimeError where one has not so many rows or holds a number that is
    not finite."""
    for name, value in zip(outputs, values, strict=True):
        if len(value) != rows:
            raise RuntimeError(f"output {name}: {len(value)} rows for {rows} inputs")
        if not np.isfinite(value).all():
            raise RuntimeError(f"output {name}: holds a number that is not finite")
    return values
