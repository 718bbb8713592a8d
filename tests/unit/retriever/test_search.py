import math

import numpy as np
import pytest

from services.retriever.fusion import HALF_RANK, WHOLE
from services.retriever.index import CatalogueIndex
from services.runtime.errors import FailedPrecondition, NotFound
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32, unpack_matrix
from tests.unit.retriever.items import (
    CONTENT,
    DIM,
    GENERATION,
    VERSION,
    Feed,
    ask,
    found,
    ids_leg,
    item_leg,
    new_index,
    popular_leg,
    random_vectors,
    vector_leg,
    words_leg,
)

RECIPROCAL = retriever_pb2.FUSION_RECIPROCAL_RANK


@pytest.fixture
def index() -> CatalogueIndex:
    return new_index()


@pytest.fixture
def feed(index: CatalogueIndex) -> Feed:
    return Feed(index)


def axis(number: int, lean: float = 0.0) -> Float32:
    vector = np.zeros(DIM, dtype=np.float32)
    vector[number], vector[-1] = 1.0, lean
    return vector


def test_each_kind_of_leg_finds_and_says_how(index: CatalogueIndex, feed: Feed) -> None:
    feed.put("red", axis(0), title="red shoe", popularity=1)
    feed.put("blue", axis(1), title="blue shoe", popularity=3)
    legs = [
        vector_leg(axis(0)),
        item_leg("red"),
        words_leg("red"),
        ids_leg({"blue": 2.0, "gone": 1.0}),
        popular_leg(),
    ]
    response = index.search(ask(*legs))
    reports = {report.leg: (report.plan, report.found) for report in response.reports}
    assert reports == {
        "near": ("exact", 2),
        "like": ("exact", 1),
        "words": ("words", 1),
        "list": ("list", 1),
        "popular": ("popular", 2),
    }
    assert [report.unknown_ids for report in response.reports] == [0, 0, 0, 1, 0]
    said = {scores.leg: dict(zip(found(response), scores.score, strict=True)) for scores in response.candidates.legs}
    assert said["near"]["red"] == pytest.approx(1.0)
    assert math.isnan(said["like"]["red"])
    assert math.isnan(said["words"]["blue"])
    assert said["list"]["blue"] == 2.0
    assert said["popular"] == {"red": 1.0, "blue": 3.0}
    assert [timing.stage for timing in response.timings] == [
        "filter", "vector", "item", "words", "ids", "popular", "fusion",
    ]  # fmt: skip
    assert (response.allowed, response.sequence, response.generation) == (2, feed.sequence, GENERATION)


def test_columns_say_all_of_each_candidate(index: CatalogueIndex, feed: Feed) -> None:
    feed.put(
        "full",
        title="Full",
        brand="Acme",
        category_path=["Audio", "Headphones"],
        price=12.5,
        currency="EUR",
        stock=4,
        popularity=2.5,
        created_at={"seconds": 1_700_000_000, "nanos": 900},
    )
    feed.put("bare", title="Bare", stock=0)
    feed.put("bare", title="Bare again")
    columns = index.search(ask(ids_leg({"full": 2, "bare": 1}))).candidates
    assert list(columns.id) == ["full", "bare"]
    assert list(columns.revision) == [1, 2]
    assert list(columns.title) == ["Full", "Bare again"]
    assert columns.price[0] == 12.5
    assert math.isnan(columns.price[1])
    assert [columns.currencies[code] for code in columns.currency] == ["EUR", ""]
    assert [columns.brands[code] for code in columns.brand] == ["Acme", ""]
    assert [columns.categories[code] for code in columns.category] == ["Audio > Headphones", ""]
    assert list(columns.stock) == [4, -1]
    assert list(columns.created_at) == [1_700_000_000, 0]
    assert list(columns.popularity) == [2.5, 0]
    assert list(columns.score) == pytest.approx([1.0, 0.5])
    assert [(scores.leg, list(scores.score)) for scores in columns.legs] == [("list", [2, 1])]


def test_an_item_leg_leaves_its_item_out(index: CatalogueIndex, feed: Feed) -> None:
    feed.put("a", axis(0))
    feed.put("b", axis(0, 0.1))
    assert found(index.search(ask(item_leg("a")))) == ["b"]
    with pytest.raises(NotFound, match=r"legs\[0\].item.item_id: the catalogue does not hold 'nobody'"):
        index.search(ask(item_leg("nobody")))


