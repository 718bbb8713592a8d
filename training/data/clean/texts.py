"""What is wrong with single texts and how it is mended. Every function gives back its own output unchanged."""

import html
import json
import re
import unicodedata
from collections.abc import Callable, Mapping

import ftfy
import polars as pl

# Only such texts are looked at: the others cannot change, and a hundred million of them need no Python.
ODD_ENCODING = (
    r"[\x00-\x1f\x7f-\x{2ff}\x{300}-\x{36f}\x{2000}-\x{22ff}\x{fb00}-\x{fb06}\x{fe00}-\x{feff}\x{fff9}-\x{fffd}]"
)
ODD_MARKUP = r"[<&]"
ODD_SPACE = r"^\s|\s$|\s\s|[^\S ]|[\x{200b}-\x{200d}\x{2060}\x{feff}]"

# Mojibake and control characters only: quotes, widths of letters and ligatures are the shop's own choice.
_FTFY = ftfy.TextFixerConfig(
    unescape_html=False,
    uncurl_quotes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    normalization="NFC",
    explain=False,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
_DROPPED_MARKUP = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_INVISIBLE = re.compile(r"[\u200b-\u200d\u2060\ufeff]")
_ROUNDS = 10
_QUANTITY = re.compile(r"\s*(\d+(?:[.,]\d+)?)\s*([^\W\d_]+)\.?\s*")


def without_mojibake(text: str) -> str:
    """UTF-8 that was read as Latin-1 or the like is read anew (ftfy); control characters go; composed as in NFC."""
    return _settled(lambda one: _CONTROL.sub("", ftfy.fix_text(one, _FTFY)), unicodedata.normalize("NFC", text))


def without_markup(text: str) -> str:
    """HTML as its text: tags become spaces, entities their characters, scripts, styles and comments nothing."""
    return _settled(lambda one: _TAG.sub(" ", _DROPPED_MARKUP.sub(" ", html.unescape(one))), text)


def one_space(text: str) -> str:
    """One space for each run of white space, none at the ends, no invisible characters."""
    return _settled(lambda one: " ".join(_INVISIBLE.sub("", one).split()), text)


def folded(text: str) -> str:
    """What two spellings of one name share: without case, accents, spaces and punctuation."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if letter.isalnum())


def in_unit(text: str, units: Mapping[str, tuple[str, float]]) -> str:
    """`0.5 kg` as `500 g`, where `units` says {"kg": ("g", 1000)}; other texts as they are."""
    found = _QUANTITY.fullmatch(text)
    known = units.get(found[2]) or units.get(found[2].lower()) if found else None
    if found is None or known is None:
        return text
    unit, factor = known
    return f"{float(found[1].replace(',', '.')) * factor:.6f}".rstrip("0").rstrip(".") + f" {unit}"


def attributes_in_units(attributes: str, names: frozenset[str], units: Mapping[str, tuple[str, float]]) -> str:
    """The JSON text of attributes with the values of those named in one unit; as it is where nothing changes."""
    try:
        parsed = json.loads(attributes)
        mended = {
            name: list(dict.fromkeys(in_unit(value, units) for value in values)) if name in names else values
            for name, values in parsed.items()
        }
    except (ValueError, AttributeError, TypeError):
        # Not an object of lists of texts: the limits of the format say so later.
        return attributes
    return attributes if mended == parsed else json.dumps(mended, ensure_ascii=False)


def mended(column: pl.Series, odd: str, mend: Callable[[str], str]) -> pl.Series | None:
    """The texts of a column mended, each different one once, None where none changes; an empty text becomes null.

    `odd`: which can change.
    """
    texts = column.filter(column.str.contains(odd)).unique()
    changed = {text: mend(text) or None for text in texts}
    changed = {text: new for text, new in changed.items() if new != text}
    return column.replace(list(changed), list(changed.values())) if changed else None


def _settled(mend: Callable[[str], str], text: str) -> str:
    """`mend` until nothing changes: what was escaped twice hides a fault in what comes out first."""
    for _ in range(_ROUNDS):
        if (new := mend(text)) == text:
            break
        text = new
    return text
