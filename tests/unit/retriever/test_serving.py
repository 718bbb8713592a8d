"""What a retriever begins with after a switch."""

import json
from pathlib import Path

import pytest

from services.retriever.serving import FILE, begin_with, note_serving
from tests.unit.retriever.test_generations import bundle


def test_the_bundle_switched_to_serves_until_another_is_configured(tmp_path: Path) -> None:
    old, new, newest = (bundle(tmp_path / name, name) for name in ("old", "new", "newest"))
    assert begin_with(tmp_path, old) == old
    note_serving(tmp_path, old.generation, new.generation, new.path)
    assert begin_with(tmp_path, old) == new
    assert begin_with(tmp_path, newest) == newest
    assert begin_with(tmp_path, new) == new
    note_serving(tmp_path, old.generation, old.generation, old.path)
    assert begin_with(tmp_path, old) == old


@pytest.mark.parametrize(
    "note",
    ["", "[]", "{}", json.dumps({"configured": 1, "generation": 2, "bundle": 3})],
)
def test_a_spoiled_note_is_passed_over(tmp_path: Path, note: str) -> None:
    old = bundle(tmp_path / "old", "old")
    (tmp_path / FILE).write_text(note)
    assert begin_with(tmp_path, old) == old


def test_a_bundle_that_is_gone_or_another_is_passed_over(tmp_path: Path) -> None:
    old, new, other = (bundle(tmp_path / name, name) for name in ("old", "new", "other"))
    note_serving(tmp_path, old.generation, new.generation, tmp_path / "nowhere")
    assert begin_with(tmp_path, old) == old
    note_serving(tmp_path, old.generation, new.generation, other.path)
    assert begin_with(tmp_path, old) == old
