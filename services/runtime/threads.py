"""How many processors the process really has, and pools of that size."""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_LOW_PRIORITY = 10


def cpu_limit(cgroup: Path = _CGROUP) -> int:
    """Whole processors the container or the affinity mask grants: at least 1.

    Libraries that count the machine's processors instead run up to six times slower in a small container.
    """
    affinity = len(os.sched_getaffinity(0))
    return max(1, min(affinity, int(_cgroup_quota(cgroup) or affinity)))


def _cgroup_quota(cgroup: Path) -> float | None:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return float(quota) / float(period)


def limit_libraries(threads: int) -> None:
    """Tells OpenMP, BLAS and the tokenizers before they are loaded; what the operator set stays."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    # OpenBLAS's threads wait for the next product in a loop of 2^26 cycles before they sleep: in a ranker that answers
    # 30 times a second one was never idle, and took a processor from the others. 2^4 is the least it takes.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")


def pool(name: str, threads: int) -> ThreadPoolExecutor:
    """Worker threads whose name shows in stack dumps."""
    return ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)


def low_priority(name: str) -> ThreadPoolExecutor:
    """One worker thread that takes the processor time which others leave, and so do the threads that it starts.

    For long work in libraries only: a thread that waits for a processor with Python's lock in hand keeps all others
    from theirs.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=name, initializer=_lower_priority)


def _lower_priority() -> None:
    if sys.platform == "linux":  # Elsewhere a thread has no priority of its own.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOW_PRIORITY)


class Pace:
    """Long work in Python beside requests: it rests three times as long as it worked, after each two milliseconds.

    A thread that wants Python's lock waits up to five milliseconds for one that does not let go of it, and an answer
    wants it many times.
    """

    _WORK_SECONDS = 0.002
    _RESTS = 3

    def __init__(self) -> None:
        self._began = time.monotonic()

    def rest(self) -> None:
        """Rests if it is time to; to be called at least each millisecond or so."""
        worked = time.monotonic() - self._began
        if worked >= self._WORK_SECONDS:
            time.sleep(self._RESTS * worked)
            self._began = time.monotonic()
