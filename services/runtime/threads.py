"""How many processors the process really has, and pools of that size."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


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
