"""Assembles a bundle: copies what was trained into a new directory, seals it and reads it back."""

import os
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from services.domain.bundle import MANIFEST, Bundle, EncoderManifest, Manifest, read_bundle, write_bundle
from training.bundle.search import SearchPartError, read_search
from training.coldstart.card import BLEND, TOPICS, ColdstartCard
from training.coldstart.card import CARD as COLDSTART_CARD
from training.encoder.card import CARD, MODEL, TOKENIZER, Card, ExportError
from training.encoder.release import problems
from training.encoder.reranker.card import CARD as RERANKER_CARD
from training.encoder.reranker.card import MODEL as RERANKER
from training.encoder.reranker.card import TOKENIZER as RERANKER_TOKENIZER
from training.encoder.reranker.card import RerankerCard, RerankerError
from training.new_directory import new_directory
from training.ranker.card import CARD as RANKER_CARD
from training.ranker.card import CardError, RankerCard


class AssembleError(Exception):
    """A bundle cannot be made of what was given; the message says why."""


def assemble(
    encoder: Path,
    out: Path,
    ranker: Path | None = None,
    coldstart: Path | None = None,
    search: Path | None = None,
    reranker: Path | None = None,
) -> Bundle:
    """Makes the new directory `out` from an exported encoder and what was trained on its content space, all or nothing.

    `encoder` may be a bundle: its encoder is taken as it is. `search` is a file of JSON that says how searches are
    scored. Raises AssembleError, also where a part was trained on another content space, and BundleError when a copied
    file reads back as another.
    """
    if out.exists():
        raise AssembleError(f"{out}: exists already; a bundle never changes, name a new directory with --out")
    made = _encoder(encoder)
    parts: list[_Part] = [made]
    manifest = Manifest(made.manifest, datetime.now(UTC).isoformat(timespec="seconds"))
    try:
        if ranker is not None:
            card = RankerCard.read(ranker / RANKER_CARD)
            # In both directories a file has the same name.
            files = {Path(name).name: name for name in card.manifest.files}
            parts.append(_Part(ranker, files, card.metrics))
            manifest = replace(manifest, ranker=card.manifest)
        if coldstart is not None:
            topics = ColdstartCard.read(coldstart / COLDSTART_CARD)
            files = {TOPICS: topics.manifest.topics}
            if topics.manifest.blend is not None:
                files[BLEND] = topics.manifest.blend
            parts.append(_Part(coldstart, files, topics.metrics))
            manifest = replace(manifest, coldstart=topics.manifest)
        if search is not None:
            scored, synonyms = read_search(search)
            if synonyms is not None:
                parts.append(_Part(synonyms.parent, {synonyms.name: scored.synonyms}, {}))
            manifest = replace(manifest, search=scored)
        if reranker is not None:
            read = RerankerCard.read(reranker / RERANKER_CARD)
            files = {RERANKER: read.manifest.model, RERANKER_TOKENIZER: read.manifest.tokenizer}
            parts.append(_Part(reranker, files, read.metrics))
            manifest = replace(manifest, reranker=read.manifest)
    except (CardError, SearchPartError, RerankerError) as error:
        raise AssembleError(str(error)) from None
    for path, trained in ((ranker, manifest.ranker), (coldstart, manifest.coldstart)):
        content = manifest.encoder.space_version
        if trained is not None and trained.content_space_version not in (None, content):
            raise AssembleError(
                f"{path}: trained on content space {str(trained.content_space_version)[:12]}, "
                f"but the encoder makes {content[:12]}: train it again with --bundle {encoder}"
            )
    manifest = replace(manifest, metrics={name: value for part in parts for name, value in part.metrics.items()})
    with new_directory(out) as draft:
        for part in parts:
            for source, name in part.files.items():
                _copy(part.path / source, draft / name)
        write_bundle(draft, manifest)
        read_bundle(draft)
    return read_bundle(out)


@dataclass(frozen=True)
class _Part:
    """What was made in one directory: files by their name there, with their names in the bundle."""

    path: Path
    files: dict[str, str]
    metrics: dict[str, float]


@dataclass(frozen=True)
class _EncoderPart(_Part):
    manifest: EncoderManifest


def _encoder(path: Path) -> _EncoderPart:
    if (path / MANIFEST).is_file():
        made = read_bundle(path).manifest
        named = made.encoder
        metrics = {name: value for name, value in made.metrics.items() if name.startswith("encoder.")}
        return _EncoderPart(path, {named.model: named.model, named.tokenizer: named.tokenizer}, metrics, named)
    try:
        card = Card.read(path / CARD)
    except ExportError as error:
        raise AssembleError(str(error)) from None
    if found := problems(card):
        raise AssembleError(f"{path}: {'; '.join(found)}")
    named = EncoderManifest(
        dim=card.dim,
        max_tokens=card.max_tokens,
        space_version=card.space_version,
        scripts=card.scripts,
        template=card.template,
        precision=card.precision,
    )
    return _EncoderPart(path, {MODEL: named.model, TOKENIZER: named.tokenizer}, card.metrics, named)


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise AssembleError(f"{source}: missing; make the directory it was in again")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    with target.open("rb") as copy:
        os.fsync(copy.fileno())
