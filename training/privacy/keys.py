"""Secret keys, from a file that only its owner reads or from the environment; never an argument, which `ps` shows."""

import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = "SOUK_PRIVACY_KEYS"
"""Environment variable: as the file's content."""
KEY_BYTES = 32
_OTHERS = 0o077


class BadKey(ValueError):
    """No key, or one that cannot be used; the message says why and never holds any of it."""


@dataclass(frozen=True)
class KeyRing:
    """Keys of 32 bytes by id. The first makes pseudonyms and encrypts; all decrypt."""

    keys: dict[str, bytes]

    @property
    def first(self) -> str:
        """The id of the key that is used for what is new."""
        return next(iter(self.keys))

    def derived(self, key_id: str, use: str) -> bytes:
        """32 bytes for one use, so that no key serves two (HMAC-SHA256 as a key derivation, NIST SP 800-108).

        Raises BadKey where no key has that id.
        """
        if key_id not in self.keys:
            raise BadKey(f"no key is called {key_id!r}: it was encrypted with one that is not here")
        return hmac.digest(self.keys[key_id], use.encode(), "sha256")


def read_keys(file: Path | None) -> KeyRing:
    """The keys of a file, else of the environment: lines of an id and 64 hexadecimal digits. Raises BadKey, OSError."""
    if file is not None:
        if file.stat().st_mode & _OTHERS:
            raise BadKey(f"{file}: others may read it; chmod 600 {file}")
        return _parse(file.read_text(), str(file))
    if text := os.environ.get(ENVIRONMENT):
        return _parse(text, ENVIRONMENT)
    raise BadKey(
        f"no key: name a file with --key-file or set {ENVIRONMENT}; python -m training privacy new-key makes one"
    )


def new_key(file: Path) -> str:
    """Puts a new key first in a file, which is made with mode 600 where it is not there; its id. Raises BadKey."""
    old = read_keys(file).keys if file.exists() else {}
    key_id = secrets.token_hex(4)
    draft = file.with_name(f".{file.name}.{key_id}")
    lines = [f"{one} {key.hex()}\n" for one, key in [(key_id, secrets.token_bytes(KEY_BYTES)), *old.items()]]
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.writelines(lines)
    draft.rename(file)
    return key_id


def _parse(text: str, where: str) -> KeyRing:
    keys: dict[str, bytes] = {}
    for number, line in enumerate(filter(None, map(str.strip, text.splitlines())), 1):
        key_id, _, digits = line.partition(" ")
        try:
            key = bytes.fromhex(digits)
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES or not key_id.isalnum() or key_id in keys:
            raise BadKey(f"{where}, key {number}: must be an id of its own and {2 * KEY_BYTES} hexadecimal digits")
        keys[key_id] = key
    if not keys:
        raise BadKey(f"{where}: holds no key")
    return KeyRing(keys)
