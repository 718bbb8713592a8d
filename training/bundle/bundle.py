"""Assembles a bundle: copies what was trained into a new directory, seals it and reads it back."""

import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from services.domain.bundle import Bundle, EncoderManifest, Manifest, read_bundle, write_bundle
from training.encoder.card import CARD, MODEL, TOKENIZER, Card, ExportError


class AssembleError(Exception):
    """A bundle cannot be made of what was given; the message says why."""


def assemble(encoder: Path, out: Path) -> Bundle:
    """Makes the new directory `out` from an exported encoder, all or nothing.

    Raises AssembleError, and BundleError when a copied file reads back as another.
    """
    if out.exists():
        raise AssembleError(f"{out}: exists already; a bundle never changes, name a new directory with --out")
    try:
        card = Card.read(encoder / CARD)
    except ExportError as error:
        raise AssembleError(str(error)) from None
    manifest = Manifest(
        encoder=EncoderManifest(
            dim=card.dim,
            max_tokens=card.max_tokens,
            space_version=card.space_version,
            scripts=card.scripts,
            template=card.template,
            precision=card.precision,
        ),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        metrics=card.metrics,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for source, name in ((MODEL, manifest.encoder.model), (TOKENIZER, manifest.encoder.tokenizer)):
            _copy(encoder / source, draft / name)
        write_bundle(draft, manifest)
        read_bundle(draft)
        draft.chmod(0o755)
        os.rename(draft, out)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return read_bundle(out)


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise AssembleError(f"{source}: missing; `python -m training encoder export` writes it")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    with target.open("rb") as copy:
        os.fsync(copy.fileno())
