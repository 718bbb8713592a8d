"""The fusion of tuning is the retriever's."""

import numpy as np
import pytest

from services.domain.search import FUSIONS
from services.retriever.columns import Columns
from services.retriever.fusion import Found
from services.retriever.fusion import fuse as retriever_fuse
from services.retriever.rules import _FUSIONS
from souk.types.v1 import types_pb2
from training.tune.fusion import CANDIDATES, Leg, fuse

ITEMS = 1000


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("found", [(300, 400), (400, 20), (0, 50), (50, 0)])
def test_it_orders_as_the_retriever_does(fusion: str, found: tuple[int, int]) -> None:
    table = Columns()
    for number in range(ITEMS):
        table.add(types_pb2.Item(id=f"i{number}"))
    rng = np.random.default_rng(sum(found))
    items = [rng.choice(ITEMS, count, replace=False) + 1 for count in found]
    words = np.sort(rng.gamma(2, 3, found[0]).astype(np.float32))[::-1]
    cosines = np.sort(rng.uniform(0.1, 0.8, found[1]).astype(np.float32))[::-1]
    union = np.union1d(*items)
    whole = union[rng.random(len(union)) < 0.3]
    for weight in (0.3, 0.6):
        legs = [Found(items[0], words, weight, whole=whole), Found(items[1], cosines, 1 - weight, cosine=True)]
        served = retriever_fuse(legs, _FUSIONS[fusion], table.view(), CANDIDATES)
        fused = fuse(
            Leg(items[0], words.astype(float), whole=whole), Leg(items[1], cosines.astype(float)), weight, fusion
        )
        # Where scores are equal the retriever has an order of its own.
        distinct = len(set(served.scores.tolist())) == len(served.scores)
        assert set(fused.tolist()) == set(served.slots.tolist()) or not distinct
        assert fused.tolist() == served.slots.tolist() or not distinct
        assert distinct or fusion == "reciprocal_rank"
