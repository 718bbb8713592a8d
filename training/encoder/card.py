"""The card of an exported encoder: what it is and what it proved. Knows no torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.domain.text import TextTemplate

MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
CARD = "encoder.json"


class ExportError(Exception):
    """The model cannot be exported as it stands; the message says what is wrong with it."""


@dataclass(frozen=True)
class Card:
    """What an exported encoder is and what it proved; kept beside it as encoder.json."""

    dim: int
    max_tokens: int
    space_version: str
    scripts: tuple[str, ...]
    template: TextTemplate
    precision: str
    metrics: dict[str, float]

    def write(self, path: Path) -> None:
        """Writes the card as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Card":
        """Reads a card. Raises ExportError if it is not there or not one."""
        try:
            values: dict[str, Any] = json.loads(path.read_text())
            values["template"] = TextTemplate.from_json(values["template"])
            values["scripts"] = tuple(values["scripts"])
            return cls(**values)
        except OSError as error:
            raise ExportError(f"{path}: {error.strerror}; `python -m training encoder export` writes it") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ExportError(f"{path}: not an encoder's card ({type(error).__name__}: {error})") from None
