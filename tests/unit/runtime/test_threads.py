"""The container's limit counts, not the machine's processors."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from services.runtime.threads import Pace, cpu_limit, low_priority


@pytest.mark.parametrize(("text", "expected"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None)])
def test_cgroup_2(tmp_path: Path, text: str, expected: int | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_limit(tmp_path) == (expected or len(os.sched_getaffinity(0)))


def test_cgroup_1(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cpu_limit(tmp_path) == 1


def test_no_container(tmp_path: Path) -> None:
    assert cpu_limit(tmp_path) == len(os.sched_getaffinity(0))


# A small product every 10 ms, as a request brings it: the share of the time that the process computes, all its threads.
_NOW_AND_THEN = """
import time
import services.runtime
import numpy as np
a = np.random.default_rng(1).standard_normal((200, 200)).astype(np.float32)
a @ a
wall, processor = time.monotonic(), time.process_time()
for _ in range(60):
    a @ a
    time.sleep(0.01)
print((time.process_time() - processor) / (time.monotonic() - wall))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a library's second thread needs a second processor")
def test_threads_of_libraries_sleep_between_requests() -> None:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_THREAD_TIMEOUT")
    own = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", _NOW_AND_THEN], env=own, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.5


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_work_of_low_priority_leaves_the_priority_of_the_others() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    own = priority()
    with low_priority("build") as pool:
        assert pool.submit(priority).result() == 10
    assert priority() == own


def test_long_work_rests_three_times_as_long_as_it_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    slept: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", slept.append)
    pace = Pace()
    for _ in range(10):
        now += 0.0005
        pace.rest()
    assert slept == pytest.approx([0.006, 0.006])
