import numpy as np
import pytest

from services.domain.checks import Invalid
from services.retriever.requests import check_get_vectors, check_search, check_suggest
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2
from tests.unit.retriever.items import CONTENT, ask, ids_leg, item_leg, popular_leg, vector_leg, words_leg

Leg = retriever_pb2.Leg


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ask(), "legs: holds 0; it must hold 1 to 16"),
        (ask(*[popular_leg(str(n)) for n in range(17)]), "legs: holds 17; it must hold 1 to 16"),
        (ask(popular_leg(""), k=1), "legs[0].name: is empty"),
        (ask(popular_leg("x" * 33)), "legs[0].name: 33 bytes; the limit is 32"),
        (ask(popular_leg("a"), popular_leg("a")), "legs[1].name: 'a' stands here twice"),
        (ask(words_leg("x", weight=0.0)), "legs[0].weight: 0.0; it must be finite and above 0"),
        (ask(words_leg("x", weight=float("nan"))), "legs[0].weight: nan; it must be finite and above 0"),
        (ask(Leg(name="a")), "legs[0]: says nothing to look for; set vector, item, words, ids or popular"),
        (ask(words_leg("")), "legs[0].words.query: is empty"),
        (ask(words_leg("x" * 513)), "legs[0].words.query: 513 bytes; the limit is 512"),
        (ask(Leg(name="a", vector=retriever_pb2.VectorLeg())), "legs[0].vector.space: 0 is not a known space"),
        (
            ask(Leg(name="a", vector=retriever_pb2.VectorLeg(space=CONTENT))),
            "legs[0].vector.vector.dim: 0; it must be 1 to 4096",
        ),
        (
            ask(vector_leg(np.zeros(4, dtype=np.float32))),
            "legs[0].vector.vector.data: is all zero and has no direction",
        ),
        (ask(item_leg("")), "legs[0].item.item_id: is empty"),
        (ask(ids_leg({})), "legs[0].ids.items: holds 0; it must hold 1 to 2000"),
        (ask(ids_leg({"a": float("inf")})), "legs[0].ids.items[0].score: inf; it must be finite"),
        (ask(popular_leg(), k=0), "k: 0; it must be 1 to 1000"),
        (ask(popular_leg(), k=1001), "k: 1001; it must be 1 to 1000"),
        (ask(popular_leg(), k=5, min_k=6), "min_k: 6; it must be 0 to 5"),
        (ask(popular_leg(), filter=retriever_pb2.Filter()), "filter: is empty; set one of its nodes"),
        (
            ask(popular_leg(), exclude_item_ids=["x"] * 10_001),
            "exclude_item_ids: holds 10001; it must hold 0 to 10000",
        ),
        (ask(popular_leg(), effort=15), "effort: 15; it must be 16 to 4096"),
        (ask(popular_leg(), fusion=7), "fusion: 7 is not a known fusion"),
    ],
)
def test_a_search_beyond_a_limit_is_told_where(request_: retriever_pb2.SearchRequest, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_search(request_)
    assert str(caught.value) == message


def test_a_search_at_its_limits_is_allowed() -> None:
    ids = {f"i{number}": 1.0 for number in range(2000)}
    legs = [ids_leg(ids), words_leg("x" * 512, weight=0.1), *[popular_leg(str(n)) for n in range(14)]]
    check_search(ask(*legs, k=1000, min_k=1000, effort=4096, exclude_item_ids=["x"] * 10_000))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (retriever_pb2.GetVectorsRequest(space=CONTENT), "item_ids: holds 0; it must hold 1 to 1000"),
        (
            retriever_pb2.GetVectorsRequest(item_ids=["a"] * 1001, space=CONTENT),
            "item_ids: holds 1001; it must hold 1 to 1000",
        ),
        (retriever_pb2.GetVectorsRequest(item_ids=["a"]), "space: 0 is not a known space"),
    ],
)
def test_vectors_beyond_a_limit(request_: retriever_pb2.GetVectorsRequest, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_get_vectors(request_)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("prefix", "k", "message"),
    [
        ("", 5, "prefix: is empty"),
        ("x" * 129, 5, "prefix: 129 bytes; the limit is 128"),
        ("x", 0, "k: 0; it must be 1 to 50"),
        ("x", 51, "k: 51; it must be 1 to 50"),
    ],
)
def test_completions_beyond_a_limit(prefix: str, k: int, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_suggest(retriever_pb2.SuggestRequest(prefix=prefix, k=k))
    assert str(caught.value) == message


def test_every_space_can_be_asked_for() -> None:
    for space in (types_pb2.SPACE_CONTENT, types_pb2.SPACE_BEHAVIOUR, types_pb2.SPACE_TOPIC):
        check_get_vectors(retriever_pb2.GetVectorsRequest(item_ids=["a"], space=space))
