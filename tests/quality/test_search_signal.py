"""No stage of search is a toy: take away the signal of one, and nDCG@10 on judged queries falls.

A generated shop, its judgements, real processes. Each ablation is the same request with one thing taken out of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest

from souk.dataset import read_items, read_judgements
from souk.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_vector
from tests.integration.shops import Shop
from training.data.generate import generate
from training.evaluate.metrics import by_query, ndcg

ITEMS = 1000
QUERIES = 120


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generated") / "dataset"
    generate(path, ITEMS, shoppers=50, seed=11)
    return path


@pytest.fixture(scope="module")
def grades(dataset: Path) -> Mapping[str, Mapping[str, int]]:
    english = {query: judged for query, judged in by_query(read_judgements(dataset)).items() if query.isascii()}
    chosen = np.random.default_rng(0).permutation(sorted(english))[:QUERIES]
    return {str(query): english[str(query)] for query in chosen}


@pytest.fixture(scope="module")
def shop(bundle: Path, dataset: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with Shop(bundle, tmp_path_factory.mktemp("shop"), redis_url) as one:
        one.fill(list(read_items(dataset)))
        yield one


def words_leg(query: str) -> retriever_pb2.Leg:
    return retriever_pb2.Leg(name="words", weight=0.5, words=retriever_pb2.WordsLeg(query=query))


def vector_leg(vector: Float32) -> retriever_pb2.Leg:
    leg = retriever_pb2.VectorLeg(space=types_pb2.SPACE_CONTENT, vector=pack_vector(vector))
    return retriever_pb2.Leg(name="meaning", weight=0.5, vector=leg)


def quality(
    shop: Shop, grades: Mapping[str, Mapping[str, int]], legs: Mapping[str, Sequence[retriever_pb2.Leg]]
) -> float:
    """Mean nDCG@10 of the retriever's answers to these legs."""
    with grpc.insecure_channel(shop.processes["retriever"].address) as channel:
        stub = retriever_pb2_grpc.RetrieverStub(channel)
        found = {
            query: stub.Search(retriever_pb2.SearchRequest(legs=legs[query], k=10), timeout=10).candidates.id
            for query in grades
        }
    return float(np.mean([ndcg(found[query], judged) for query, judged in grades.items()]))


def vectors(shop: Shop, grades: Mapping[str, object]) -> dict[str, Float32]:
    embedded = shop.client.embed(list(grades)).vectors
    return dict(zip(grades, embedded, strict=True))


def test_each_leg_carries_its_part(shop: Shop, grades: Mapping[str, Mapping[str, int]]) -> None:
    vector = vectors(shop, grades)
    both = quality(shop, grades, {q: [words_leg(q), vector_leg(vector[q])] for q in grades})
    words = quality(shop, grades, {q: [words_leg(q)] for q in grades})
    meaning = quality(shop, grades, {q: [vector_leg(vector[q])] for q in grades})
    # A direction that says nothing of the query: what is left is the words.
    flat = np.ones_like(next(iter(vector.values())))
    deaf = quality(shop, grades, {q: [words_leg(q), vector_leg(flat)] for q in grades})
    # Another query's vector.
    others = dict(zip(grades, np.roll(np.stack(list(vector.values())), 1, axis=0), strict=True))
    mixed_up = quality(shop, grades, {q: [vector_leg(others[q])] for q in grades})
    print(f"\nboth {both:.3f}, words {words:.3f}, meaning {meaning:.3f}")
    print(f"words and a constant vector {deaf:.3f}, another query's vector {mixed_up:.3f}")
    assert both > words + 0.02
    assert both > meaning + 0.02
    assert both > deaf + 0.02
    assert meaning > mixed_up + 0.2


def test_the_gateway_serves_what_its_stages_are_worth(shop: Shop, grades: Mapping[str, Mapping[str, int]]) -> None:
    served = {q: [hit.item_id for hit in shop.client.search(q, page_size=10).hits] for q in grades}
    through = float(np.mean([ndcg(served[q], judged) for q, judged in grades.items()]))
    words = quality(shop, grades, {q: [words_leg(q)] for q in grades})
    popular = [hit.item_id for hit in shop.client.recommend(types_pb2.SCENE_HOME, page_size=10).hits]
    baseline = float(np.mean([ndcg(popular, judged) for judged in grades.values()]))
    print(f"\nserved {through:.3f}, words {words:.3f}, popularity {baseline:.3f}")
    assert through > words + 0.02
    assert through > baseline + 0.3


def test_permuted_item_text_ruins_the_search(
    bundle: Path,
    dataset: Path,
    redis_url: str,
    grades: Mapping[str, Mapping[str, int]],
    shop: Shop,
    tmp_path: Path,
) -> None:
    items = list(read_items(dataset))
    order = np.random.default_rng(1).permutation(len(items))
    permuted = []
    for item, other in zip(items, (items[i] for i in order), strict=True):
        one = types_pb2.Item()
        one.CopyFrom(other)
        one.id = item.id
        permuted.append(one)
    with Shop(bundle, tmp_path, redis_url) as ruined:
        ruined.fill(permuted)
        legs = {q: [words_leg(q), vector_leg(v)] for q, v in vectors(shop, grades).items()}
        assert quality(ruined, grades, legs) < quality(shop, grades, legs) - 0.3
