"""The bundle: one directory with every artefact trained together, sealed by a manifest whose hash is the generation."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from services.domain.text import TextTemplate

FORMAT = 1
MANIFEST = "manifest.json"


class BundleError(Exception):
    """A bundle is missing, incomplete, altered or of another format; the message names the file."""


@dataclass(frozen=True)
class EncoderManifest:
    """The encoder of the content space; paths are relative to the bundle."""

    dim: int
    max_tokens: int
    space_version: str
    scripts: tuple[str, ...]
    template: TextTemplate
    model: str = "encoder/model.onnx"
    tokenizer: str = "encoder/tokenizer.json"
    precision: str = "fp32"


@dataclass(frozen=True)
class Manifest:
    """What is in a bundle, which spaces it speaks, and how well it did."""

    encoder: EncoderManifest
    created_at: str
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and found whole."""

    path: Path
    generation: str
    manifest: Manifest


def write_bundle(path: Path, manifest: Manifest) -> Bundle:
    """Seals the files in `path` with a manifest. Raises BundleError if one that it names is not there."""
    files = {
        str(file.relative_to(path)): {"sha256": _sha256(file), "bytes": file.stat().st_size}
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    for name in (manifest.encoder.model, manifest.encoder.tokenizer):
        if name not in files:
            raise BundleError(f"{path / name}: not there, though the manifest names it")
    text = json.dumps({"format": FORMAT, **asdict(manifest), "files": files}, indent=1, sort_keys=True) + "\n"
    (path / MANIFEST).write_text(text)
    return Bundle(path, hashlib.sha256(text.encode()).hexdigest(), manifest)


def read_bundle(path: Path) -> Bundle:
    """Reads the manifest and verifies every file against it. Raises BundleError."""
    file = path / MANIFEST
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: {error.strerror}; SOUK_BUNDLE must name a directory with a bundle") from None
    try:
        values = json.loads(raw)
        if values["format"] != FORMAT:
            raise BundleError(f"{file}: format {values['format']}; this version of Souk reads format {FORMAT}")
        manifest = _manifest(values)
        files: dict[str, dict[str, Any]] = values["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{file}: not a manifest ({type(error).__name__}: {error})") from None
    for name, expected in files.items():
        _verify(path / name, expected)
    return Bundle(path, hashlib.sha256(raw).hexdigest(), manifest)


def _manifest(values: dict[str, Any]) -> Manifest:
    encoder = dict(values["encoder"])
    encoder["template"] = TextTemplate.from_json(encoder["template"])
    encoder["scripts"] = tuple(encoder["scripts"])
    return Manifest(EncoderManifest(**encoder), values["created_at"], values["metrics"])


def _verify(file: Path, expected: dict[str, Any]) -> None:
    if not file.is_file():
        raise BundleError(f"{file}: missing from the bundle")
    size = file.stat().st_size
    if size != expected["bytes"]:
        raise BundleError(f"{file}: {size} bytes; the manifest says {expected['bytes']}")
    if _sha256(file) != expected["sha256"]:
        raise BundleError(f"{file}: its content is not what the manifest says")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
