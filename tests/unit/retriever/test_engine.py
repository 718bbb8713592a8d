"""When the engine saves its indexes: saving writes all of them, so it must be worth it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.retriever import dense, engine
from services.retriever.catalogue import Catalogue
from services.retriever.engine import Engine
from services.retriever.settings import RetrieverSettings
from tests.unit.retriever.items import CONTENT, DIM, GENERATION, VERSION, Feed, random_vectors


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Engine, Feed]]:
    """An engine that was not started, with 40 items in a base and saved; limits in tens."""
    monkeypatch.setattr(dense, "MIN_STALE", 3)
    monkeypatch.setattr(engine, "_MIN_UNSAVED_CHANGES", 15)
    monkeypatch.setattr(engine, "_MIN_UNSAVED_ROWS", 5)
    made = Engine(RetrieverSettings(data=tmp_path))
    made.catalogue = Catalogue(tmp_path)
    made.index.add_space(CONTENT, VERSION, DIM, GENERATION)
    feed = Feed(made.index)
    for number, vector in enumerate(random_vectors(40, DIM)):
        feed.put(f"i{number}", vector)
    made.index.maintain()
    made._save_indexes()
    yield made, feed
    made.catalogue.close()


def test_a_base_that_grew_a_little_is_not_saved_again(filled: tuple[Engine, Feed]) -> None:
    running, feed = filled
    assert not running._worth_saving()
    for number, vector in enumerate(random_vectors(4, DIM, seed=3)):
        feed.put(f"new{number}", vector)
    running.index.maintain()
    assert running.index.info().indexes[0].base == 44
    assert not running._worth_saving()


def test_a_base_that_grew_much_is_saved_though_little_changed(filled: tuple[Engine, Feed]) -> None:
    running, feed = filled
    for number, vector in enumerate(random_vectors(6, DIM, seed=3)):
        feed.put(f"new{number}", vector)
    assert not running._worth_saving()
    running.index.maintain()
    assert running._worth_saving()
    running._save_indexes()
    assert not running._worth_saving()


def test_many_changes_are_saved_though_the_base_is_the_same(filled: tuple[Engine, Feed]) -> None:
    running, feed = filled
    for _ in range(15):
        feed.put("i0")
    assert not running._worth_saving()
    feed.put("i0")
    assert running._worth_saving()
