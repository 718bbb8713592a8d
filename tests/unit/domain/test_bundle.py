"""A bundle is read only if it is whole."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from services.domain.bundle import (
    Bundle,
    BundleError,
    ColdstartManifest,
    EncoderManifest,
    Manifest,
    RankerManifest,
    read_bundle,
    write_bundle,
)
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


RANKER = RankerManifest(64, 128, "r1", "v1", ("affinity", "seen"), {"HOME": (1.0, 2.0, 4.0)})
COLDSTART = ColdstartManifest("t1", "v1", ("Shoes", "Lamps"))


def make_whole(path: Path, **changes: RankerManifest | ColdstartManifest) -> Bundle:
    manifest = make(path).manifest
    parts = {"ranker": RANKER, "coldstart": COLDSTART} | changes
    for name in (*RANKER.files, COLDSTART.topics):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(name.encode())
    return write_bundle(path, replace(manifest, **parts))  # type: ignore[arg-type]


def test_ranker_and_coldstart_are_read_as_written(tmp_path: Path) -> None:
    written = make_whole(tmp_path / "b")
    read = read_bundle(tmp_path / "b")
    assert read == written
    assert (read.manifest.ranker, read.manifest.coldstart) == (RANKER, COLDSTART)


def test_a_bundle_from_before_the_ranker_is_read(tmp_path: Path) -> None:
    make(tmp_path / "b")
    file = tmp_path / "b/manifest.json"
    values = json.loads(file.read_text())
    del values["ranker"], values["coldstart"]
    file.write_text(json.dumps(values))
    manifest = read_bundle(tmp_path / "b").manifest
    assert manifest.ranker is None
    assert manifest.coldstart is None


def test_a_ranker_that_reads_no_content_goes_with_any_encoder(tmp_path: Path) -> None:
    alone = replace(RANKER, content_space_version=None, projection=None)
    written = make_whole(tmp_path / "b", ranker=alone)
    assert read_bundle(tmp_path / "b").manifest.ranker == written.manifest.ranker == alone
    assert RANKER.projection not in alone.files


@pytest.mark.parametrize("name", [*RANKER.files[1:], COLDSTART.topics])
def test_a_part_without_its_file_is_not_sealed_nor_read(tmp_path: Path, name: str) -> None:
    written = make_whole(tmp_path / "b")
    (tmp_path / "b" / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: missing from the bundle"):
        read_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match=f"{name}: not there, though the manifest names it"):
        write_bundle(tmp_path / "b", written.manifest)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("ranker", replace(RANKER, content_space_version="other")),
        ("coldstart", replace(COLDSTART, content_space_version="other")),
    ],
)
def test_parts_of_another_content_space_are_refused(
    tmp_path: Path, name: str, part: RankerManifest | ColdstartManifest
) -> None:
    with pytest.raises(BundleError, match=f"the {name} was trained on content space other, the encoder makes v1"):
        make_whole(tmp_path / "b", **{name: part})
