"""How searches are scored is refused, field by field, where it makes no sense."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from services.domain.checks import Invalid
from services.domain.search import Bm25f, SearchManifest, read_synonyms


def test_what_was_written_is_read() -> None:
    manifest = SearchManifest(Bm25f(title=5, k1=1.2), 0.3, "reciprocal_rank", "search/synonyms.txt")
    assert SearchManifest.from_json(json.loads(json.dumps(asdict(manifest)))) == manifest


def test_what_is_absent_is_the_default() -> None:
    assert SearchManifest.from_json({}) == SearchManifest()
    assert SearchManifest.from_json({"bm25f": {"k1": 2}}).bm25f == Bm25f(k1=2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "search: []; it must be an object of bm25f, words_weight, fusion, synonyms"),
        ({"weight": 1}, "weight: unknown; known: bm25f, words_weight, fusion, synonyms"),
        ({"bm25f": 3}, "bm25f: 3; it must be an object of title,"),
        ({"bm25f": {"titel": 3}}, "bm25f.titel: unknown; known: title,"),
        ({"bm25f": {"title": "3"}}, "bm25f.title: '3'; it must be a finite number"),
        ({"bm25f": {"brand": -1}}, "bm25f.brand: -1; it must be 0 to 100"),
        ({"bm25f": {"k1": 0}}, "bm25f.k1: 0; it must be 0.01 to 10"),
        ({"bm25f": {"b": 1.1}}, "bm25f.b: 1.1; it must be 0 to 1"),
        (
            {"bm25f": dict.fromkeys(("title", "description", "brand", "attributes", "category"), 0)},
            "bm25f.title: 0, as the weights of all other fields are",
        ),
        ({"words_weight": float("nan")}, "words_weight: nan; it must be a finite number"),
        ({"words_weight": 2}, "words_weight: 2; it must be 0 to 1"),
        ({"words_weight": True}, "words_weight: True; it must be a finite number"),
        ({"fusion": "sum"}, "fusion: 'sum'; it must be convex or reciprocal_rank or discounted"),
        ({"fusion": []}, "fusion: []; it must be convex or reciprocal_rank or discounted"),
        ({"synonyms": 1}, "synonyms: 1; it must be the path of a file"),
    ],
)
def test_a_field_that_makes_no_sense_is_named(values: Any, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        SearchManifest.from_json(values)
    assert str(caught.value).startswith(message)


def test_synonyms_are_groups_of_phrases() -> None:
    text = "# of electronics\ntv, television , telly\n\ncell phone,mobile phone # both\n连衣裙,裙子\n"
    assert read_synonyms(text) == (("tv", "television", "telly"), ("cell phone", "mobile phone"), ("连衣裙", "裙子"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tv, television\nlonely", "line 2: holds 1; it must hold 2 to 32"),
        ("tv,,telly", "line 1: is empty"),
        (f"tv,{'x' * 129}", "line 1: 129 bytes; the limit is 128"),
        ("a,b\n" * 10_001, "groups: holds 10001; it must hold 0 to 10000"),
    ],
)
def test_a_line_that_is_no_group_is_named(text: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_synonyms(text)
    assert str(caught.value) == message
