"""A bundle is read only if it is whole."""

import json
from pathlib import Path

import pytest

from services.domain.bundle import Bundle, BundleError, EncoderManifest, Manifest, read_bundle, write_bundle
from services.domain.text import TextTemplate


def make(path: Path) -> Bundle:
    (path / "encoder").mkdir(parents=True)
    (path / "encoder/model.onnx").write_bytes(b"model" * 1000)
    (path / "encoder/tokenizer.json").write_text("{}")
    encoder = EncoderManifest(4, 128, "v1", ("latin",), TextTemplate())
    return write_bundle(path, Manifest(encoder, "2026-01-01T00:00:00Z", {"parity": 1.0}))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = make(tmp_path / "b")
    assert read_bundle(tmp_path / "b") == written
    assert len(written.generation) == 64


def test_another_content_is_another_generation(tmp_path: Path) -> None:
    one = make(tmp_path / "one")
    (tmp_path / "one/encoder/tokenizer.json").write_text("{ }")
    assert write_bundle(tmp_path / "one", one.manifest).generation != one.generation


def test_a_missing_bundle_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json: No such file or directory; SOUK_BUNDLE must name"):
        read_bundle(tmp_path)


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    make(tmp_path / "b")
    (tmp_path / "b/encoder/model.onnx").write_bytes(b"model")
    with pytest.raises(BundleError, match=r"model\.onnx: 5 bytes; the manifest says 5000"):
        read_bundle(tmp_path / "b")


def test_an_altered_file_is_named(tmp_path: Path) -> None:
    make(tmp_path / "b")
    (tmp_path / "b/encoder/model.onnx").write_bytes(b"MODEL" * 1000)
    with pytest.raises(BundleError, match=r"model\.onnx: its content is not what the manifest says"):
        read_bundle(tmp_path / "b")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    make(tmp_path / "b")
    (tmp_path / "b/encoder/tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json: missing"):
        read_bundle(tmp_path / "b")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "\x00"])
def test_a_broken_manifest_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match="not a manifest"):
        read_bundle(tmp_path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "b")
    manifest = tmp_path / "b/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    with pytest.raises(BundleError, match="format 99; this version of Souk reads format 1"):
        read_bundle(tmp_path / "b")


def test_a_manifest_that_names_a_missing_file_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx: not there"):
        write_bundle(tmp_path, Manifest(EncoderManifest(4, 128, "v", (), TextTemplate()), "now"))
