"""The card of trained topics and blend: what they are and how they did. Knows no torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from services.domain.bundle import ColdstartManifest
from training.ranker.card import CardError, read_card

TOPICS = "topics.npz"
BLEND = "blend.npz"
CARD = "coldstart.json"


@dataclass(frozen=True)
class ColdstartCard:
    """What trained topics and blend are and how they did; kept beside them as coldstart.json."""

    manifest: ColdstartManifest
    metrics: dict[str, float]

    def write(self, path: Path) -> None:
        """Writes the card as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "ColdstartCard":
        """Reads a card. Raises CardError if it is not there or not one."""
        values = read_card(path, "python -m training train coldstart")
        try:
            return cls(ColdstartManifest.from_json(values["manifest"]), values["metrics"])
        except (KeyError, TypeError) as error:
            raise CardError(f"{path}: not a coldstart's card ({type(error).__name__}: {error})") from None
