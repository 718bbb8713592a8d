"""What shoppers of the generated shop type, and how well every item answers: judgements from the truth."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training.data import lexicon
from training.data.behaviour import BRAND, COLOUR, EXACT, NEED, NOUN, SYNONYM
from training.data.wording import Words, model_name, series_name
from training.data.world import LEAVES, Bools, Catalogue, Ints, stream

LANGUAGES = ("en", "zh")
# Queries for one exact model number, and for a rare series name.
_EXACT_QUERIES = 60
_UNRELATED = 30


def query_text(words: Words, form: int, group: int, variant: int, target: int) -> str:
    """Text of a query put in `form` about a leaf in a language; forms with a property take it from item `target`."""
    leaf, language = LEAVES[group // 2], group % 2
    noun = leaf.kinds[variant % len(leaf.kinds)][language]
    if form == NOUN:
        return noun
    if form == SYNONYM:
        return leaf.synonyms[variant % len(leaf.synonyms)][language]
    if form == NEED:
        return leaf.needs[variant % len(leaf.needs)][language]
    own = words.of(target)
    if form == COLOUR:
        return _joined([own["colour"], noun], language)
    if form == BRAND:
        return _joined([own["brand"], noun], language)
    if form != EXACT:
        raise ValueError(f"form: {form} is unknown")
    if "model" in own:
        return own["model"]
    return " ".join([own["brand"], own.get("series", own["feature"]), own["kind"]])


@dataclass(frozen=True)
class Judged:
    """One query with places in the catalogue and their grades, shape (n,) each."""

    query: str
    language: str
    items: Ints
    grades: Ints


def judgements(seed: int, catalogue: Catalogue) -> Iterator[Judged]:
    """Judgements query by query: every visible item of the query's language that deserves 1 to 3, some that deserve 0.

    Of a leaf: 3 where every property asked for is there, 2 where some is, 1 where none is. Of a model number: 3 the
    item, 1 its brand in its leaf. What is not listed deserves 0.
    """
    rng = stream(seed, "queries")
    asked: set[str] = set()
    for text, group, grades in _graded(rng, seed, catalogue):
        if text in asked:
            continue
        asked.add(text)
        language = group % 2
        begin = int(np.searchsorted(catalogue.group, group))
        relevant = begin + np.flatnonzero((grades > 0) & ~catalogue.hidden[begin : begin + len(grades)])
        drawn = np.unique(rng.integers(0, len(catalogue.group), _UNRELATED))
        other = (catalogue.group[drawn] % 2 == language) & (catalogue.group[drawn] != group)
        unrelated = drawn[other & ~catalogue.hidden[drawn]]
        yield Judged(
            query=text,
            language=LANGUAGES[language],
            items=np.concatenate([relevant, unrelated]),
            grades=np.concatenate([grades[relevant - begin], np.zeros(len(unrelated), np.int64)]),
        )


def _graded(rng: np.random.Generator, seed: int, catalogue: Catalogue) -> Iterator[tuple[str, int, Ints]]:
    """Queries as text, group and the grade of every item of the group, in the catalogue's order."""
    groups = np.arange(2 * len(LEAVES))
    begins, ends = (np.searchsorted(catalogue.group, groups, side) for side in ("left", "right"))
    for group in groups[ends > begins].tolist():
        leaf, language = LEAVES[group // 2], group % 2
        members = np.arange(begins[group], ends[group])
        noun = leaf.kinds[0][language]
        synonyms = [one[language] for one in leaf.synonyms]
        whole = np.full(len(members), 3)
        yield noun, group, whole
        for text in [*synonyms, *(one[language] for one in leaf.needs)]:
            yield text, group, whole
        model = rng.choice(members)
        same_colour = catalogue.colour[members] == catalogue.colour[model]
        colour = lexicon.COLOURS[catalogue.colour[model]][language]
        if leaf.material:
            material = lexicon.MATERIALS[leaf.material][catalogue.material[model]][language]
            same_material = catalogue.material[members] == catalogue.material[model]
            yield _joined([colour, material, noun], language), group, _grade(same_colour, same_material)
        else:
            same_feature = catalogue.feature[members] == catalogue.feature[model]
            feature = leaf.features[catalogue.feature[model]][language]
            yield _joined([colour, feature, noun], language), group, _grade(same_colour, same_feature)
        other_word = lexicon.COLOUR_SYNONYMS[catalogue.colour[model]][language]
        yield _joined([other_word, synonyms[0]], language), group, _grade(same_colour)
    for names, name_of in ((catalogue.model, lambda code: model_name(code, seed)), (catalogue.series, series_name)):
        named = np.flatnonzero((names >= 0) & ~catalogue.hidden)
        for item in rng.choice(named, min(_EXACT_QUERIES, len(named)), replace=False).tolist():
            group = int(catalogue.group[item])
            members = np.arange(begins[group], ends[group])
            exact = names[members] == names[item]
            brand = catalogue.brand[members] == catalogue.brand[item]
            yield name_of(int(names[item])), group, np.where(exact, 3, brand.astype(np.int64))


def _grade(*properties: Bools) -> Ints:
    met = np.sum(properties, axis=0)
    return np.where(met == len(properties), 3, np.where(met > 0, 2, 1))


def _joined(words: list[str], language: int) -> str:
    return ("" if language else " ").join(words)
