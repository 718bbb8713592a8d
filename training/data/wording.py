"""The words of the generated shop: titles, descriptions and attributes of items, and what shoppers type."""

import json
from typing import Any

import numpy as np

from training.data import lexicon
from training.data.world import LEAVES, START, Catalogue, Ints, stream

ITEM_CHUNK = 20_000
CURRENCY = "EUR"
# Consonants that make no word of two letters.
_LETTERS = "BCDFGHJKLMNRSWXZ"
_SUFFIXES = ("", "X", "S", "Pro", "T", "B", "N", "HD")
# Size of the space of model numbers (two letters, four digits, suffix) and a step without common divisor.
_MODELS = len(_LETTERS) ** 2 * 9000 * len(_SUFFIXES)
_MODEL_STEP = 7_368_787


def item_id(number: int) -> str:
    """Public identifier of an item."""
    return f"I{number:07d}"


def shopper_id(number: int) -> str:
    """Public identifier of a shopper."""
    return f"S{number:07d}"


def model_name(model: int, seed: int) -> str:
    """Model number like WH-4000X; distinct for distinct `model` below 18 million."""
    code = (model * _MODEL_STEP + seed) % _MODELS
    code, suffix = divmod(code, len(_SUFFIXES))
    code, digits = divmod(code, 9000)
    return f"{_LETTERS[code // len(_LETTERS)]}{_LETTERS[code % len(_LETTERS)]}-{digits + 1000}{_SUFFIXES[suffix]}"


def series_name(series: int) -> str:
    """Invented name of a series; long catalogues number them on."""
    heads, middles, tails = lexicon.SERIES_HEADS, lexicon.SERIES_MIDDLES, lexicon.SERIES_TAILS
    code = series * 389 % (len(heads) * len(middles) * len(tails))
    code, tail = divmod(code, len(tails))
    head, middle = divmod(code, len(middles))
    turn = series // (len(heads) * len(middles) * len(tails))
    return heads[head] + middles[middle] + tails[tail] + (str(turn + 1) if turn else "")


class Words:
    """The words of single items in their own language."""

    def __init__(self, catalogue: Catalogue, seed: int) -> None:
        self._catalogue = catalogue
        self._seed = seed

    def of(self, item: int) -> dict[str, str]:
        """Words of an item by name: brand, kind, colour, feature; where it has them material, size, series, model."""
        catalogue = self._catalogue
        leaf, language = LEAVES[catalogue.group[item] // 2], int(catalogue.group[item] % 2)
        words = {
            "brand": lexicon.BRANDS[catalogue.brand[item]][language],
            "kind": leaf.kinds[catalogue.kind[item]][language],
            "colour": lexicon.COLOURS[catalogue.colour[item]][language],
            "feature": leaf.features[catalogue.feature[item]][language],
        }
        if (material := catalogue.material[item]) >= 0:
            words["material"] = lexicon.MATERIALS[leaf.material][material][language]
        if (size := catalogue.size[item]) >= 0:
            words["size"] = lexicon.SIZES[leaf.size][size][language]
        if (series := catalogue.series[item]) >= 0:
            words["series"] = series_name(int(series))
        if (model := catalogue.model[item]) >= 0:
            words["model"] = model_name(int(model), self._seed)
        return words


def item_rows(seed: int, catalogue: Catalogue, chunk: int, items: Ints) -> list[dict[str, Any]]:
    """Flat rows of one chunk of items, without created_at (see `moments`)."""
    rng = stream(seed, "wording", chunk)
    words_of = Words(catalogue, seed)
    sentence_counts = np.minimum(rng.poisson(3.0, len(items)), 9)
    silent = rng.random(len(items)) < 0.04
    shuffles = rng.random((len(items), len(lexicon.SENTENCES[0])))
    layouts = rng.integers(0, 3, len(items))
    sold_before = np.where(catalogue.created[items] < 60, rng.poisson(np.minimum(30 * catalogue.weight[items], 1e6)), 0)
    untracked = rng.random(len(items)) < 0.05
    rows = []
    for place, item in enumerate(items.tolist()):
        group = int(catalogue.group[item])
        leaf, language = LEAVES[group // 2], group % 2
        words = words_of.of(item)
        count = 0 if silent[place] else int(sentence_counts[place]) + 1
        rows.append(
            {
                "item_id": item_id(int(catalogue.number[item])),
                "revision": 1,
                "title": _title(words, language, int(layouts[place])),
                "description": _description(words, leaf, language, np.argsort(shuffles[place]), count),
                "brand": words["brand"],
                "category": " > ".join(name[language] for name in leaf.path),
                "price": float(catalogue.price[item]),
                "currency": CURRENCY,
                "attributes": _attributes(words),
                "stock": None if untracked[place] else int(catalogue.stock[item]),
                "visible": not catalogue.hidden[item],
                "popularity": float(sold_before[place]),
            }
        )
    return rows


def moments(days: Any) -> Any:
    """Times in whole seconds as numpy datetime64[us] of days since START, any shape."""
    return START + (np.asarray(days) * 86400).astype(np.int64).astype("timedelta64[s]")


def _title(words: dict[str, str], language: int, layout: int) -> str:
    front = [words["brand"], *(words[name] for name in ("series", "model") if name in words)]
    back = [words[name] for name in ("size",) if name in words]
    if language:
        middle = [words["colour"], words.get("material", ""), words["feature"], words["kind"]]
        if layout == 1:
            middle = [words["feature"], words.get("material", ""), words["kind"], words["colour"]]
        return " ".join([*front, "".join(middle), *back])
    if layout == 0:
        return ", ".join([" ".join([*front, words["feature"], words["kind"]]), words["colour"], *back])
    made = [words["material"]] if "material" in words else []
    if layout == 1:
        return " ".join([*front, words["colour"], *made, words["kind"], *back])
    return ", ".join([" ".join([*front, *made, words["kind"]]), words["feature"], words["colour"], *back])


def _description(words: dict[str, str], leaf: lexicon.Leaf, language: int, order: Ints, count: int) -> str:
    sentences: list[str] = []
    for choice in order.tolist():
        if len(sentences) == count:
            break
        if (choice == lexicon.NEEDS_MATERIAL and "material" not in words) or (
            choice == lexicon.NEEDS_SIZE and "size" not in words
        ):
            continue
        sentences.append(lexicon.SENTENCES[language][choice].format(**words, use=leaf.use[language]))
    return ("" if language else " ").join(sentences)


def _attributes(words: dict[str, str]) -> str:
    named = {
        name: [words[name]] for name in ("colour", "material", "size", "feature", "series", "model") if name in words
    }
    return json.dumps(named, ensure_ascii=False)
