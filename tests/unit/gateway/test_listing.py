"""Lists keep their order, explore only in their slots, and show nothing that must not be shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.exploration import Belief
from services.gateway.listing import Listed, Wanted
from services.gateway.pages import PageToken
from souk.coldstart.v1 import coldstart_pb2
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2

FIRST = PageToken("r", b"fingerpr", 0, frozenset())


def columns(ids: list[str], sold_out: frozenset[str] = frozenset()) -> types_pb2.CandidateColumns:
    n = len(ids)
    return types_pb2.CandidateColumns(
        id=ids,
        revision=[1] * n,
        title=ids,
        price=[float("nan")] * n,
        currency=[0] * n,
        currencies=[""],
        brand=[0] * n,
        brands=[""],
        category=[0] * n,
        categories=[""],
        stock=[0 if one in sold_out else -1 for one in ids],
        created_at=[0] * n,
        popularity=[0.0] * n,
        score=[float(n - i) for i in range(n)],
    )


def wanted(size: int, excluded: frozenset[str] = frozenset()) -> Wanted:
    return Wanted(types_pb2.SCENE_HOME, "s", size, None, b"fingerpr", retriever_pb2.Filter(), excluded, False)


def slot(item_id: str, position: int, propensity: float = 0.2) -> coldstart_pb2.ExplorationSlot:
    return coldstart_pb2.ExplorationSlot(item_id=item_id, position=position, propensity=propensity)


def test_an_explored_item_takes_its_place_and_the_others_keep_their_order() -> None:
    listed = Listed.as_retrieved(columns(list("abcdef"))).exploring([slot("e", 1)])
    assert listed.ids() == list("aebcdf")
    assert listed.propensities == {"e": pytest.approx(0.2)}
    assert listed.policy == "retrieval+exploration"


def test_an_item_that_was_filtered_out_is_not_explored() -> None:
    listed = Listed.as_retrieved(columns(list("abc"))).exploring([slot("x", 1)])
    assert listed.ids() == list("abc")
    assert not listed.propensities
    assert listed.policy == "retrieval"


def test_without_exploration_the_explored_items_are_gone() -> None:
    listed = Listed.as_retrieved(columns(list("abcdef"))).exploring([slot("e", 1)]).without_exploration()
    assert listed.ids() == list("abcdf")
    assert not listed.propensities


@given(
    st.integers(0, 12).flatmap(lambda n: st.permutations([chr(97 + i) for i in range(n)])),
    st.lists(st.tuples(st.sampled_from("abcdefghijklxyz"), st.integers(0, 15)), max_size=4, unique_by=lambda s: s[0]),
)
def test_exploration_loses_and_doubles_nothing(ids: list[str], slots: list[tuple[str, int]]) -> None:
    listed = Listed.as_retrieved(columns(ids)).exploring([slot(item, at) for item, at in slots])
    assert sorted(listed.ids()) == sorted(ids)
    assert set(listed.propensities) == {item for item, _ in slots} & set(ids)
    untouched = [one for one in listed.ids() if one not in listed.propensities]
    assert untouched == [one for one in ids if one not in listed.propensities]
    assert [listed.columns.id[row] for row in listed.rows] == listed.ids()


def test_a_page_leaves_out_what_must_not_be_shown() -> None:
    listed = Listed.as_retrieved(columns(list("abcdef"), sold_out=frozenset("b")))
    hits = listed.page(wanted(3, frozenset("c")), FIRST, out_of_stock=False)
    assert [hit.item_id for hit in hits] == list("ade")
    assert [hit.position for hit in hits] == [0, 1, 2]
    assert [hit.item_id for hit in listed.page(wanted(3), FIRST, out_of_stock=True)] == list("abc")
    assert not hits[0].HasField("price")
    assert not hits[0].HasField("stock")


ADDED = {1: {"affinity": 0.5}}


def test_reasons_travel_with_their_items() -> None:
    listed = Listed(
        columns(list("abc")), [2, 0, 1], [3.0, 2.0, 1.0], "ranker", {2: ["c why"], 0: ["a why"], 1: ["b why"]}, ADDED
    )
    explored = listed.exploring([slot("b", 0)])
    asked = Wanted(types_pb2.SCENE_HOME, "s", 3, None, b"fingerpr", retriever_pb2.Filter(), frozenset(), True)
    hits = explored.page(asked, FIRST, out_of_stock=False)
    assert [(hit.item_id, list(hit.reasons)) for hit in hits] == [("b", ["b why"]), ("c", ["c why"]), ("a", ["a why"])]
    assert [dict(hit.contributions) for hit in hits] == [{"affinity": 0.5}, {}, {}]


def test_what_the_ranker_gives_no_reason_for_has_that_of_who_found_it() -> None:
    made = columns(list("ab"))
    made.legs.add(leg="blend", score=[0.5, 1.0])
    asked = Wanted(types_pb2.SCENE_HOME, "s", 2, None, b"fingerpr", retriever_pb2.Filter(), frozenset(), True)
    hits = Listed(made, [0, 1], [2.0, 1.0], "ranker", {0: ["why"], 1: []}).page(asked, FIRST, out_of_stock=False)
    assert [list(hit.reasons) for hit in hits] == [["why"], ["fits what is known so far"]]


def test_only_new_items_below_the_place_that_something_else_found_are_drawn_by_the_ranker() -> None:
    made = columns(list("abcdefg"))
    # b stands above the place, c is old, d was found for having been drawn alone, e is believed nothing of.
    made.created_at[:] = [0, 100, 0, 100, 100, 100, 100]
    nan = float("nan")
    made.legs.add(leg="explored", score=[nan, nan, nan, 1.0, nan, 1.0, nan])
    made.legs.add(leg="profile", score=[1.0, 1.0, 1.0, nan, 1.0, 1.0, 1.0])
    believed = {row: Belief(-2.0, 0.5) for row in (0, 1, 2, 3, 5, 6)}
    listed = Listed(made, range(7), made.score, "ranker", beliefs=believed)
    drawn = [listed.exploring_by_ranker([slot("d", 1)], 50, at) for at in (0.1, 0.6)]
    # d is not shown at all: that it is a candidate was chance.
    assert [one.ids() for one in drawn] == [list("afbceg"), list("agbcef")]
    assert [one.propensities for one in drawn] == [{"f": pytest.approx(0.5)}, {"g": pytest.approx(0.5)}]
    assert drawn[0].policy == "ranker+by-ranker+exploration"
    assert drawn[0].scores == (7.0, 2.0, 6.0, 5.0, 3.0, 1.0)
    # Nothing new below the place, nothing believed, no place at all.
    assert listed.exploring_by_ranker([slot("d", 1)], 200, 0.1) == listed.exploring([slot("d", 1)])
    assert Listed.as_retrieved(made).exploring_by_ranker([slot("d", 1)], 50, 0.1).propensities.keys() == {"d"}
    assert listed.exploring_by_ranker([], 50, 0.1).ids() == listed.ids()
