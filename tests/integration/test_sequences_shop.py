"""A ranker learned from plain sequences, in a bundle and served by real processes: its scores are those of the files,
and what comes next stands first."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from services.domain.bundle import RankerManifest
from souk.coldstart.v1 import coldstart_pb2
from souk.ranker.v1 import ranker_pb2, ranker_pb2_grpc
from souk.types.v1 import types_pb2
from tests.integration.shops import Shop, until
from tests.unit.ranker import tiny
from tests.unit.training.ranker.sequences.walks import ITEMS, write_walks

if TYPE_CHECKING:
    from training.ranker.sequences.export import Served

HOME = types_pb2.SCENE_HOME
VIEW, SKIP = types_pb2.EVENT_TYPE_VIEW, types_pb2.EVENT_TYPE_SKIP


@dataclass(frozen=True)
class Walked:
    shop: Shop
    served: "Served"
    manifest: RankerManifest


@pytest.fixture(scope="module")
def walked(bundle: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walked]:
    pytest.importorskip("torch")
    from training.bundle.bundle import assemble
    from training.content import Encoder
    from training.ranker.sequences.config import fitted
    from training.ranker.sequences.export import Served
    from training.ranker.sequences.files import read_sequences
    from training.ranker.sequences.pipeline import fit
    from training.ranker.sequences.texts import Texts

    path = tmp_path_factory.mktemp("sequences")
    sequences = read_sequences(write_walks(path / "walks.txt"), seed=1)
    goods = [types_pb2.Item(id=f"i{n}", title=f"thing number {n}", visible=True) for n in range(ITEMS)]
    encoder = Encoder.open(bundle)
    vectors = encoder.items(goods, path / "content", lambda done, all_of: None)
    content = {item.id: vector for item, vector in zip(goods, vectors, strict=True)}
    texts = Texts.of(sequences.item_ids, content, encoder.manifest.space_version)
    assert texts is not None
    config = replace(fitted(sequences, seed=1), dim=16, dropout=0.1, learning_rate=0.01, epochs=4)
    fit(sequences, texts, None, config, path / "ranker", path / "c.pt", lambda what: None, lambda epoch: None)
    made = assemble(bundle, path / "bundle", path / "ranker")
    assert made.manifest.ranker is not None
    with Shop(made.path, path / "shop", redis_url, coldstart=True, ranker=True) as shop:
        shop.fill(goods)
        yield Walked(shop, Served.open(path / "ranker"), made.manifest.ranker)


def ranked(walked: Walked, items: list[str], history: list[Any], explain: bool = False) -> Any:
    request = ranker_pb2.RankRequest(
        context=coldstart_pb2.ShopperContext(history=tiny.history(*history)),
        scene=HOME,
        candidates=tiny.candidates(*items),
        explain=explain,
    )
    with grpc.insecure_channel(walked.shop.processes["ranker"].address) as channel:
        return ranker_pb2_grpc.RankerStub(channel).Rank(request, timeout=5)


def log_odds(answer: Any) -> dict[int, float]:
    """By row of the request."""
    probability = np.array(answer.objectives[0].probability, np.float64)
    return dict(zip(answer.order, np.log(probability / (1 - probability)).tolist(), strict=True))


@pytest.mark.parametrize("met", [[5], [3, 4, 5, 6], [2, 9, 9, 17, 1, 28, 29, 0]])
def test_the_score_served_is_that_of_the_files(walked: Walked, met: list[int]) -> None:
    items = walked.served.item_ids
    row = {item: at for at, item in enumerate(items)}
    expected = walked.served.scores([np.array([row[f"i{n}"] for n in met])])[0]
    answer = log_odds(ranked(walked, items, [(f"i{n}", VIEW) for n in met]))
    told = np.array([answer[at] for at in range(len(items))])
    np.testing.assert_allclose(told - told.mean(), expected - expected.mean(), atol=1e-3)
    # The same alone, and with what the shopper did not want left out of what was met.
    alone = log_odds(ranked(walked, items[7:8], [(f"i{n}", VIEW) for n in met] + [("i20", SKIP)]))
    assert alone[0] == pytest.approx(told[7], abs=1e-4)


def test_an_item_that_came_later_stands_by_its_content(walked: Walked) -> None:
    answer = ranked(walked, ["i8", "unheard of"], [("i6", VIEW), ("i7", VIEW)])
    assert list(answer.order) == [0, 1]
    item = types_pb2.Item(id="late", title="thing number 8 again", visible=True)
    walked.shop.fill([item])
    found = walked.shop.client.vectors(["late", "i8"], space=types_pb2.SPACE_BEHAVIOUR)
    assert list(found.present) == [True, True]
    assert found.space_version == walked.manifest.space_version
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)


def test_what_comes_next_stands_first_for_a_shopper(walked: Walked) -> None:
    client = walked.shop.client
    events = [
        types_pb2.Event(event_id=uuid.uuid4().hex, shopper_id="walker", type=VIEW, item_id=f"i{n}")
        for n in (3, 4, 5, 6, 7)
    ]
    client.record_events(events)
    until(lambda: client.recommend(HOME, shopper_id="walker").stage == types_pb2.STAGE_HOT)
    answer = client.recommend(HOME, shopper_id="walker", page_size=10, explain=True)
    assert not answer.info.degradations
    # What has just come has a place of its own.
    first = next(hit for hit in answer.hits if hit.item_id != "late")
    assert first.item_id == "i8"
    assert "often comes next after what you met" in first.reasons
    assert "follows_root" in first.contributions
