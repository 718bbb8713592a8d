"""The card of an exported reranker: what it is and what it proved. Knows no torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from services.domain.bundle import RerankerManifest

MODEL, TOKENIZER, CARD = "model.onnx", "tokenizer.json", "reranker.json"


class RerankerError(ValueError):
    """A reranker that cannot be read, or failed a gate; the message says which and why."""


@dataclass(frozen=True)
class RerankerCard:
    """Kept beside an exported reranker as reranker.json."""

    manifest: RerankerManifest
    metrics: dict[str, float]

    def write(self, path: Path) -> None:
        """Writes the card as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, path: Path) -> "RerankerCard":
        """Reads a card. Raises RerankerError if it is not there or not one."""
        try:
            values = json.loads(path.read_text())
            return cls(RerankerManifest.from_json(values["manifest"]), values["metrics"])
        except OSError as error:
            raise RerankerError(f"{path}: {error.strerror}; `encoder reranker` writes it") from None
        except (ValueError, KeyError, TypeError) as error:
            raise RerankerError(f"{path}: not a reranker's card ({type(error).__name__}: {error})") from None
