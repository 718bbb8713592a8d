"""The text that stands for an item or a query before an encoder, and which scripts a text is written in."""

import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from services.domain.offers import describing
from souk.types.v1 import types_pb2


@dataclass(frozen=True)
class TextTemplate:
    """How an item becomes text, and what stands before each kind of text.

    `fields` are taken in order and joined by ". "; each is cut at its number of characters. Part of a space's version:
    another template is another space. The limits keep most items near 100 tokens: MiniLM learned on 128,
    and time grows faster than length.
    """

    fields: tuple[tuple[str, int], ...] = (
        ("title", 256),
        ("brand", 64),
        ("category", 128),
        ("attributes", 128),
        ("description", 256),
    )
    query_prefix: str = ""
    item_prefix: str = ""
    profile_prefix: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TextTemplate":
        """From plain JSON values. Raises ValueError for a field that an item does not have."""
        fields = tuple((str(name), int(limit)) for name, limit in values["fields"])
        for name, _ in fields:
            if name not in _FIELDS:
                raise ValueError(f"text template: an item has no field {name!r}; it has {', '.join(sorted(_FIELDS))}")
        return cls(fields, values["query_prefix"], values["item_prefix"], values["profile_prefix"])


_FIELDS: dict[str, Callable[[types_pb2.Item], str]] = {
    "title": lambda item: item.title,
    "brand": lambda item: item.brand,
    "category": lambda item: ", ".join(item.category_path),
    "attributes": lambda item: ", ".join(f"{a.name} {' '.join(a.values)}" for a in describing(item)),
    "description": lambda item: item.description,
}


def item_text(item: types_pb2.Item, template: TextTemplate) -> str:
    """The item in words, without any prefix."""
    parts = (_FIELDS[name](item)[:limit].strip() for name, limit in template.fields)
    return ". ".join(part for part in parts if part)


def scripts_of(text: str) -> dict[str, float]:
    """Share of each script among the letters of the text ("latin", "han", "cyrillic"); empty without letters."""
    counts = Counter(_script(letter) for letter in text if letter.isalpha())
    total = sum(counts.values())
    return {script: count / total for script, count in counts.items()}


def _script(letter: str) -> str:
    if letter.isascii():
        return "latin"
    # Unicode names begin with the script: LATIN SMALL LETTER E WITH ACUTE, CJK UNIFIED IDEOGRAPH-4E2D.
    first = unicodedata.name(letter, "unknown").split(" ", 1)[0].lower()
    return "han" if first == "cjk" else first
