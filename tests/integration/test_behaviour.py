"""A retriever with two spaces, beside an embedder and a coldstart that tell what they were asked, and real ones."""

from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import grpc
import numpy as np
import pytest

from services.domain.bundle import (
    MANIFEST,
    Bundle,
    ColdstartManifest,
    EncoderManifest,
    Manifest,
    RankerManifest,
    read_bundle,
    write_bundle,
)
from services.domain.text import TextTemplate
from souk.coldstart.v1 import coldstart_pb2, coldstart_pb2_grpc
from souk.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from souk.retriever.v1 import admin_pb2, retriever_pb2
from souk.types.v1 import generations_pb2, types_pb2
from souk.vectors import Float32, pack_matrix, pack_vector, unpack_matrix, unpack_vector
from tests.integration.processes import spawn
from tests.integration.retrievers import NOWHERE, Retriever, item, shop, until

CONTENT, BEHAVIOUR = types_pb2.SPACE_CONTENT, types_pb2.SPACE_BEHAVIOUR
PRESENT, PENDING = retriever_pb2.PRESENCE_PRESENT, retriever_pb2.PRESENCE_PENDING
UNCOVERED = retriever_pb2.PRESENCE_UNCOVERED
READY, LOADING = generations_pb2.GENERATION_STATE_READY, generations_pb2.GENERATION_STATE_LOADING
INDEXED = admin_pb2.WAIT_INDEXED
_Context = grpc.ServicerContext
DIM, SHORT = 8, 4


def sealed(path: Path, behaviour: str = "", topics: str = "", content: str = "c1") -> Bundle:
    """A bundle whose models are never opened here."""
    encoder = EncoderManifest(DIM, 32, content, ("latin",), TextTemplate())
    ranker = RankerManifest(SHORT, 8, behaviour, content, (), {}) if behaviour else None
    coldstart = ColdstartManifest(topics, content, ("tea",)) if topics else None
    files = [encoder.model, encoder.tokenizer]
    if ranker is not None:
        files += ranker.files
    for name in [*files, "coldstart/topics.npz"]:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("not opened")
    return write_bundle(path, Manifest(encoder, "now", ranker=ranker, coldstart=coldstart))


class Embedder(embedder_pb2_grpc.EmbedderServicer):
    """A vector of the letters of a title; none of one in Chinese."""

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def GetInfo(self, request: embedder_pb2.GetInfoRequest, context: _Context) -> embedder_pb2.GetInfoResponse:
        return embedder_pb2.GetInfoResponse(max_batch=64)

    def Embed(self, request: embedder_pb2.EmbedRequest, context: _Context) -> embedder_pb2.EmbedResponse:
        titles = [each.item.title for each in request.inputs]
        self.embedded += titles
        vectors = np.ones((len(titles), DIM), np.float32)
        for vector, title in zip(vectors, titles, strict=True):
            np.add.at(vector, [ord(letter) % DIM for letter in title], 1)
        return embedder_pb2.EmbedResponse(
            vectors=pack_matrix(vectors),
            readings=[embedder_pb2.Reading(covered=title.isascii()) for title in titles],
            space_version="c1",
        )


class Coldstart(coldstart_pb2_grpc.ColdstartServicer):
    """Behaviour vectors of the first numbers of content, for the generations loaded (their behaviour space)."""

    def __init__(self) -> None:
        self.away = False
        self.loaded: dict[str, str] = {}
        self.told: list[coldstart_pb2.ProfileItemRequest] = []

    def ProfileItems(
        self, request: coldstart_pb2.ProfileItemsRequest, context: _Context
    ) -> coldstart_pb2.ProfileItemsResponse:
        if self.away:
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if request.generation not in self.loaded:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not loaded")
        answer = coldstart_pb2.ProfileItemsResponse(behaviour_space_version=self.loaded[request.generation])
        for each in request.items:
            content = each.content if each.HasField("content") else None
            self.told.append(
                coldstart_pb2.ProfileItemRequest(item=each.item, content=content, generation=request.generation)
            )
            profile = answer.items.add()
            if content is not None and self.loaded[request.generation]:
                profile.behaviour.CopyFrom(pack_vector(unpack_vector(content)[:SHORT]))
        return answer

    def load(self, bundle: Bundle) -> None:
        ranker = bundle.manifest.ranker
        self.loaded[bundle.generation] = "" if ranker is None else ranker.space_version

    def ids(self, bundle: Bundle) -> list[str]:
        """Items told for a generation, in order of their ids."""
        return sorted(request.item.id for request in self.told if request.generation == bundle.generation)


