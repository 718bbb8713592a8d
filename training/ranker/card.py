"""The card of a trained ranker: what it is and how it did. Knows no torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.domain.bundle import RankerManifest

SHOPPER = "shopper.onnx"
HEADS = "heads.onnx"
ITEMS = "items.npz"
PROJECTION = "projection.npz"
SIGNALS = "signals.npz"
CARD = "ranker.json"


class CardError(Exception):
    """A directory that should hold something trained does not; the message says what to run."""


@dataclass(frozen=True)
class RankerCard:
    """What a trained ranker is and what it proved; kept beside it as ranker.json."""

    manifest: RankerManifest
    metrics: dict[str, float]

    def write(self, path: Path) -> None:
        """Writes the card as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, path: Path) -> "RankerCard":
        """Reads a card. Raises CardError if it is not there or not one."""
        values = read_card(path, "python -m training train ranker")
        try:
            return cls(RankerManifest.from_json(values["manifest"]), values["metrics"])
        except (ValueError, KeyError, TypeError) as error:
            raise CardError(f"{path}: not a ranker's card ({type(error).__name__}: {error})") from None


def read_card(path: Path, maker: str) -> dict[str, Any]:
    """The values in a card. Raises CardError, which names the command that writes it."""
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except OSError as error:
        raise CardError(f"{path}: {error.strerror}; `{maker}` writes it") from None
    except ValueError as error:
        raise CardError(f"{path}: not a card ({error})") from None
    return values
