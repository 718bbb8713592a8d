"""The ranker beside a real catalogue: items known at training and items new since stand in one behaviour space."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest

from services.domain.bundle import MANIFEST, read_bundle, write_bundle
from souk.ranker.v1 import ranker_pb2, ranker_pb2_grpc
from souk.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from souk.types.v1 import types_pb2
from souk.vectors import unpack_matrix, unpack_vector
from tests.conftest import OwnRedis
from tests.integration.retrievers import shop as items_of_a_shop
from tests.integration.shops import Shop, until
from tests.unit.ranker import tiny

COUNT, KNOWN = 24, 12


@pytest.fixture
def shop(bundle: Path, own_redis: OwnRedis, tmp_path: Path) -> Iterator[Shop]:
    made = tmp_path / "bundle"
    shutil.copytree(bundle, made)
    (made / MANIFEST).unlink()
    manifest = read_bundle(bundle).manifest
    tiny.write_networks(made, tiny.item_vectors(KNOWN), manifest.encoder.dim)
    ranker = tiny.ranker_manifest(content_space_version=manifest.encoder.space_version)
    write_bundle(made, replace(manifest, ranker=ranker))
    with Shop(made, tmp_path / "home", own_redis.url, coldstart=True, ranker=True) as shop:
        yield shop


def test_known_and_new_items_are_ranked_by_the_vectors_the_catalogue_holds(shop: Shop) -> None:
    shop.fill(items_of_a_shop(COUNT))
    ids = [f"i{n}" for n in range(COUNT)]
    wanted = retriever_pb2.GetVectorsRequest(item_ids=ids, space=types_pb2.SPACE_BEHAVIOUR, space_version=tiny.SPACE)
    with (
        grpc.insecure_channel(shop.processes["retriever"].address) as catalogue,
        grpc.insecure_channel(shop.processes["ranker"].address) as channel,
    ):
        reads, stub = retriever_pb2_grpc.RetrieverStub(catalogue), ranker_pb2_grpc.RankerStub(channel)
        present = [retriever_pb2.PRESENCE_PRESENT] * COUNT
        until(lambda: list(reads.GetVectors(wanted, timeout=10).presence) == present, seconds=60)
        vectors = unpack_matrix(reads.GetVectors(wanted, timeout=10).vectors)
        for row, vector in enumerate(tiny.item_vectors(KNOWN).values()):
            np.testing.assert_allclose(vectors[row], vector, atol=1e-6)

        found = reads.Search(
            retriever_pb2.SearchRequest(
                legs=[retriever_pb2.Leg(name="p", popular=retriever_pb2.PopularLeg())], k=COUNT
            ),
            timeout=10,
        ).candidates
        context = ranker_pb2.EncodeShopperRequest().context
        view, bought = types_pb2.EVENT_TYPE_VIEW, types_pb2.EVENT_TYPE_PURCHASE
        context.history.extend(tiny.history(("i3", view), ("i20", bought)))

        def shopper() -> ranker_pb2.EncodeShopperResponse:
            return stub.EncodeShopper(ranker_pb2.EncodeShopperRequest(context=context), timeout=10)

        # An absence met before the vectors were made is remembered for a few seconds.
        until(lambda: bool(shopper().vector.dim))
        affinity = vectors @ unpack_vector(shopper().vector)
        others = [row for row, item_id in enumerate(found.id) if item_id not in ("i3", "i20")]
        # In order of score alone: nothing is mixed here, all bid the same, and of no brand there is no limit.
        scene = types_pb2.SCENE_SPONSORED
        found.brands[:] = [""] * len(found.brands)
        found.bid[:] = [1.0] * COUNT
        answer = stub.Rank(ranker_pb2.RankRequest(context=context, scene=scene, candidates=found), timeout=10)
        order = [found.id[row] for row in answer.order if row in others]
        assert order == sorted(order, key=lambda item_id: -affinity[ids.index(item_id)])
        assert {"i20", "i3"} == {found.id[row] for row in answer.order} - set(order)
