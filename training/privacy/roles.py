"""Who may read what: a file that says which fields each role owns, and with which keys they are encrypted."""

import tomllib
from pathlib import Path

from training.privacy.keys import BadKey, KeyRing, read_keys

_KEYS = {"key_file", "fields"}


def read_roles(file: Path | None) -> dict[str, KeyRing]:
    """The keys of the role that owns a field, by the field: `query`, or an attribute of shoppers. Of a TOML file: a
    table for each role, with `key_file` (beside this file) and `fields`; without a file nobody owns any.

    Raises BadKey naming the role whose entry or keys do not fit, OSError where a file cannot be read.
    """
    if file is None:
        return {}
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadKey(f"{file}: {error}") from None
    owned: dict[str, KeyRing] = {}
    owners: dict[bytes, str] = {}
    for role, entry in told.items():
        at = f"{file}: [{role}]"
        if not isinstance(entry, dict) or set(entry) != _KEYS:
            raise BadKey(f"{at} must hold key_file and fields, and nothing else")
        name, fields = entry["key_file"], entry["fields"]
        if not isinstance(name, str) or not isinstance(fields, list) or not all(isinstance(f, str) for f in fields):
            raise BadKey(f"{at} key_file must be a text and fields a list of texts")
        keys = read_keys(file.parent / name)
        for key in keys.keys.values():
            if (other := owners.setdefault(key, role)) != role:
                raise BadKey(f"{at} has a key of [{other}] in {name}: either could read what the other owns")
        for one in fields:
            if one in owned:
                raise BadKey(f"{at} {one} has another owner already")
            owned[one] = keys
    return owned
