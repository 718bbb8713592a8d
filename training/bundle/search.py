"""The search part of a bundle: read from a file of JSON, refused with the field named."""

import json
from dataclasses import replace
from pathlib import Path

from services.domain.checks import Invalid
from services.domain.search import SearchManifest, read_synonyms

SYNONYMS = "search/synonyms.txt"


class SearchPartError(ValueError):
    """A search part cannot be read or holds what it may not; the message names the file and the field."""


def read_search(path: Path) -> tuple[SearchManifest, Path | None]:
    """How searches are scored, as it stands in a bundle, and the file of its synonyms.

    The file holds what `SearchManifest` does; `synonyms` is a path from the folder that the file is in. Raises
    SearchPartError.
    """
    try:
        manifest = SearchManifest.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SearchPartError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # Not JSON, not UTF-8, or a field that is refused.
        raise SearchPartError(f"{path}: {error}") from None
    if not manifest.synonyms:
        return manifest, None
    synonyms = path.parent / manifest.synonyms
    try:
        read_synonyms(synonyms.read_text(encoding="utf-8"))
    except OSError as error:
        raise SearchPartError(f"{path}: synonyms: {synonyms}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SearchPartError(f"{synonyms}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except Invalid as invalid:
        raise SearchPartError(f"{synonyms}: {invalid}") from None
    return replace(manifest, synonyms=SYNONYMS), synonyms
