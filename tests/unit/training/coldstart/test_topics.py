"""Topics are readable, told again by the softmax, and separate what categories separate."""

from pathlib import Path

import numpy as np
import pytest

from services.domain.bundle import ColdstartManifest
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.coldstart.card import CARD, TOPICS, ColdstartCard
from training.coldstart.topics import agreement, cluster, how_many, labels, softmax_of
from training.coldstart.train import train_coldstart
from training.ranker.card import CardError
from training.ranker.log import Ints

KINDS = ("Lamps", "Shoes", "Tents", "Knives")


def catalogue(each: int = 40) -> tuple[list[types_pb2.Item], Float32, Ints]:
    """Items of four categories whose vectors lie around four directions."""
    rng = np.random.default_rng(0)
    kind = np.arange(4 * each) % 4
    vectors = np.eye(4, 12, dtype=np.float32)[kind] + 0.15 * rng.standard_normal((4 * each, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = [
        types_pb2.Item(id=f"{n}", title=f"{KINDS[k]} number {n}", category_path=["All", KINDS[k]])
        for n, k in enumerate(kind.tolist())
    ]
    return items, vectors, kind


def test_clusters_are_the_categories_and_the_softmax_tells_them() -> None:
    items, vectors, kind = catalogue()
    topic = cluster(vectors, 4, seed=1)
    assert agreement(topic, kind) == pytest.approx(1)
    shuffled = np.random.default_rng(0).permutation(kind)
    assert agreement(topic, shuffled) < 0.2
    weights, bias = softmax_of(vectors, topic)
    assert ((vectors @ weights.T + bias).argmax(axis=1) == topic).mean() > 0.98
    assert sorted(labels(items, topic)) == sorted(KINDS)


def test_without_categories_the_words_that_set_a_topic_apart_name_it() -> None:
    items, _, kind = catalogue()
    for item in items:
        del item.category_path[:]
    names = labels(items, kind)
    assert [name.split(", ")[0] for name in names] == [name.lower() for name in KINDS]


def test_no_name_is_there_twice() -> None:
    items, _, kind = catalogue()
    for item in items:
        item.category_path[:] = ["All"]
    names = labels(items, kind)
    assert len(set(names)) == 4
    assert names[0] == "All"
    blank = [types_pb2.Item(id=str(n)) for n in range(4)]
    assert len(set(labels(blank, np.array([0, 0, 1, 1])))) == 2


@pytest.mark.parametrize(("items", "topics"), [(12, 2), (100, 20), (2_000, 32), (6_000, 46), (1_000_000, 64)])
def test_how_many(items: int, topics: int) -> None:
    assert how_many(items) == topics


def test_more_clusters_than_directions_leave_none_empty() -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    topic = cluster(vectors, 6, seed=0)
    assert set(topic.tolist()) == set(range(int(topic.max()) + 1))


def test_what_is_written_is_what_coldstart_reads(tmp_path: Path) -> None:
    items, vectors, _ = catalogue()
    vectors[0] = 0
    card = train_coldstart(items, vectors, "content", tmp_path / "cold", 4, seed=1)
    assert ColdstartCard.read(tmp_path / "cold" / CARD) == card
    assert card.manifest == ColdstartManifest(card.manifest.space_version, "content", card.manifest.labels)
    assert card.metrics["coldstart.items_read"] == 159 / 160
    assert card.metrics["coldstart.category_nmi"] == pytest.approx(1)
    with np.load(tmp_path / "cold" / TOPICS) as arrays:
        assert arrays["W"].shape == (4, 12)
        assert arrays["b"].shape == (4,)
        assert arrays["W"].dtype == np.float32
    with pytest.raises(FileExistsError, match="exists already"):
        train_coldstart(items, vectors, "content", tmp_path / "cold", 4, seed=1)
    with pytest.raises(ValueError, match="items: the encoder reads 0; topics need at least 10"):
        train_coldstart(items, vectors * 0, "content", tmp_path / "other", None, seed=1)
    assert [file.name for file in tmp_path.iterdir()] == ["cold"]


def test_a_card_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="train coldstart` writes it"):
        ColdstartCard.read(tmp_path / CARD)
    (tmp_path / CARD).write_text("{}")
    with pytest.raises(CardError, match="not a coldstart's card"):
        ColdstartCard.read(tmp_path / CARD)
