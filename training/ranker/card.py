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
class Promise:
    """Differential privacy of the heads, by shopper: (epsilon, delta) as the accountant found it.

    `noise` is its standard deviation over `clip`, the length to which the gradient of a shopper is cut; each of `steps`
    took a shopper with the chance `share`. `shoppers` are promised this, `covers` says who they are, `leaves_out` who
    and what is not covered.
    """

    epsilon: float
    delta: float
    noise: float
    clip: float
    steps: int
    share: float
    shoppers: int
    covers: str
    leaves_out: str


@dataclass(frozen=True)
class RankerCard:
    """What a trained ranker is, what it proved, and what is promised to shoppers where its heads are private; kept
    beside it as ranker.json."""

    manifest: RankerManifest
    metrics: dict[str, float]
    privacy: Promise | None = None

    def write(self, path: Path) -> None:
        """Writes the card as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, path: Path) -> "RankerCard":
        """Reads a card. Raises CardError if it is not there or not one."""
        values = read_card(path, "python -m training train ranker")
        try:
            manifest, metrics, promised = values["manifest"], values["metrics"], values.get("privacy")
            privacy = None if promised is None else Promise(**promised)
            return cls(RankerManifest.from_json(manifest), metrics, privacy)
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
