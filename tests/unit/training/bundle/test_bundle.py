"""Assembling a bundle: whole or not at all."""

from pathlib import Path

import pytest

from services.domain.bundle import read_bundle
from services.domain.text import TextTemplate
from training.bundle.bundle import AssembleError, assemble
from training.encoder.card import CARD, MODEL, TOKENIZER, Card


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    path = tmp_path / "encoder"
    path.mkdir()
    (path / MODEL).write_bytes(b"model")
    (path / TOKENIZER).write_text("{}")
    Card(384, 256, "ab" * 32, ("latin",), TextTemplate(query_prefix="q: "), "fp32", {"encoder.parity": 1.0}).write(
        path / CARD
    )
    return path


def test_a_bundle_reads_back(encoder: Path, tmp_path: Path) -> None:
    made = assemble(encoder, tmp_path / "out" / "bundle")
    assert made == read_bundle(tmp_path / "out" / "bundle")
    assert made.manifest.encoder.template.query_prefix == "q: "
    assert made.manifest.encoder.scripts == ("latin",)
    assert made.manifest.metrics == {"encoder.parity": 1.0}
    assert (made.path / made.manifest.encoder.model).read_bytes() == b"model"
    assert [file.name for file in made.path.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", [MODEL, TOKENIZER, CARD])
def test_a_missing_file_is_named_and_nothing_is_left(encoder: Path, tmp_path: Path, name: str) -> None:
    (encoder / name).unlink()
    with pytest.raises(AssembleError, match=name):
        assemble(encoder, tmp_path / "bundle")
    assert [file.name for file in tmp_path.iterdir()] == ["encoder"]


def test_a_bundle_is_never_overwritten(encoder: Path, tmp_path: Path) -> None:
    first = assemble(encoder, tmp_path / "bundle")
    with pytest.raises(AssembleError, match="exists already"):
        assemble(encoder, tmp_path / "bundle")
    assert read_bundle(tmp_path / "bundle") == first


def test_a_card_that_is_none_is_named(encoder: Path, tmp_path: Path) -> None:
    (encoder / CARD).write_text("[]")
    with pytest.raises(AssembleError, match="not an encoder's card"):
        assemble(encoder, tmp_path / "bundle")