class Shop:
    """Both of them on ports of their own, and retrievers beside them."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self.embedder, self.coldstart = Embedder(), Coldstart()  # type: ignore[abstract]  # What retrievers call.
        self._stack, self._path = stack, path
        server = grpc.server(futures.ThreadPoolExecutor(8))
        stack.callback(lambda: server.stop(None).wait())
        embedder_pb2_grpc.add_EmbedderServicer_to_server(self.embedder, server)
        coldstart_pb2_grpc.add_ColdstartServicer_to_server(self.coldstart, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()

    def bundle(self, name: str, **spaces: str) -> Bundle:
        """A bundle that coldstart has loaded."""
        made = sealed(self._path / name, **spaces)
        self.coldstart.load(made)
        return made

    def retriever(self, bundle: Bundle, data: str = "data", **settings: Any) -> Retriever:
        """A retriever, by default with a coldstart, until the test ends or it is left."""
        own = {"embedder": self.address, "coldstart": self.address, **settings}
        settings = {name: value for name, value in own.items() if value is not None}
        return self._stack.enter_context(Retriever(bundle.path, self._path / data, **settings))


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Shop]:
    with ExitStack() as stack:
        yield Shop(stack, tmp_path)


def vectors(retriever: Retriever, *ids: str, version: str = "") -> retriever_pb2.GetVectorsResponse:
    request = retriever_pb2.GetVectorsRequest(item_ids=ids, space=BEHAVIOUR, space_version=version)
    return retriever.reads.GetVectors(request, timeout=30)


def like(item_id: str) -> retriever_pb2.Leg:
    return retriever_pb2.Leg(name="i", item=retriever_pb2.ItemLeg(space=BEHAVIOUR, item_id=item_id))


def prepare(retriever: Retriever, bundle: Bundle, seconds: float = 60) -> generations_pb2.Generation:
    request = generations_pb2.PrepareRequest(bundle=str(bundle.path))
    return retriever.generations.Prepare(request, timeout=seconds).generation


def listed(retriever: Retriever, bundle: Bundle) -> generations_pb2.Generation:
    answer = retriever.generations.ListGenerations(generations_pb2.ListGenerationsRequest(), timeout=30)
    (found,) = (entry for entry in answer.generations if entry.generation == bundle.generation)
    return found


def streamed(retriever: Retriever) -> dict[str, int]:
    """How many vectors of each version the retriever tells its followers of."""
    made = [c.vector.space_version for c in retriever.changes() if c.WhichOneof("change") == "vector"]
    return {version: made.count(version) for version in set(made)}


def test_an_item_is_found_in_both_spaces(two: Shop) -> None:
    retriever = two.retriever(two.bundle("g1", behaviour="b1"))
    retriever.upsert(*shop(40), item("red", "红色男士运动鞋"), wait=INDEXED, seconds=60)
    answer = vectors(retriever, "i1", "i2", "red")
    assert list(answer.presence) == [PRESENT, PRESENT, UNCOVERED]
    assert answer.space_version == "b1"
    content = unpack_matrix(retriever.vectors("i1").vectors)[0, :SHORT]
    rows: Float32 = unpack_matrix(answer.vectors)
    assert rows.shape == (3, SHORT)
    assert np.allclose(rows[0], content / np.linalg.norm(content), atol=1e-6)
    near = retriever.find(like("i1"), k=50)
    assert len(near) == 39
    leg = retriever_pb2.Leg(name="v", vector=retriever_pb2.VectorLeg(space=BEHAVIOUR, vector=pack_vector(rows[0])))
    assert [found for found in retriever.find(leg, k=50) if found != "i1"] == near
    info = retriever.info()
    assert [(e.space.space, e.space.dim, e.pending, e.uncovered) for e in info.indexes] == [
        (CONTENT, DIM, 0, 1),
        (BEHAVIOUR, SHORT, 0, 1),
    ]
    assert streamed(retriever) == {"c1": 41, "b1": 41}
    # All is there again at once after a clean end, and after none.
    for kill in (False, True):
        if kill:
            retriever.process.kill()
        else:
            retriever.process.stop()
        retriever = two.retriever(two.bundle("g1", behaviour="b1"))
        assert retriever.find(like("i1"), k=50) == near
        assert retriever.info().indexes[1].pending == 0
    assert two.coldstart.ids(two.bundle("g1", behaviour="b1")) == sorted(["red", *(each.id for each in shop(40))])


def test_a_ranker_trained_anew_embeds_nothing_anew(two: Shop) -> None:
    old = two.bundle("g1", behaviour="b1", topics="t1")
    retriever = two.retriever(old)
    retriever.upsert(*shop(40), wait=INDEXED, seconds=60)
    embedded, near = len(two.embedder.embedded), retriever.find(like("i1"), k=50)
    new = sealed(two._path / "g2", behaviour="b2", topics="t1")
    with pytest.raises(grpc.RpcError):
        prepare(retriever, new, seconds=1)  # Coldstart does not hold it yet.
    state = listed(retriever, new)
    assert (state.state, state.pending_items) == (LOADING, 40)
    two.coldstart.load(new)
    assert (prepare(retriever, new).state, listed(retriever, new).pending_items) == (READY, 0)
    assert len(two.embedder.embedded) == embedded
    assert two.coldstart.ids(new) == two.coldstart.ids(old) == sorted(each.id for each in shop(40))
    # Each generation answers in its own space until it is let go of.
    assert vectors(retriever, "i1").space_version == "b1"
    assert list(vectors(retriever, "i1", version="b2").presence) == [PRESENT]
    retriever.generations.Switch(generations_pb2.SwitchRequest(generation=new.generation), timeout=30)
    assert vectors(retriever, "i1").space_version == "b2"
    assert retriever.find(like("i1"), k=50) == near
    retriever.upsert(item("late", "Written for both"), wait=INDEXED)
    until(lambda: "late" in two.coldstart.ids(old), "told for the other generation too")
    retriever.generations.Retire(generations_pb2.RetireRequest(generation=old.generation), timeout=30)
    until(lambda: streamed(retriever) == {"c1": 41, "b2": 41}, "the old behaviour vectors are gone")
    # Heads trained anew in the same spaces: there is nothing to make and nothing to tell.
    (two._path / "g3/heads").mkdir(parents=True)
    (two._path / "g3/heads/new").write_text("other heads")
    told = len(two.coldstart.told)
    assert prepare(retriever, two.bundle("g3", behaviour="b2", topics="t1")).state == READY
    assert (len(two.coldstart.told), len(two.embedder.embedded)) == (told, embedded + 1)
    # What was let go of is made anew when it comes back.
    retriever.generations.Retire(
        generations_pb2.RetireRequest(generation=two.bundle("g3", behaviour="b2", topics="t1").generation), timeout=30
    )
    assert prepare(retriever, old).state == READY
    assert len(two.coldstart.ids(old)) == 41 + 41


def test_a_coldstart_that_is_away_holds_up_nothing_else(two: Shop) -> None:
    bundle = two.bundle("g1", behaviour="b1")
    two.coldstart.away = True
    retriever = two.retriever(bundle)
    retriever.upsert(*shop(30))
    assert len(retriever.words("kettle")) == 5
    until(lambda: set(retriever.vectors(*(each.id for each in shop(30))).presence) == {PRESENT}, "content vectors")
    assert len(retriever.near("i1", 40)) == 29
    assert listed(retriever, bundle).pending_items == 30
    assert list(vectors(retriever, "i1").presence) == [PENDING]
    with pytest.raises(grpc.RpcError) as ended:
        retriever.upsert(item("x", "Waits for both"), wait=INDEXED, seconds=2)
    assert ended.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert list(retriever.vectors("x").presence) == [PRESENT]
    two.coldstart.away = False
    until(lambda: not listed(retriever, bundle).pending_items, "behaviour vectors")
    retriever.upsert(item("y", "Has both"), wait=INDEXED)
    assert len(retriever.find(like("y"), k=50)) == 31


def test_coldstart_hears_of_price_and_stock(two: Shop) -> None:
    retriever = two.retriever(two.bundle("g1", behaviour="b1"))
    retriever.upsert(item("a", "Garden chair", 1, price=10.0, currency="EUR"), wait=INDEXED)
    retriever.upsert(item("a", "Garden chair", 2, price=12.0, currency="EUR", stock=0), wait=INDEXED)
    answer = vectors(retriever, "a")
    assert (list(answer.presence), list(answer.revisions)) == ([PRESENT], [2])
    until(lambda: len(two.coldstart.told) == 2, "told again")
    told = two.coldstart.told[-1]
    assert (told.item.revision, told.item.price, told.item.stock, told.HasField("content")) == (2, 12, 0, True)
    assert len(two.embedder.embedded) == 1
    retriever.upsert(item("a", "Garden table", 3, price=12.0, currency="EUR"), wait=INDEXED)
    assert vectors(retriever, "a").revisions[0] == 3
    assert len(two.embedder.embedded) == 2


def test_without_a_ranker_every_item_is_told_for_every_generation(two: Shop) -> None:
    first, second = two.bundle("g1"), two.bundle("g2", topics="t1")
    retriever = two.retriever(first)
    retriever.upsert(*shop(20), wait=INDEXED)
    until(lambda: len(two.coldstart.ids(first)) == 20, "told")
    assert prepare(retriever, second).state == READY
    until(lambda: len(two.coldstart.ids(second)) == 20, "told for the other generation")
    assert streamed(retriever) == {"c1": 20}
    retriever.process.stop()
    again = two.retriever(first)
    again.upsert(item("new", "After the restart"), wait=INDEXED)
    until(lambda: "new" in two.coldstart.ids(first), "told")
    assert len(two.coldstart.told) == 41


def test_without_a_coldstart_content_is_served_alone(two: Shop) -> None:
    bundle = two.bundle("g1", behaviour="b1")
    retriever = two.retriever(bundle, coldstart=None)
    retriever.upsert(*shop(10), wait=INDEXED)
    assert len(retriever.near("i1", 20)) == 9
    assert [e.space.space for e in retriever.info().indexes] == [CONTENT]
    for call in (lambda: retriever.find(like("i1")), lambda: vectors(retriever, "i1")):
        with pytest.raises(grpc.RpcError) as refused:
            call()
        assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "SPACE_BEHAVIOUR is not loaded" in (refused.value.details() or "")
    state = listed(retriever, bundle)
    assert (state.state, state.pending_items) == (READY, 0)
    assert "SOUK_RETRIEVER_COLDSTART is not set" in state.message
    assert retriever.process.log().count("SOUK_RETRIEVER_COLDSTART is not set") == 1
    retriever.process.stop()
    # Given one, it catches up; without it again, what it made is not served and is still there later.
    with_one = two.retriever(bundle)
    until(lambda: not listed(with_one, bundle).pending_items, "behaviour vectors")
    near = with_one.find(like("i1"))
    with_one.process.stop()
    without = two.retriever(bundle, coldstart=None)
    assert [e.space.space for e in without.info().indexes] == [CONTENT]
    without.process.stop()
    two.coldstart.away = True
    assert two.retriever(bundle).find(like("i1")) == near


def test_a_follower_has_the_behaviour_vectors_of_its_primary(two: Shop) -> None:
    bundle = two.bundle("g1", behaviour="b1")
    primary = two.retriever(bundle)
    primary.upsert(*shop(30), wait=INDEXED)
    follower = two.retriever(bundle, "follower", embedder=NOWHERE, coldstart=None, primary=primary.address)
    assert listed(follower, bundle).message == ""
    primary.upsert(item("i1", shop(2)[1].title, 2, price=3.0, currency="EUR"), item("new", "New lamp"), wait=INDEXED)
    until(lambda: len(two.coldstart.told) == 32, "told of both")
    head = primary.info().sequence
    until(lambda: follower.info().sequence >= head, "the follower is level")
    assert follower.changes() == primary.changes()
    assert vectors(follower, "i1", "new") == vectors(primary, "i1", "new")
    assert follower.find(like("i2"), k=50) == primary.find(like("i2"), k=50)
    # One that begins with a new ranker has its vectors from the primary, too.
    new = two.bundle("g2", behaviour="b2")
    with pytest.raises(grpc.RpcError):
        prepare(follower, new, seconds=1)
    assert prepare(primary, new).state == READY
    assert prepare(follower, new).state == READY
    assert vectors(follower, "i1", version="b2") == vectors(primary, "i1", version="b2")


def test_beside_a_real_embedder_and_a_real_coldstart(bundle: Path, tmp_path: Path) -> None:
    """Known items have the vectors they were trained to, new ones that of their content."""
    path = tmp_path / "bundle"
    copytree(bundle, path)
    (path / MANIFEST).unlink()
    manifest = read_bundle(bundle).manifest
    encoder = manifest.encoder
    ranker = RankerManifest(SHORT, 8, "b" * 64, encoder.space_version, (), {})
    topics = ColdstartManifest("t" * 64, encoder.space_version, ("tea", "tools"))
    for name in (ranker.shopper_model, ranker.heads_model, topics.topics):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("not opened")
    random = np.random.default_rng(1)
    projection = random.standard_normal((encoder.dim, SHORT)).astype(np.float32)
    known = np.array([[0.6, 0.8, 0, 0]], np.float32)
    np.savez(path / ranker.items, ids=np.array(["i3"]), vectors=known)
    np.savez(path / "ranker/projection.npz", W=projection, b=np.zeros(SHORT, np.float32))
    np.savez(path / topics.topics, W=np.zeros((2, encoder.dim), np.float32), b=np.zeros(2, np.float32))
    write_bundle(path, replace(manifest, ranker=ranker, coldstart=topics))
    with (
        spawn("services.embedder", bundle=path) as embedder,
        spawn("services.coldstart", bundle=path, data=tmp_path / "coldstart") as coldstart,
        Retriever(path, tmp_path / "data", embedder.address, coldstart=coldstart.address) as retriever,
    ):
        retriever.upsert(*shop(60), item("red", "红色男士运动鞋"), wait=INDEXED, seconds=120)
        answer = vectors(retriever, "i3", "i4", "red")
        assert list(answer.presence) == [PRESENT, PRESENT, UNCOVERED]
        rows = unpack_matrix(answer.vectors)
        assert np.allclose(rows[0], known[0], atol=1e-6)
        guess = unpack_matrix(retriever.vectors("i4").vectors)[0] @ projection
        assert np.allclose(rows[1], guess / np.linalg.norm(guess), atol=1e-5)
        assert len(retriever.find(like("i3"), k=100)) == 59
