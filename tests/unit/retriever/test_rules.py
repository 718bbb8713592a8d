"""Whose word counts: the request's, else the generation's, else the default."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.domain.bundle import Bundle, BundleError, EncoderManifest, Manifest, write_bundle
from services.domain.checks import Invalid
from services.domain.search import Bm25f, SearchManifest
from services.domain.text import TextTemplate
from services.retriever.rules import SearchRules
from souk.retriever.v1 import retriever_pb2
from tests.unit.retriever.items import (
    DIM,
    GENERATION,
    Feed,
    ask,
    found,
    ids_leg,
    new_index,
    popular_leg,
    vector_leg,
    words_leg,
)

CONVEX, RECIPROCAL = retriever_pb2.FUSION_CONVEX, retriever_pb2.FUSION_RECIPROCAL_RANK
VECTOR = np.eye(DIM, dtype=np.float32)[0]


def words(**given: float) -> retriever_pb2.Leg:
    leg = words_leg("red kettle")
    leg.words.bm25f.CopyFrom(retriever_pb2.Bm25f(**given))
    return leg


def test_legs_without_a_weight_share_as_the_generation_states() -> None:
    rules = SearchRules(words_weight=0.7)
    both = ask(words_leg("x"), vector_leg(VECTOR), ids_leg({"a": 1.0}))
    assert [rules.weight_of(leg, both) for leg in both.legs] == pytest.approx([0.7, 0.3, 1])
    said = ask(words_leg("x", weight=2.0), vector_leg(VECTOR))
    assert [rules.weight_of(leg, said) for leg in said.legs] == pytest.approx([2, 0.3])
    alone = ask(words_leg("x"), popular_leg())
    assert [rules.weight_of(leg, alone) for leg in alone.legs] == [1, 1]


def test_the_generation_states_the_fusion_of_words_and_vectors_alone() -> None:
    rules = SearchRules(fusion=RECIPROCAL)
    assert rules.fusion_of(ask(words_leg("x"), vector_leg(VECTOR))) == RECIPROCAL
    assert rules.fusion_of(ask(words_leg("x"), vector_leg(VECTOR), fusion=CONVEX)) == CONVEX
    assert rules.fusion_of(ask(vector_leg(VECTOR), popular_leg())) == CONVEX


def test_a_leg_may_state_some_of_its_parameters() -> None:
    rules = SearchRules(Bm25f(title=7, b=0.2))
    assert rules.bm25f_of(words_leg("x").words, "words") == rules.bm25f
    assert rules.bm25f_of(words(k1=1.5).words, "words") == Bm25f(title=7, b=0.2, k1=1.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"title": -1.0}, "legs[0].words.bm25f.title: -1.0; it must be 0 to 100"),
        ({"k1": float("nan")}, "legs[0].words.bm25f.k1: nan; it must be a finite number"),
        ({"b": 2.0}, "legs[0].words.bm25f.b: 2.0; it must be 0 to 1"),
    ],
)
def test_a_parameter_out_of_range_is_named(given: dict[str, float], message: str) -> None:
    with pytest.raises(Invalid) as caught:
        new_index().search(ask(words(**given)))
    assert str(caught.value) == message


def test_a_search_goes_by_its_generation_until_a_leg_says_otherwise() -> None:
    index = new_index()
    feed = Feed(index)
    feed.put("titled", VECTOR, title="red kettle", description="lamp")
    feed.put("described", VECTOR, title="lamp", description="red kettle")
    defaults = dict.fromkeys(Bm25f.__dataclass_fields__, 0.0) | vars(Bm25f())
    plain, stated = index.search(ask(words_leg("red kettle"))), index.search(ask(words(**defaults)))
    assert stated.candidates == plain.candidates
    assert found(plain) == ["titled", "described"]
    index.set_rules(GENERATION, SearchRules(Bm25f(title=0)))
    assert found(index.search(ask(words_leg("red kettle")))) == ["described"]
    assert found(index.search(ask(words(title=3.0)))) == ["titled", "described"]
    index.set_rules(GENERATION, replace(SearchRules(), words_weight=1.0))
    scores = index.search(ask(words_leg("red kettle"), vector_leg(VECTOR))).candidates.score
    said = ask(words_leg("red kettle", weight=1.0), vector_leg(VECTOR, weight=1e-9))
    assert scores == pytest.approx(index.search(said).candidates.score)
    index.drop_generation(GENERATION)
    index.set_serving(GENERATION)
    assert found(index.search(ask(words_leg("red kettle")))) == ["titled", "described"]


def bundle_with(path: Path, synonyms: str) -> Bundle:
    encoder = EncoderManifest(4, 16, "v1", ("latin",), TextTemplate())
    texts = {encoder.model: "model", encoder.tokenizer: "{}", "search/synonyms.txt": synonyms}
    for name, text in texts.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    search = SearchManifest(Bm25f(k1=1), 0.7, "reciprocal_rank", "search/synonyms.txt")
    return write_bundle(path, Manifest(encoder, "2026-01-01T00:00:00Z", search=search))


def test_a_bundle_states_its_rules_and_its_synonyms(tmp_path: Path) -> None:
    rules = SearchRules.of(bundle_with(tmp_path, "tv, television\n"))
    assert (rules.bm25f, rules.words_weight, rules.fusion) == (Bm25f(k1=1), 0.7, RECIPROCAL)
    index = new_index()
    Feed(index).put("a", title="television")
    assert found(index.search(ask(words_leg("tv")))) == []
    index.set_rules(GENERATION, rules)
    assert found(index.search(ask(words_leg("tv")))) == ["a"]


def test_synonyms_that_cannot_be_read_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"synonyms\.txt: line 1: holds 1; it must hold 2 to 32"):
        SearchRules.of(bundle_with(tmp_path, "tv\n"))


def test_words_that_had_to_be_corrected_count_less_beside_vectors() -> None:
    index = new_index()
    feed = Feed(index)
    feed.put("coach", VECTOR, title="coach bag")
    feed.put("sofa", np.eye(DIM, dtype=np.float32)[1], title="sofa")
    for query, certainty in (("coach", 1.0), ("couch", 0.6)):
        meaning = vector_leg(np.eye(DIM, dtype=np.float32)[1], weight=0.5)
        response = index.search(ask(words_leg(query, weight=0.5), meaning, fusion=CONVEX))
        scores = dict(zip(response.candidates.id, response.candidates.score, strict=True))
        assert response.reports[0].certainty == pytest.approx(certainty)
        assert scores == pytest.approx({"coach": 0.5 * certainty, "sofa": 0.5}, abs=1e-6)