def test_words_of_the_title_stand_in_for_a_vector_and_that_is_told(index: CatalogueIndex, feed: Feed) -> None:
    feed.put("pending", title="红色 男士 运动鞋")
    feed.put("uncovered", title="红色 女士 运动鞋")
    feed.put("far", title="蓝色 杯子")
    feed.put("wordless", title="!!!")
    index.apply([feed.vector("uncovered", None)])
    for item_id, alike in (("pending", "uncovered"), ("uncovered", "pending")):
        response = index.search(ask(item_leg(item_id)))
        assert found(response) == [alike]
        assert 0.2 < response.candidates.legs[0].score[0] < 1
        assert (response.reports[0].plan, response.reports[0].vector_missing) == ("words", True)
        assert response.reports[0].vector_uncovered == (item_id == "uncovered")
    response = index.search(ask(item_leg("wordless")))
    assert found(response) == []
    assert (response.reports[0].plan, response.reports[0].vector_missing) == ("none", True)


def test_an_item_leg_may_start_from_a_hidden_item(index: CatalogueIndex, feed: Feed) -> None:
    feed.put("hidden", axis(0), visible=False)
    feed.put("shown", axis(0, 0.2))
    assert found(index.search(ask(item_leg("hidden")))) == ["shown"]


def test_popular_items_fill_up_to_min_k_behind_all_others(index: CatalogueIndex, feed: Feed) -> None:
    for number in range(6):
        feed.put(f"i{number}", axis(number), title="red" if number == 0 else "blue", popularity=number)
    response = index.search(ask(words_leg("red"), k=5, min_k=3))
    assert found(response) == ["i0", "i5", "i4"]
    assert all(math.isnan(score) for score in response.candidates.legs[0].score[1:])
    assert list(response.candidates.score) == sorted(response.candidates.score, reverse=True)
    assert found(index.search(ask(words_leg("red"), k=5))) == ["i0"]
    # The item that the leg starts from is no recommendation either, nor what is excluded or filtered out.
    response = index.search(ask(item_leg("i5"), k=6, min_k=6, exclude_item_ids=["i4", "nobody"]))
    assert set(found(response)) == {"i0", "i1", "i2", "i3"}


def test_excluded_items_never_come_back_and_do_not_change_what_is_allowed(index: CatalogueIndex, feed: Feed) -> None:
    for number in range(5):
        feed.put(f"i{number}", axis(number), title="red", popularity=number)
    legs = [vector_leg(axis(0)), words_leg("red"), ids_leg({"i0": 1.0}), popular_leg()]
    response = index.search(ask(*legs, exclude_item_ids=["i0", "i3"]))
    assert set(found(response)) == {"i1", "i2", "i4"}
    assert response.allowed == 5


def test_every_leg_goes_through_the_filter(index: CatalogueIndex, feed: Feed) -> None:
    for number in range(4):
        feed.put(f"i{number}", axis(number), title="red", brand="Acme" if number % 2 else "Other", visible=number != 3)
    node = retriever_pb2.Filter(brand=retriever_pb2.StringList(values=["acme"]))
    ids = ids_leg({f"i{number}": 1.0 for number in range(4)})
    response = index.search(ask(vector_leg(axis(0)), words_leg("red"), ids, popular_leg(), filter=node, min_k=4))
    assert found(response) == ["i1"]
    assert response.allowed == 1


def test_k_results_come_back_if_they_exist(index: CatalogueIndex, feed: Feed) -> None:
    vectors = random_vectors(60)
    for number in range(60):
        feed.put(f"i{number}", vectors[number], title="red" if number < 30 else "blue")
    for fusion in (retriever_pb2.FUSION_CONVEX, RECIPROCAL):
        response = index.search(ask(words_leg("red"), vector_leg(vectors[0]), k=60, fusion=fusion))
        assert len(set(found(response))) == 60
    assert len(found(index.search(ask(vector_leg(vectors[0]), k=7)))) == 7


def test_an_item_just_behind_k_in_two_legs_can_win(index: CatalogueIndex, feed: Feed) -> None:
    for number in range(5):
        feed.put(f"popular{number}", popularity=100 - number)
        feed.put(f"near{number}", axis(0, number / 100))
    feed.put("both", axis(0, 0.5), popularity=50)
    for leg in (popular_leg(), vector_leg(axis(0))):
        assert "both" not in found(index.search(ask(leg, k=5)))
    response = index.search(ask(popular_leg(), vector_leg(axis(0)), k=5, fusion=RECIPROCAL))
    assert "both" in found(response)


