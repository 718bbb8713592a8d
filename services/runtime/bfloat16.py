"""Models computed in bfloat16: OpenVINO on a CPU that has instructions for it."""

import importlib.util
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.runtime.onnx import ProviderError, checked

OPENVINO = "OpenVINO"

# Entries of what is prepared for each shape of input, some six a shape and a megabyte each. OpenVINO's own 5,000 let a
# process grow by gigabytes; more than these save no time.
_PREPARED = 64


class BFloat16Session:
    """As services.runtime.onnx.Session: 1.6 to 2 times as fast in batches, slower on few tokens, since each change of
    shape costs it 2 ms.

    threads: how many may compute at once. Raises ProviderError where OpenVINO is not installed or the CPU would only
    imitate bfloat16, and what OpenVINO raises for a file that is not a model.
    """

    def __init__(self, model: Path, threads: int) -> None:
        if importlib.util.find_spec("openvino") is None:
            raise ProviderError(f"provider {OPENVINO} is not installed: pip install openvino")
        # Its telemetry would write into the home directory and report that it is used; absent, it is not missed.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        # Loaded here: that takes half a second, which only those pay who use it.
        import openvino

        config = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": _PREPARED,
        }
        self._model = openvino.Core().compile_model(str(model), "CPU", config)
        # Told to, it would imitate bfloat16, slowly: left alone it takes what the CPU is made for.
        precision = self._model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if precision != "bf16":
            raise ProviderError(f"provider {OPENVINO} is for bfloat16; on this CPU it computes in {precision}")
        self._of_thread = threading.local()

    def run(self, outputs: Sequence[str], inputs: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """As services.runtime.onnx.Session.run."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._model.create_infer_request()
        found = self._of_thread.request.infer(inputs, share_inputs=True)
        # The thread's next run writes over what this one gives.
        values = [found[name].copy() for name in outputs]
        return checked(outputs, values, len(next(iter(inputs.values()))))
