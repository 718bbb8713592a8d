"""The container's limit counts, not the machine's processors."""

import os
from pathlib import Path

import pytest

from services.runtime.threads import cpu_limit


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
