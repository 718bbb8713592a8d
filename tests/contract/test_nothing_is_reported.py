"""What Souk runs on must not report to anybody: some libraries do so unless they are told not to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What would keep them silent here and not at a user's.
_SILENCERS = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "GITHUB_ACTIONS", "TF_BUILD", "XDG_CACHE_HOME")


@pytest.mark.parametrize("module", ["services.runtime.onnx", "training.encoder.gates", "loadtest.embedder_naive"])
def test_onnx_runtime_keeps_no_telemetry(module: str, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in _SILENCERS} | {"HOME": str(tmp_path)}
    code = f"import sys, {module}; assert 'onnxruntime' in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=120)
    # The id of the machine and what is still to be sent would be in .cache/Microsoft.
    assert list(tmp_path.rglob("*onnxruntime*")) == []
