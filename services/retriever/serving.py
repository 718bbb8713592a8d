"""Which bundle a retriever begins with: the one last switched to, until SOUK_BUNDLE names another."""

import json
import os
from pathlib import Path

from services.domain.bundle import Bundle, BundleError, read_bundle
from services.runtime.telemetry import log

FILE = "serving.json"


def note_serving(data: Path, configured: str, generation: str, bundle: Path) -> None:
    """Blocking: remembers in the directory of the catalogue that `generation` serves in place of the `configured` one.

    Atomic; durable when it returns. Raises OSError.
    """
    draft = data / f".{FILE}"
    note = {"configured": configured, "generation": generation, "bundle": str(bundle)}
    with draft.open("w") as file:
        json.dump(note, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(data / FILE)


def begin_with(data: Path, configured: Bundle) -> Bundle:
    """Blocking: the bundle noted in place of the configured one; that itself where the note is of another or the noted
    bundle can no longer be read."""
    try:
        note = json.loads((data / FILE).read_text())
        if note["configured"] != configured.generation or note["generation"] == configured.generation:
            return configured
        noted = read_bundle(Path(note["bundle"]))
        if noted.generation != note["generation"]:
            raise BundleError(f"{noted.path}: holds generation {noted.generation} now")
    except FileNotFoundError:
        return configured
    except (OSError, ValueError, KeyError, TypeError, BundleError) as error:
        log.warning("the generation last switched to cannot be had; SOUK_BUNDLE serves", problem=str(error))
        return configured
    return noted
