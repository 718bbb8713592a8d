"""bfloat16 by OpenVINO: close to float32, from several threads, in bounded memory, telling nobody."""

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.domain.bundle import read_bundle
from services.runtime.bfloat16 import BFloat16Session
from services.runtime.onnx import ProviderError, Session
from souk.vectors import Float32

# Far more shapes than what is prepared for them is kept; the memory that it is computed in levels off.
_GROWTH = """
import sys
from pathlib import Path
import numpy as np
import psutil
from services.runtime.bfloat16 import BFloat16Session
session = BFloat16Session(Path(sys.argv[1]), 1)
sizes = []
for rows in range(1, 9):
    for tokens in range(4, 64, 2):
        ids = np.full((rows, tokens), 1000)
        session.run(["pooled"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    sizes.append(psutil.Process().memory_info().rss / 1e6)
print(sizes[-1] - sizes[-3])
"""


@pytest.fixture(scope="module")
def model(bundle: Path) -> Path:
    return bundle / read_bundle(bundle).manifest.encoder.model


@pytest.fixture(scope="module")
def session(model: Path) -> BFloat16Session:
    try:
        return BFloat16Session(model, 2)
    except ProviderError as error:
        pytest.skip(str(error))


def inputs(rows: int, tokens: int, seed: int) -> dict[str, NDArray[Any]]:
    ids = np.random.default_rng(seed).integers(1000, 20_000, (rows, tokens))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def cosines(a: Float32, b: Float32) -> Float32:
    result: Float32 = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return result


def in_a_process(code: str, *arguments: object, env: Mapping[str, str] = os.environ) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=120).stdout


def test_it_says_what_float32_says_to_three_digits(session: BFloat16Session, model: Path) -> None:
    asked = inputs(8, 20, 1)
    (rounded,) = session.run(["pooled"], asked)
    (exact,) = Session(model, "CPUExecutionProvider").run(["pooled"], asked)
    assert cosines(rounded, exact).min() > 0.9999
    assert np.abs(rounded - exact).max() > 1e-6, "not rounded: it did not compute in bfloat16"


def test_threads_do_not_see_each_others_answers(session: BFloat16Session) -> None:
    asked = [inputs(3, 4 + seed % 7, seed) for seed in range(40)]
    alone = [session.run(["pooled"], each)[0] for each in asked]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda each: session.run(["pooled"], each)[0], asked))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_an_answer_outlives_the_next_one(session: BFloat16Session) -> None:
    (first,) = session.run(["pooled"], inputs(2, 9, 1))
    kept = first.copy()
    session.run(["pooled"], inputs(2, 9, 2))
    assert (first == kept).all()


def test_ever_new_shapes_do_not_take_ever_more_memory(session: BFloat16Session, model: Path) -> None:
    assert float(in_a_process(_GROWTH, model)) < 60, "megabytes for the last 60 shapes; unbounded it was over 100"


def test_nobody_is_told_that_it_is_used(session: BFloat16Session, model: Path, tmp_path: Path) -> None:
    loads = (
        "import sys; from pathlib import Path; from services.runtime.bfloat16 import BFloat16Session\n"
        "BFloat16Session(Path(sys.argv[1]), 1)\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')])"
    )
    assert in_a_process(loads, model, env={**os.environ, "HOME": str(tmp_path)}).strip() == "[]"
    # It would keep an id and counts in `intel`.
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_it_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ProviderError, match="provider OpenVINO is not installed: pip install openvino"):
        BFloat16Session(model, 1)
