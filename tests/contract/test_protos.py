"""The contract says what it must, and what guards it really guards."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROTOS = Path(__file__).resolve().parents[2] / "protos"
BUF = Path(sys.executable).with_name("buf")
RPC = re.compile(r"((?:^  //.*\n)+)  rpc (\w+)\(", re.MULTILINE)
STATUS = re.compile(r"[A-Z]{2,}(_[A-Z]+)*  |[Ss]tatuses as for|others as for")
FILES = sorted(PROTOS.rglob("*.proto"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_rpc_lists_its_statuses(file: Path) -> None:
    text = file.read_text()
    described = {name: comment for comment, name in RPC.findall(text)}
    assert set(described) == set(re.findall(r"^  rpc (\w+)\(", text, re.MULTILINE))
    local = {"ListGenerations"}  # Answers from memory in every state of the process.
    silent = [name for name, comment in described.items() if not STATUS.search(comment) and name not in local]
    assert not silent


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_message_carries_a_timeout(file: Path) -> None:
    assert not re.search(r"^\s+\w+ \w*(timeout|deadline)\w* = ", file.read_text(), re.MULTILINE)


def buf(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BUF, *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("  string title = 3;", "  string name = 3;", 'Field "3" with name "name"'),
        ("  uint64 revision = 2;", "  int64 revision = 2;", 'Field "2" with name "revision"'),
        ("  STAGE_HOT = 3;", "  STAGE_WARMER = 3;", 'Enum value "3"'),
    ],
)
def test_a_breaking_change_is_caught(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    copy = tmp_path / "protos"
    shutil.copytree(PROTOS, copy)
    assert buf(copy, "breaking", "--against", "baseline.binpb").returncode == 0
    types = copy / "souk/types/v1/types.proto"
    types.write_text(types.read_text().replace(old, new, 1))
    broken = buf(copy, "breaking", "--against", "baseline.binpb")
    assert broken.returncode != 0
    assert complaint in broken.stdout


def test_an_uncommented_field_is_caught(tmp_path: Path) -> None:
    copy = tmp_path / "protos"
    shutil.copytree(PROTOS, copy)
    types = copy / "souk/types/v1/types.proto"
    types.write_text(
        types.read_text().replace("  // Units left: 0 is out of stock, absent is not tracked (always sellable).\n", "")
    )
    assert "should have a non-empty comment" in buf(copy, "lint").stdout
