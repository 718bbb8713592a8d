"""One generation on real networks, with vectors over real gRPC: what a list is made of and what it cannot see."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from services.domain.checks import Invalid
from services.domain.features import features
from services.ranker import ranking as module
from services.ranker.model import History, Model
from services.ranker.ranking import Ranking
from services.ranker.settings import RankerSettings
from services.ranker.vectors import ItemVectors
from services.runtime import threads
from services.runtime.channels import connect
from services.runtime.errors import Unavailable
from services.runtime.telemetry import StageClock
from souk.coldstart.v1 import coldstart_pb2
from souk.ranker.v1 import ranker_pb2
from souk.retriever.v1 import retriever_pb2_grpc
from souk.types.v1 import types_pb2
from souk.vectors import Float32, unpack_vector
from tests.unit.ranker import tiny
from tests.unit.ranker.retriever import ArrayRetriever, serving

VIEW, CART, BOUGHT = types_pb2.EVENT_TYPE_VIEW, types_pb2.EVENT_TYPE_CART, types_pb2.EVENT_TYPE_PURCHASE
SPONSORED = types_pb2.SCENE_SPONSORED  # In order of score alone, where all bid 1.
MANY = [f"i{n}" for n in range(100, 140)]


class CountingModel(Model):
    """Counts what it computes, and may forget whom it sees."""

    encoded = 0
    blind = False

    def shopper(self, history: History) -> Float32:
        self.encoded += 1
        vector = super().shopper(history)
        return np.zeros_like(vector) if self.blind else vector


@pytest.fixture
def retriever() -> ArrayRetriever:
    return ArrayRetriever(tiny.item_vectors(200))  # type: ignore[abstract]


@pytest.fixture
async def ranking(retriever: ArrayRetriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    class Time:
        time = staticmethod(lambda: tiny.NOW)

    monkeypatch.setattr(module, "time", Time)
    bundle = tiny.write_ranker_bundle(tmp_path / "bundle")
    manifest = bundle.manifest.ranker
    assert manifest is not None
    workers = threads.pool("rank", 1)
    settings = RankerSettings(vector_seconds=5, sponsored_share=1)
    async with serving(retriever) as address, connect(address) as channel:
        stub = retriever_pb2_grpc.RetrieverStub(channel)
        vectors = ItemVectors(stub, manifest.space_version, manifest.dim, settings)
        model = CountingModel(bundle.path, manifest, "CPUExecutionProvider")
        ranking = Ranking(bundle.generation, manifest, model, vectors, vectors.close, workers, settings)
        yield ranking
        await ranking.close()
    workers.shutdown()


def shopper(*events: tuple[str, types_pb2.EventType.ValueType], **fields: Any) -> coldstart_pb2.ShopperContext:
    return coldstart_pb2.ShopperContext(shopper_id="s", history=tiny.history(*events), **fields)


async def rank(ranking: Ranking, columns: types_pb2.CandidateColumns, **fields: Any) -> ranker_pb2.RankResponse:
    return await ranking.rank(tiny.request(columns, **{"scene": SPONSORED} | fields), StageClock())


async def encode(ranking: Ranking, context: coldstart_pb2.ShopperContext) -> Float32:
    answer = await ranking.encode(ranker_pb2.EncodeShopperRequest(context=context))
    assert answer.space_version == tiny.SPACE
    return unpack_vector(answer.vector)


def by_id(response: ranker_pb2.RankResponse, columns: types_pb2.CandidateColumns) -> dict[str, list[float]]:
    """Score and probabilities of every ranked item."""
    values = zip(response.score, *(column.probability for column in response.objectives), strict=True)
    return {columns.id[row]: list(value) for row, value in zip(response.order, values, strict=True)}


async def test_scores_are_those_of_the_networks(ranking: Ranking, retriever: ArrayRetriever) -> None:
    context = shopper(("i1", VIEW), ("i2", BOUGHT), brands=[coldstart_pb2.NamedShare(name="Halo", share=0.5)])
    columns = tiny.candidates(
        *MANY, brand=[n % 2 for n in range(40)], brands=["", "Halo"], popularity=[float(n) for n in range(40)]
    )
    response = await rank(ranking, columns, context=context)
    vector = await encode(ranking, context)
    affinity = np.array([retriever.vectors[item_id] @ vector for item_id in MANY])
    rows = features(context, "", SPONSORED, columns, affinity, tiny.NOW)
    names = [name for name in tiny.COEFFICIENTS]
    weights = np.array([tiny.COEFFICIENTS[name] for name in names])
    logits = rows[:, [ranking.manifest.features.index(name) for name in names]] @ weights
    probability = 1 / (1 + np.exp(-np.stack([logits - 2, logits / 2 - 3, logits / 4 - 4], axis=1)))
    expected = probability @ np.array(tiny.WEIGHTS)
    order = np.argsort(-expected)
    assert list(response.order) == order.tolist()
    np.testing.assert_allclose(response.score, expected[order], rtol=1e-4)
    assert [column.objective for column in response.objectives] == [
        ranker_pb2.OBJECTIVE_CLICK,
        ranker_pb2.OBJECTIVE_CART,
        ranker_pb2.OBJECTIVE_PURCHASE,
    ]
    for column, expected_column in zip(response.objectives, probability.T, strict=True):
        np.testing.assert_allclose(column.probability, expected_column[order], rtol=1e-4)
    assert [timing.stage for timing in response.timings] == ["vectors", "inference", "list"]
    assert response.generation == ranking.generation


async def test_a_candidate_has_the_same_probabilities_in_any_company(ranking: Ranking) -> None:
    context = shopper(("i1", VIEW), ("i2", BOUGHT))
    legs = [types_pb2.LegScores(leg="words", score=[float(n) for n in range(40)])]
    everybody = tiny.candidates(*MANY, popularity=[float(n * n) for n in range(40)], legs=legs)
    among = by_id(await rank(ranking, everybody, context=context, query="thing"), everybody)
    for n in (0, 17, 39):
        legs = [types_pb2.LegScores(leg="words", score=[float(n)])]
        alone = tiny.candidates(MANY[n], popularity=[float(n * n)], legs=legs)
        own = by_id(await rank(ranking, alone, context=context, query="thing"), alone)
        np.testing.assert_allclose(own[MANY[n]], among[MANY[n]], atol=1e-6)


async def test_without_the_shoppers_vector_the_order_is_another(ranking: Ranking) -> None:
    columns = tiny.candidates(*MANY)
    context = shopper(("i1", VIEW), ("i2", BOUGHT))
    seeing = await rank(ranking, columns, context=context)
    assert isinstance(ranking.model, CountingModel)
    ranking.model.blind = True
    ranking._shoppers = type(ranking._shoppers)(10, tiny.DIM)
    blind = await rank(ranking, columns, context=context)
    assert list(seeing.order) != list(blind.order)
    assert len(set(blind.score)) == 1, "nothing else tells these candidates apart"


async def test_another_order_of_events_is_another_shopper(ranking: Ranking) -> None:
    events = [(f"i{n}", VIEW) for n in range(6)]
    forth, back = await encode(ranking, shopper(*events)), await encode(ranking, shopper(*events[::-1]))
    assert forth @ back < 0.99
    other_types = await encode(ranking, shopper(*((item_id, BOUGHT) for item_id, _ in events[:3]), *events[3:]))
    assert forth @ other_types < 0.999


async def test_an_event_before_1970_spoils_no_list(ranking: Ranking) -> None:
    context = shopper(("i0", VIEW), ("i1", VIEW))
    context.history[0].time_ms = -62135596800000
    answer = await rank(ranking, tiny.candidates("i0", "i1", "i2"), context=context, scene=types_pb2.SCENE_HOME)
    assert len(answer.order) == 3
    assert np.isfinite(answer.score).all()


async def test_a_shopper_is_computed_once_until_something_happens(ranking: Ranking) -> None:
    assert isinstance(ranking.model, CountingModel)
    events = [("i1", VIEW), ("i2", CART)]
    first = await encode(ranking, shopper(*events))
    await rank(ranking, tiny.candidates("i3"), context=shopper(*events))
    np.testing.assert_array_equal(await encode(ranking, shopper(*events)), first)
    assert ranking.model.encoded == 1
    await rank(ranking, tiny.candidates("i3"), context=shopper(*events, ("i9", VIEW)))
    await encode(ranking, shopper(*events, ("i9", VIEW)))
    assert ranking.model.encoded == 2


async def test_nobody_in_particular_is_ranked_without_affinity(ranking: Ranking, retriever: ArrayRetriever) -> None:
    columns = tiny.candidates("i1", "i2", "i3", popularity=[1.0, 500.0, 20.0])
    for context in (coldstart_pb2.ShopperContext(), shopper(("unheard of", VIEW))):
        assert list((await rank(ranking, columns, context=context)).order) == [1, 2, 0]
    with pytest.raises(Invalid, match=r"context\.history: is empty"):
        await encode(ranking, coldstart_pb2.ShopperContext())
    with pytest.raises(Invalid, match=r"context\.history: none of its items"):
        await encode(ranking, shopper(("unheard of", VIEW)))
    assert isinstance(ranking.model, CountingModel)
    assert ranking.model.encoded == 0


async def test_without_the_retriever_a_list_is_made_of_what_is_left(
    ranking: Ranking, retriever: ArrayRetriever
) -> None:
    retriever.refuses = grpc.StatusCode.UNAVAILABLE
    context = shopper(("i1", VIEW))
    columns = tiny.candidates("i1", "i2", "i3", popularity=[1.0, 500.0, 20.0])
    assert (await rank(ranking, columns, context=context)).order[0] == 1
    with pytest.raises(Unavailable, match="retriever"):
        await encode(ranking, context)


async def test_top_k_is_the_beginning_of_the_list(ranking: Ranking) -> None:
    columns = tiny.candidates(*MANY)
    for scene in (SPONSORED, types_pb2.SCENE_HOME):
        whole = await rank(ranking, columns, context=shopper(("i1", VIEW)), scene=scene)
        some = await rank(ranking, columns, context=shopper(("i1", VIEW)), scene=scene, top_k=7, explain=True)
        assert sorted(whole.order) == list(range(40))
        assert list(some.order) == list(whole.order)[:7]
        assert list(some.score) == list(whole.score)[:7]
        assert len(some.reasons) == 7
        assert [len(column.probability) for column in some.objectives] == [7, 7, 7]
        assert not whole.reasons


async def test_a_query_speaks_through_the_legs(ranking: Ranking) -> None:
    legs = [types_pb2.LegScores(leg="words", score=[1.0, float("nan"), 9.0])]
    columns = tiny.candidates("i1", "i2", "i3", popularity=[1.0, 40.0, 1.0], legs=legs)
    columns.score[:] = [0.1, 0.05, 0.9]
    scene = types_pb2.SCENE_SEARCH
    assert (await rank(ranking, columns, scene=scene, query="thing")).order[0] == 2
    assert (await rank(ranking, columns, scene=scene)).order[0] == 1


async def test_reasons_are_what_spoke_for_the_item(ranking: Ranking, retriever: ArrayRetriever) -> None:
    retriever.vectors["twin"] = retriever.vectors["i2"]
    columns = tiny.candidates(
        "twin",
        "loved",
        "named",
        "fresh",
        "branded",
        title=["a", "b", "red Lamps", "d", "e"],
        popularity=[1.0, 1e6, 1.0, 1.0, 1.0],
        created_at=[0, 0, 0, int(tiny.NOW), 0],
        brand=[0, 0, 0, 0, 1],
        brands=["", "Halo"],
        legs=[types_pb2.LegScores(leg="words", score=[0.0, 0.0, 30.0, 0.0, 0.0])],
    )
    context = shopper(("i1", VIEW), ("i2", BOUGHT), brands=[coldstart_pb2.NamedShare(name="Halo", share=0.9)])
    response = await rank(ranking, columns, context=context, query="lamp", scene=types_pb2.SCENE_SEARCH, explain=True)
    told = {
        columns.id[row]: [(reason.text, reason.subject) for reason in reasons.reasons]
        for row, reasons in zip(response.order, response.reasons, strict=True)
    }
    assert told["twin"][0] == ("near what you bought", "i2")
    assert told["loved"][0] == ("popular", "")
    assert told["named"][0] == ("matches your words", "Lamps")
    assert told["fresh"][0] == ("new", "")
    assert told["branded"][0] == ("your brand", "Halo")
    for reasons, score in zip(response.reasons, response.score, strict=True):
        parts = [reason.contribution for reason in reasons.reasons]
        assert parts == sorted(parts, reverse=True)
        assert all(0 < part < score for part in parts)
        assert len(parts) <= 4


async def test_a_contribution_is_what_the_score_loses_without(ranking: Ranking) -> None:
    columns = tiny.candidates("x", "y", popularity=[np.expm1(10.0), 0.0])
    response = await rank(ranking, columns, explain=True)
    assert list(response.order) == [0, 1]
    lone = tiny.candidates("x", "y", popularity=[np.expm1(5.0)] * 2)
    usual = (await rank(ranking, lone)).score[0]
    (reason,) = response.reasons[0].reasons
    np.testing.assert_allclose(reason.contribution, response.score[0] - usual, rtol=1e-4)
    assert not response.reasons[1].reasons


async def test_paid_places_go_by_bid_times_probability(ranking: Ranking) -> None:
    popularity = [1.0, 500.0, 20.0, 900.0]
    columns = tiny.candidates("i1", "i2", "i3", "i4", popularity=popularity, bid=[9.0, 0.5, 1.0, 0.0])
    even = by_id(await rank(ranking, columns, scene=types_pb2.SCENE_HOME), columns)
    paid = by_id(await rank(ranking, columns), columns)
    assert list(paid) == ["i1", "i3", "i2"]  # Nobody bids for i4.
    for item_id, bid in (("i1", 9.0), ("i2", 0.5), ("i3", 1.0)):
        # The probability stays what it was; the score is what a showing is worth.
        assert paid[item_id][1:] == even[item_id][1:]
        assert paid[item_id][0] == pytest.approx(bid * even[item_id][0], rel=1e-5)
    columns.ClearField("bid")
    assert not (await rank(ranking, columns, explain=True)).order


async def test_a_boost_counts_within_its_bounds_and_is_told(ranking: Ranking) -> None:
    columns = tiny.candidates("i1", "i2", "i3", boost=[1.0, 9.0, 0.8])
    response = await rank(ranking, columns, scene=types_pb2.SCENE_HOME, explain=True)
    assert list(response.order) == [1, 0, 2]
    top, plain, down = response.score
    assert [top / plain, down / plain] == pytest.approx([1.5, 0.8])
    assert [reason.text for reason in response.reasons[0].reasons] == ["picked by the shop"]
    assert response.reasons[0].reasons[0].contribution == pytest.approx(top - plain)


async def test_in_promotion_the_promotion_is_always_a_reason(ranking: Ranking) -> None:
    columns = tiny.candidates("i1", "i2", promotion=[1, 0], promotions=["spring", "mug week"])
    told = await rank(ranking, columns, scene=types_pb2.SCENE_PROMOTION, explain=True)
    subjects = {columns.id[row]: reasons.reasons[-1] for row, reasons in zip(told.order, told.reasons, strict=True)}
    assert {name: reason.text for name, reason in subjects.items()} == dict.fromkeys(("i1", "i2"), "on promotion:")
    assert {name: reason.subject for name, reason in subjects.items()} == {"i1": "mug week", "i2": "spring"}
    elsewhere = await rank(ranking, columns, scene=types_pb2.SCENE_HOME, explain=True)
    assert not any(reasons.reasons for reasons in elsewhere.reasons)  # These heads do not care for promotions.


async def test_what_the_features_add_sums_to_the_log_odds(ranking: Ranking) -> None:
    context = shopper(("i1", VIEW), ("i2", BOUGHT))
    columns = tiny.candidates(*MANY, popularity=[float(n * n) for n in range(40)])
    told = await rank(ranking, columns, context=context, explain=True, top_k=7)
    assert {"affinity", "popularity", "bias"} <= {column.feature for column in told.features}
    parts = np.array([column.log_odds for column in told.features]).reshape(-1, 7, 3)
    probability = np.array([column.probability for column in told.objectives]).T
    np.testing.assert_allclose(parts.sum(axis=0), np.log(probability / (1 - probability)), atol=1e-4)
    of_scene = np.array([column.scene_log_odds for column in told.features])
    np.testing.assert_allclose(of_scene, parts @ np.array(tiny.WEIGHTS) / sum(tiny.WEIGHTS), atol=1e-5)
    assert not (await rank(ranking, columns, context=context)).features


async def test_how_unsure_a_probability_is_comes_where_it_was_asked_for(ranking: Ranking) -> None:
    columns = tiny.candidates(*MANY, popularity=[float(n * n) for n in range(40)])
    told = await rank(ranking, columns, context=shopper(("i1", VIEW)), deviations=True)
    for column in told.objectives:
        probability = np.array(column.probability)
        np.testing.assert_allclose(column.log_odds_deviation, -np.log1p(-probability), rtol=1e-4)
    plain = await rank(ranking, columns, context=shopper(("i1", VIEW)))
    assert [list(column.log_odds_deviation) for column in plain.objectives] == [[], [], []]
    assert list(plain.order) == list(told.order)
