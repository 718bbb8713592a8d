"""The bundle: one directory with every artefact trained together, sealed by a manifest whose hash is the generation."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from services.domain.search import SearchManifest
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
class RankerManifest:
    """The ranker and its behaviour space; paths are relative to the bundle.

    `features` names the columns that the heads read, in order; `objectives` the probabilities they give, in order;
    `scene_weights` says for each scene (without SCENE_) what each objective counts. One that was learned without
    content has no content space and no projection. `signals` are those of services.domain.signals, where heads read
    them.
    """

    dim: int
    max_history: int
    space_version: str
    content_space_version: str | None
    features: tuple[str, ...]
    scene_weights: dict[str, tuple[float, ...]]
    objectives: tuple[str, ...] = ("click", "cart", "purchase")
    shopper_model: str = "ranker/shopper.onnx"
    heads_model: str = "ranker/heads.onnx"
    items: str = "ranker/items.npz"
    projection: str | None = "ranker/projection.npz"
    signals: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All that it names."""
        optional = (name for name in (self.projection, self.signals) if name is not None)
        return (self.shopper_model, self.heads_model, self.items, *optional)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "RankerManifest":
        """From plain JSON values. Raises KeyError, TypeError, ValueError."""
        weights = {scene: tuple(map(float, given)) for scene, given in values["scene_weights"].items()}
        lists = {name: tuple(values[name]) for name in ("features", "objectives")}
        return cls(**{**values, **lists, "scene_weights": weights})


@dataclass(frozen=True)
class ColdstartManifest:
    """The topic space, and the blend of strategies where the log was enough for one; paths are relative to the
    bundle."""

    space_version: str
    content_space_version: str
    labels: tuple[str, ...]
    topics: str = "coldstart/topics.npz"
    blend: str | None = None

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ColdstartManifest":
        """From plain JSON values. Raises KeyError, TypeError."""
        return cls(**{**values, "labels": tuple(values["labels"])})


@dataclass(frozen=True)
class RerankerManifest:
    """The cross-encoder that reads a query with a candidate; paths are relative to the bundle.

    `weight` is the share of its relevance in the score of a candidate; `scripts` those its vocabulary covers. It
    belongs to no space.
    """

    max_tokens: int
    weight: float
    scripts: tuple[str, ...]
    model: str = "reranker/model.onnx"
    tokenizer: str = "reranker/tokenizer.json"

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "RerankerManifest":
        """From plain JSON values. Raises KeyError, TypeError, ValueError."""
        made = cls(**{**values, "scripts": tuple(values["scripts"])})
        if not 0 <= made.weight <= 1:
            raise ValueError(f"reranker.weight: must be from 0 to 1, not {made.weight}")
        return made


@dataclass(frozen=True)
class Manifest:
    """What is in a bundle, which spaces it speaks, and how well it did.

    Without a ranker or a coldstart the bundle serves search alone, as one made before these were trained does; without
    a search part it is scored by the defaults. The search part belongs to no space: another one embeds nothing anew.
    """

    encoder: EncoderManifest
    created_at: str
    metrics: dict[str, float] = field(default_factory=dict)
    ranker: RankerManifest | None = None
    coldstart: ColdstartManifest | None = None
    search: SearchManifest | None = None
    reranker: RerankerManifest | None = None


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and found whole."""

    path: Path
    generation: str
    manifest: Manifest


def write_bundle(path: Path, manifest: Manifest) -> Bundle:
    """Seals the files in `path` with a manifest.

    Raises BundleError where a file that it names is not there, and where a part was trained on another content space.
    """
    files = {
        str(file.relative_to(path)): {"sha256": _sha256(file), "bytes": file.stat().st_size}
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    _check(path, manifest, files)
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
        _check(path, manifest, files)
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{file}: not a manifest ({type(error).__name__}: {error})") from None
    for name, expected in files.items():
        _verify(path / name, expected)
    return Bundle(path, hashlib.sha256(raw).hexdigest(), manifest)


def _manifest(values: dict[str, Any]) -> Manifest:
    encoder = dict(values["encoder"])
    encoder["template"] = TextTemplate.from_json(encoder["template"])
    encoder["scripts"] = tuple(encoder["scripts"])
    ranker, coldstart = values.get("ranker"), values.get("coldstart")
    search, reranker = values.get("search"), values.get("reranker")
    return Manifest(
        EncoderManifest(**encoder),
        values["created_at"],
        values["metrics"],
        None if ranker is None else RankerManifest.from_json(ranker),
        None if coldstart is None else ColdstartManifest.from_json(coldstart),
        None if search is None else SearchManifest.from_json(search),
        None if reranker is None else RerankerManifest.from_json(reranker),
    )


def _check(path: Path, manifest: Manifest, files: dict[str, Any]) -> None:
    for name in _named(manifest):
        if name not in files:
            raise BundleError(f"{path / name}: not there, though the manifest names it")
    content = manifest.encoder.space_version
    for name, part in (("ranker", manifest.ranker), ("coldstart", manifest.coldstart)):
        if part is not None and part.content_space_version not in (None, content):
            raise BundleError(
                f"{path}: the {name} was trained on content space {str(part.content_space_version)[:12]}, "
                f"the encoder makes {content[:12]}: train it again with this encoder"
            )


def _named(manifest: Manifest) -> Iterator[str]:
    yield from (manifest.encoder.model, manifest.encoder.tokenizer)
    if manifest.ranker is not None:
        yield from manifest.ranker.files
    if manifest.coldstart is not None:
        yield manifest.coldstart.topics
        if manifest.coldstart.blend is not None:
            yield manifest.coldstart.blend
    if manifest.reranker is not None:
        yield from (manifest.reranker.model, manifest.reranker.tokenizer)
    if manifest.search is not None and manifest.search.synonyms:
        yield manifest.search.synonyms


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
