import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retriever import dense, lexical, popular
from services.retriever import index as index_module
from services.retriever.changes import AppliedChange
from services.retriever.index import CatalogueIndex
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2
from souk.vectors import unpack_matrix
from tests.unit.retriever.items import (
    CONTENT,
    DIM,
    GENERATION,
    VERSION,
    Feed,
    ask,
    found,
    new_index,
    popular_leg,
    random_vectors,
    vector_leg,
    words_leg,
)

VECTORS = random_vectors(64)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebuilds, merges and compactions after a few changes."""
    monkeypatch.setattr(dense, "MIN_STALE", 4)
    monkeypatch.setattr(dense, "CODED_ROWS", 24)
    monkeypatch.setattr(dense, "GRAPH_ROWS", 24)
    monkeypatch.setattr(lexical, "MIN_STALE", 4)
    monkeypatch.setattr(popular, "MIN_STALE", 4)
    monkeypatch.setattr(index_module, "MIN_ENDED", 6)


def answers(index: CatalogueIndex) -> list[bytes]:
    """What can be asked of an index, without what it cost."""
    requests = [
        ask(vector_leg(VECTORS[0]), k=100, exact=True),
        ask(words_leg("red lamp"), k=100),
        ask(popular_leg(), k=100),
        ask(words_leg("blue"), vector_leg(VECTORS[1]), popular_leg(), k=100, exact=True, min_k=50),
        ask(
            popular_leg(),
            k=100,
            filter=retriever_pb2.Filter(
                attribute=retriever_pb2.AttributeFilter(
                    name="Size", range=retriever_pb2.NumberRange(min=3)
                )
            ),
        ),
    ]  # fmt: skip
    said = []
    for request in requests:
        response = index.search(request)
        response.ClearField("timings")
        said.append(response.SerializeToString(deterministic=True))
    for prefix in ("red", "l", "ac"):
        said.append(index.suggest(retriever_pb2.SuggestRequest(prefix=prefix, k=50)).SerializeToString())
    wanted = retriever_pb2.GetVectorsRequest(item_ids=[f"i{number}" for number in range(20)], space=CONTENT)
    said.append(index.get_vectors(wanted).SerializeToString())
    return said


def write(feed: Feed, step: tuple[str, int, int]) -> None:
    kind, which, what = step
    item_id = f"i{which}"
    colour = ("red", "blue", "green")[what % 3]
    fields: dict[str, Any] = {
        "title": f"{colour} lamp {what % 5}",
        "brand": ("Acme", "ACME", "Zed")[what % 3],
        "popularity": what % 4,
        "visible": what % 7 != 0,
        "category_path": ["Lamps", colour],
        "attributes": {"size": [str(what % 6)]},
    }
    if kind == "remove":
        feed.index.apply([feed.removal(item_id)])
    elif kind == "item":
        feed.put(item_id, **fields)
    elif kind == "covered":
        feed.put(item_id, VECTORS[what], **fields)
    else:
        feed.put(item_id, **fields)
        feed.index.apply([feed.vector(item_id, None)])


kinds = st.sampled_from(["item", "covered", "covered", "remove", "uncovered"])
steps = st.lists(st.tuples(kinds, st.integers(0, 19), st.integers(0, 63)), max_size=60)


@pytest.mark.usefixtures("eager")
@settings(max_examples=40, deadline=None)
@given(steps, st.integers(1, 9), st.integers(0, 60))
def test_upkeep_and_a_restart_change_no_answer(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, int, int]], every: int, at: int
) -> None:
    plain, kept = new_index(), new_index()
    plain_feed, kept_feed = Feed(plain), Feed(kept)
    folder = tmp_path_factory.mktemp("snapshot")
    for number, step in enumerate(script):
        write(plain_feed, step)
        write(kept_feed, step)
        if number % every == 0:
            kept.maintain()
        if number == at:
            kept.save(folder)
            kept = CatalogueIndex()
            assert kept.load(folder) == kept_feed.sequence
            kept_feed.index = kept
    # Completions are counted in the background alone.
    plain._tidy()
    kept.maintain()
    kept.maintain()
    assert answers(kept) == answers(plain)
    ours, theirs = kept.info().indexes[0], plain.info().indexes[0]
    assert (ours.pending, ours.uncovered) == (theirs.pending, theirs.uncovered)


def test_what_was_applied_is_seen_at_once() -> None:
    index = new_index()
    feed = Feed(index)
    feed.put("a", title="red shoe")
    assert found(index.search(ask(words_leg("red")))) == ["a"]
    assert found(index.search(ask(vector_leg(VECTORS[0])))) == []
    index.apply([feed.vector("a", VECTORS[0])])
    assert found(index.search(ask(vector_leg(VECTORS[0])))) == ["a"]
    feed.put("a", title="blue shoe")
    assert found(index.search(ask(words_leg("red")))) == []
    assert found(index.search(ask(words_leg("blue")))) == ["a"]
    # The vector belongs to the revision before.
    assert found(index.search(ask(vector_leg(VECTORS[0])))) == []
    assert index.info().indexes[0].pending == 1
    index.apply([feed.removal("a")])
    assert found(index.search(ask(words_leg("blue"), popular_leg()))) == []
    assert index.info().items == 0


def test_older_changes_change_nothing() -> None:
    index = new_index()
    feed = Feed(index)
    old = feed.item("a", title="red")
    held = feed.item("a", title="blue")
    index.apply([old, held, feed.vector("a", VECTORS[0])])
    before = answers(index)
    stale = AppliedChange(1, "a", 1, space=CONTENT, space_version=VERSION, vector=VECTORS[5])
    elsewhere = AppliedChange(2, "a", 2, space=CONTENT, space_version="unknown", vector=VECTORS[5][:3])
    removal = AppliedChange(1, "a", 2, removed=True)
    index.apply([old, held, stale, elsewhere, removal])
    assert answers(index) == before


def test_a_batch_with_a_vector_of_another_length_is_refused_whole() -> None:
    index = new_index()
    feed = Feed(index)
    item = feed.item("a")
    with pytest.raises(ValueError, match=r"vector of 'a': shape \(3,\); space v1 has 16"):
        index.apply([item, feed.vector("a", VECTORS[0][:3])])
    assert index.info().items == 0


def test_spaces_and_generations_come_and_go() -> None:
    index = new_index()
    feed = Feed(index)
    feed.put("a", VECTORS[0])
    index.add_space(CONTENT, VERSION, DIM, "b" * 64)
    index.add_space(types_pb2.SPACE_TOPIC, "t1", 4, "b" * 64)
    assert {(info.generation[0], info.space.version) for info in index.info().indexes} == {
        ("a", VERSION),
        ("b", VERSION),
        ("b", "t1"),
    }
    index.set_serving("b" * 64)
    index.drop_generation(GENERATION)
    assert found(index.search(ask(vector_leg(VECTORS[0])))) == ["a"]
    index.drop_space("t1")
    assert [info.space.version for info in index.info().indexes] == [VERSION]
    assert index.serving == "b" * 64


@pytest.mark.usefixtures("eager")
def test_compaction_gives_ended_slots_back() -> None:
    index = new_index()
    feed = Feed(index)
    for number in range(60):
        feed.put(f"i{number % 10}", VECTORS[number], title="red lamp")
    assert index._view.columns.size == 61
    index.maintain()
    assert index._view.columns.size == 11
    assert len(found(index.search(ask(vector_leg(VECTORS[0]), words_leg("red"))))) == 10


@pytest.mark.usefixtures("eager")
def test_what_is_written_during_a_compaction_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    index, plain = new_index(), new_index()
    feeds = [Feed(index), Feed(plain)]

    def put(number: int, title: str) -> None:
        for feed in feeds:
            feed.put(f"i{number}", VECTORS[number], title=title, popularity=number)

    def write_meanwhile(view: lexical.LexicalView, *rest: Any) -> lexical.Postings:
        merged = merge(view, *rest)
        # Only the compaction's merge moves slots.
        if len(rest) > 1:
            put(3, "red chair")
            put(11, "red stool")
            put(11, "blue stool")
            for feed in feeds:
                feed.index.apply([feed.removal("i4")])
        return merged

    merge = lexical.merge
    for _ in range(4):
        for number in range(10):
            put(number, "red lamp")
    monkeypatch.setattr(lexical, "merge", write_meanwhile)
    index.maintain()
    assert index._view.columns.size == 14
    assert index.sequence == plain.sequence
    monkeypatch.undo()
    put(5, "blue lamp")
    for each in (index, plain):
        each._tidy()
    assert answers(index) == answers(plain)


def test_a_damaged_or_missing_snapshot_is_passed_over(tmp_path: Path) -> None:
    index = new_index()
    feed = Feed(index)
    assert CatalogueIndex().load(tmp_path / "nowhere") == 0
    feed.put("a", VECTORS[0], title="red")
    folder = index.save(tmp_path)
    for name in ("words.npz", "space_0.faiss", "index.json", "columns.npz"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-9] + b"x" + content[-8:])
        fresh = CatalogueIndex()
        assert fresh.load(tmp_path) == 0
        assert fresh.info().items == 0
        (folder / name).write_bytes(content)
    assert CatalogueIndex().load(tmp_path) == feed.sequence


def test_a_snapshot_of_words_read_otherwise_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = new_index()
    Feed(index).put("a", title="headphones")
    index.save(tmp_path)
    loaded = CatalogueIndex()
    assert loaded.load(tmp_path) == index.sequence
    assert found(loaded.search(ask(words_leg("hedphones")))) == ["a"]
    monkeypatch.setattr("services.retriever.index.ANALYSIS", -1)
    assert CatalogueIndex().load(tmp_path) == 0


def test_only_the_newest_snapshot_stays_and_an_unfinished_one_is_no_snapshot(tmp_path: Path) -> None:
    index = new_index()
    feed = Feed(index)
    feed.put("a", title="red")
    index.save(tmp_path)
    feed.put("b", title="red")
    newest = index.save(tmp_path)
    (tmp_path / "99999999999999999999-1.unfinished").mkdir()
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".unfinished")] == [newest.name]
    assert CatalogueIndex().load(tmp_path) == feed.sequence


def test_stop_ends_upkeep() -> None:
    index = new_index()
    Feed(index).put("a", title="red lamp")
    index.stop()
    index.maintain()
    assert not index.suggest(retriever_pb2.SuggestRequest(prefix="red", k=5)).suggestions


@pytest.mark.usefixtures("eager")
def test_readers_see_whole_batches_while_writes_and_rebuilds_go_on() -> None:
    # Every batch writes a pair of items under one new word and one new vector, and takes the pair before out: a reader
    # that sees one of a pair without the other, or a pair from two batches, has seen a torn state.
    index = new_index()
    feed = Feed(index)
    rounds, ended = 250, threading.Event()
    failures: list[BaseException] = []
    vectors = random_vectors(rounds + 1, seed=5)

    def batch(number: int) -> list[AppliedChange]:
        fields = {"title": f"pair batch{number}", "popularity": number, "brand": f"b{number}"}
        changes = [feed.item(item_id, **fields) for item_id in ("left", "right")]
        changes += [feed.vector(item_id, vectors[number]) for item_id in ("left", "right")]
        # Others come and stay, so that there is something to rebuild.
        changes += [feed.item(f"i{number}", title="other"), feed.vector(f"i{number}", vectors[number])]
        return changes

    def read(seed: int) -> None:
        random = np.random.default_rng(seed)
        sequence = 0
        try:
            while not ended.is_set():
                legs = [words_leg("pair"), vector_leg(vectors[random.integers(rounds)]), popular_leg()]
                response = index.search(ask(*legs, k=1000))
                columns = response.candidates
                assert response.sequence >= sequence
                sequence = response.sequence
                rows = [row for row, item_id in enumerate(columns.id) if item_id in ("left", "right")]
                assert len(rows) == 2
                assert len({columns.title[row] for row in rows}) == 1
                assert len({columns.revision[row] for row in rows}) == 1
                assert not any(np.isnan(scores.score[row]) for scores in columns.legs for row in rows)
                pair = retriever_pb2.GetVectorsRequest(item_ids=["left", "right"], space=CONTENT)
                answer = index.get_vectors(pair)
                left, right = unpack_matrix(answer.vectors, "vectors")
                assert answer.revisions[0] == answer.revisions[1] > 0
                np.testing.assert_array_equal(left, right)
                index.suggest(retriever_pb2.SuggestRequest(prefix="pair", k=5))
        except BaseException as error:
            failures.append(error)
            raise

    def maintain() -> None:
        try:
            while not ended.is_set():
                index.maintain()
        except BaseException as error:
            failures.append(error)
            raise

    index.apply(batch(0))
    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    threads.append(threading.Thread(target=maintain))
    for thread in threads:
        thread.start()
    for number in range(1, rounds + 1):
        index.apply(batch(number))
    ended.set()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    index.maintain()
    assert index.info().items == rounds + 3
    assert len(found(index.search(ask(vector_leg(vectors[0]), k=1000)))) == rounds + 3
