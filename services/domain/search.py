"""How search scores: the parameters of BM25F, how words and vectors share a score, and which words mean the same."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from services.domain.checks import Invalid, check_count, check_text

FIELDS = ("title", "description", "brand", "attributes", "category")
FUSIONS = ("convex", "reciprocal_rank", "discounted")

# What a word counts in addition where it names the item's brand: the brand's items come first among equals, and one
# word more still counts for more.
BRAND = 0.3
# What a match of a word like "for" counts: few titles hold one, and "watches for men" asks for watches.
FUNCTION_WORD = 0.1
# Words of a brand's name at most.
MAX_BRAND_WORDS = 4

MAX_WEIGHT = 100.0
MIN_K1, MAX_K1 = 0.01, 10.0
MAX_GROUPS = 10_000
MAX_SAME = 32
MAX_PHRASE_BYTES = 128


@dataclass(frozen=True)
class Bm25f:
    """The weight of a word by the field it stands in, and k1 and b of BM25F (Robertson, Zaragoza, Taylor 2004).

    Raises Invalid, with the parameter named, where one is out of its range: weights 0 to 100 with one of them above 0,
    k1 0.01 to 10, b 0 to 1. The defaults were tuned on real queries of an electronics shop.
    """

    title: float = 3.0
    description: float = 1.0
    brand: float = 2.0
    attributes: float = 0.3
    category: float = 2.0
    k1: float = 0.4
    b: float = 0.75

    def __post_init__(self) -> None:
        for name, weight in zip(FIELDS, self.weights, strict=True):
            _check_number(weight, name, 0, MAX_WEIGHT)
        if not any(self.weights):
            raise Invalid("title", "0, as the weights of all other fields are; one of them must be above 0")
        _check_number(self.k1, "k1", MIN_K1, MAX_K1)
        _check_number(self.b, "b", 0, 1)

    @property
    def weights(self) -> tuple[float, ...]:
        """In the order of FIELDS."""
        return tuple(getattr(self, name) for name in FIELDS)


@dataclass(frozen=True)
class SearchManifest:
    """How a generation's searches are scored; `synonyms` is a path relative to the bundle, empty where there are none.

    `words_weight` is the share of words in a search by words and vectors, 0 to 1; the vectors have the rest. Share and
    fusion did best on judged shops of different kinds together (docs/search-quality.md).
    """

    bm25f: Bm25f = field(default_factory=Bm25f)
    words_weight: float = 0.2
    fusion: str = "discounted"
    synonyms: str = ""

    def __post_init__(self) -> None:
        _check_number(self.words_weight, "words_weight", 0, 1)
        if self.fusion not in FUSIONS:
            raise Invalid("fusion", f"{self.fusion!r}; it must be {' or '.join(FUSIONS)}")
        if not isinstance(self.synonyms, str):
            raise Invalid("synonyms", f"{self.synonyms!r}; it must be the path of a file")

    @classmethod
    def from_json(cls, values: Any) -> "SearchManifest":
        """From plain JSON values; what is absent has its default. Raises Invalid with the field named."""
        given = _known(cls, values, "")
        if "bm25f" in given:
            named = _known(Bm25f, given["bm25f"], "bm25f.")
            try:
                given["bm25f"] = Bm25f(**named)
            except Invalid as invalid:
                raise Invalid(f"bm25f.{invalid.field}", invalid.problem) from None
        return cls(**given)


def read_synonyms(text: str) -> tuple[tuple[str, ...], ...]:
    """Groups of words or phrases that mean the same, one group a line, separated by commas; `#` begins a comment.

    Raises Invalid, with the line named: at most 10,000 groups of 2 to 32, each of at most 128 bytes.
    """
    groups = []
    for number, line in enumerate(text.splitlines(), 1):
        said = line.split("#", 1)[0].strip()
        if not said:
            continue
        group = tuple(phrase.strip() for phrase in said.split(","))
        check_count(group, f"line {number}", 2, MAX_SAME)
        for phrase in group:
            check_text(phrase, f"line {number}", MAX_PHRASE_BYTES)
        groups.append(group)
    check_count(groups, "groups", 0, MAX_GROUPS)
    return tuple(groups)


def _known(kind: type, values: Any, path: str) -> dict[str, Any]:
    names = [one.name for one in fields(kind)]
    if not isinstance(values, dict):
        raise Invalid(path.rstrip(".") or "search", f"{values!r}; it must be an object of {', '.join(names)}")
    for name in values:
        if name not in names:
            raise Invalid(f"{path}{name}", f"unknown; known: {', '.join(names)}")
    return dict(values)


def _check_number(value: Any, name: str, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Invalid(name, f"{value!r}; it must be a finite number")
    if not low <= value <= high:
        raise Invalid(name, f"{value}; it must be {low:g} to {high:g}")