def test_discounted_knows_the_cosine_of_what_only_words_found(index: CatalogueIndex, feed: Feed) -> None:
    # More items nearer to the query than a leg reaches, and one that words find alone.
    for number in range(120):
        feed.put(f"near{number}", axis(0, number / 1000), title="lamp")
    feed.put("red", axis(0, 2.0), title="red lamp")
    feed.put("red, not embedded yet", title="red lamp shade")
    legs = [words_leg("red"), vector_leg(axis(0))]
    for leg, weight in zip(legs, (0.6, 0.4), strict=True):
        leg.weight = weight
    for fusion, known in ((retriever_pb2.FUSION_CONVEX, False), (retriever_pb2.FUSION_DISCOUNTED, True)):
        response = index.search(ask(*legs, k=60, fusion=fusion))
        near = dict(zip(found(response), response.candidates.legs[1].score, strict=True))
        assert math.isnan(near["red"]) is not known
        assert math.isnan(near["red, not embedded yet"])
    cosine = 1 / math.sqrt(5)
    scores = dict(zip(found(response), response.candidates.score, strict=True))
    assert scores["red"] == pytest.approx(0.6 * (1 + WHOLE) + 0.4 * cosine, abs=1e-5)
    said = zip(found(response), response.candidates.legs[0].score, strict=True)
    words = {name: score for name, score in said if not math.isnan(score)}
    share = words["red, not embedded yet"] / words["red"]
    discounted = share * HALF_RANK / (HALF_RANK + 1)
    assert scores["red, not embedded yet"] == pytest.approx(0.6 * (discounted + WHOLE), abs=1e-5)
    assert [list(leg.whole) for leg in response.candidates.legs] == [[name in words for name in found(response)], []]
    assert scores["near0"] == pytest.approx(0.4, abs=1e-5)


def test_a_list_says_an_item_twice_and_the_better_score_counts(index: CatalogueIndex, feed: Feed) -> None:
    feed.put("a")
    items = [types_pb2.ScoredId(item_id="a", score=score) for score in (1.0, 3.0, 2.0)]
    leg = retriever_pb2.Leg(name="list", ids=retriever_pb2.IdsLeg(items=items))
    assert list(index.search(ask(leg)).candidates.legs[0].score) == [3.0]


def test_the_order_of_equals_does_not_follow_ids_or_time(index: CatalogueIndex) -> None:
    def order(ids: list[str]) -> list[str]:
        shelf = new_index()
        other = Feed(shelf)
        for item_id in ids:
            other.put(item_id, axis(0), title="same")
        orders = [
            found(shelf.search(ask(leg, k=30)))
            for leg in (vector_leg(axis(0)), words_leg("same"), popular_leg(), ids_leg(dict.fromkeys(ids, 1.0)))
        ]
        assert all(each == orders[0] for each in orders)
        return list(orders[0])

    ids = [f"i{number:02}" for number in range(30)]
    first = order(ids)
    assert first == order(ids[::-1])
    assert first != ids


def test_a_generation_or_space_that_is_not_loaded(index: CatalogueIndex, feed: Feed) -> None:
    feed.put("a", axis(0))
    with pytest.raises(FailedPrecondition, match="generation nope is not loaded"):
        index.search(ask(popular_leg(), generation="nope"))
    leg = vector_leg(axis(0))
    leg.vector.space = types_pb2.SPACE_BEHAVIOUR
    with pytest.raises(FailedPrecondition, match="SPACE_BEHAVIOUR is not loaded for generation aaaa"):
        index.search(ask(leg))
    with pytest.raises(FailedPrecondition, match=r"legs\[0\].vector.vector.dim: 3; this space has 16"):
        index.search(ask(vector_leg(np.ones(3, dtype=np.float32))))


def test_each_generation_has_its_own_vectors(index: CatalogueIndex, feed: Feed) -> None:
    feed.put("a", axis(0))
    feed.put("b", axis(1))
    index.add_space(CONTENT, "v2", 4, "b" * 64)
    near_b = np.array([0, 1, 0, 0], dtype=np.float32)
    index.apply([feed.vector("b", near_b, "v2")])
    assert found(index.search(ask(vector_leg(near_b), generation="b" * 64))) == ["b"]
    assert found(index.search(ask(vector_leg(axis(0)), generation=GENERATION))) == ["a", "b"]
    index.set_serving("b" * 64)
    assert index.search(ask(vector_leg(near_b))).generation == "b" * 64


def test_vectors_come_row_by_row_with_their_presence(index: CatalogueIndex, feed: Feed) -> None:
    feed.put("a", axis(0) * 7)
    feed.put("pending")
    feed.put("uncovered")
    index.apply([feed.vector("uncovered", None)])
    request = retriever_pb2.GetVectorsRequest(item_ids=["nobody", "a", "pending", "uncovered"], space=CONTENT)
    response = index.get_vectors(request)
    matrix = unpack_matrix(response.vectors, "vectors")
    np.testing.assert_array_equal(matrix[1], axis(0))
    assert not matrix[[0, 2, 3]].any()
    assert list(response.presence) == [
        retriever_pb2.PRESENCE_NOT_FOUND,
        retriever_pb2.PRESENCE_PRESENT,
        retriever_pb2.PRESENCE_PENDING,
        retriever_pb2.PRESENCE_UNCOVERED,
    ]
    assert list(response.revisions) == [0, 1, 0, 0]
    assert response.space_version == VERSION
    request.space_version = "other"
    with pytest.raises(FailedPrecondition, match="version other of SPACE_CONTENT is not loaded"):
        index.get_vectors(request)
