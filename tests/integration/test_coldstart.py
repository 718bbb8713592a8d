"""Coldstart as a real process: events in, contexts and candidates out, generations, forgetting, a Redis that fails."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import redis

from services.coldstart.log import FILE
from services.domain.bundle import Bundle, ColdstartManifest, EncoderManifest, Manifest, RankerManifest, write_bundle
from services.domain.text import TextTemplate
from souk.coldstart.v1 import coldstart_pb2, coldstart_pb2_grpc
from souk.types.v1 import generations_pb2, generations_pb2_grpc, types_pb2
from souk.vectors import pack_vector, unpack_vector
from tests.conftest import OwnRedis
from tests.integration.processes import NOT_SERVING, Process, spawn
from tests.integration.shops import until
from tests.unit.coldstart.making import CLICK, PURCHASE, TOPICS, VIEW, event, item, towards

DIM = 8
HOME = types_pb2.SCENE_HOME


def make_bundle(path: Path, content: str = "content-1", trained: bool = True, created_at: str = "now") -> Bundle:
    """A sealed bundle whose topic n is the n-th content dimension; no model in it is ever opened here."""
    for name in ("encoder/model.onnx", "encoder/tokenizer.json", "ranker/shopper.onnx", "ranker/heads.onnx"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"not opened")
    encoder = EncoderManifest(DIM, 32, content, ("latin",), TextTemplate())
    if not trained:
        return write_bundle(path, Manifest(encoder, created_at))
    (path / "coldstart").mkdir(exist_ok=True)
    np.savez(path / "coldstart/topics.npz", W=8 * np.eye(3, DIM, dtype=np.float32), b=np.zeros(3, np.float32))
    np.savez(path / "ranker/projection.npz", W=np.eye(DIM, 4, dtype=np.float32), b=np.zeros(4, np.float32))
    known = np.array([[0, 0, 0.6, 0.8]], np.float32)
    np.savez(path / "ranker/items.npz", ids=np.array(["trained"]), vectors=known)
    ranker = RankerManifest(4, 50, "behaviour-1", content, (), {})
    topics = ColdstartManifest("topics-1", content, TOPICS)
    return write_bundle(path, Manifest(encoder, created_at, ranker=ranker, coldstart=topics))


class Coldstart:
    """A coldstart process of its own, with stubs."""

    def __init__(self, bundle: Path, data: Path, **settings: object) -> None:
        self.process: Process = spawn("services.coldstart", bundle=bundle, coldstart_data=data, **settings)
        self._channel = grpc.insecure_channel(self.process.address)
        self.stub: Any = coldstart_pb2_grpc.ColdstartStub(self._channel)
        self.generations: Any = generations_pb2_grpc.GenerationsStub(self._channel)

    def record(self, *events: types_pb2.Event) -> coldstart_pb2.RecordEventsResponse:
        answer: coldstart_pb2.RecordEventsResponse = self.stub.RecordEvents(
            coldstart_pb2.RecordEventsRequest(events=events), timeout=20
        )
        return answer

    def context(self, shopper: str = "s", **attributes: str) -> coldstart_pb2.ShopperContext:
        told = [types_pb2.Attribute(name=name, values=[value]) for name, value in attributes.items()]
        request = coldstart_pb2.GetShopperContextRequest(shopper_id=shopper, attributes=told)
        context: coldstart_pb2.ShopperContext = self.stub.GetShopperContext(request, timeout=20).context
        return context

    def candidates(
        self, told: coldstart_pb2.ShopperContext, scene: types_pb2.Scene.ValueType = HOME, **fields: Any
    ) -> coldstart_pb2.CandidatesResponse:
        request = coldstart_pb2.CandidatesRequest(context=told, scene=scene, **fields)
        answer: coldstart_pb2.CandidatesResponse = self.stub.Candidates(request, timeout=20)
        return answer

    def profile(self, made: types_pb2.Item, topic: int, seed: int = 0, **fields: Any) -> Any:
        request = coldstart_pb2.ProfileItemRequest(
            item=made, **{"content": pack_vector(towards(topic, seed)), "content_space_version": "content-1", **fields}
        )
        return self.stub.ProfileItem(request, timeout=20)

    def info(self) -> coldstart_pb2.GetInfoResponse:
        info: coldstart_pb2.GetInfoResponse = self.stub.GetInfo(coldstart_pb2.GetInfoRequest(), timeout=20)
        return info

    def entries(self, after: int = 0) -> list[coldstart_pb2.LogEntry]:
        stream = self.stub.StreamLog(coldstart_pb2.StreamLogRequest(from_sequence=after), timeout=60)
        return [entry for response in stream for entry in response.entries]

    def parts(self, shopper: str) -> list[coldstart_pb2.GetShopperResponse]:
        return list(self.stub.GetShopper(coldstart_pb2.GetShopperRequest(shopper_id=shopper), timeout=20))

    def __enter__(self) -> "Coldstart":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self.process.__exit__(None, None, None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle")).path


@pytest.fixture
def coldstart(made: Path, tmp_path: Path, redis_url: str) -> Iterator[Coldstart]:
    with Coldstart(made, tmp_path / "data", redis_url=redis_url) as coldstart:
        yield coldstart


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code(), error.details()


def test_events_make_a_stranger_known(coldstart: Coldstart) -> None:
    for topic, name in enumerate(TOPICS):
        for n in range(4):
            coldstart.profile(item(f"{name}-{n}", name.title()), topic, n)
    cold = coldstart.context(country="GB")
    assert (cold.stage, list(cold.attributes[0].values)) == (types_pb2.STAGE_COLD, ["GB"])
    assert [leg.name for leg in coldstart.candidates(cold).vectors] == []
    stages = []
    for n in range(5):
        coldstart.record(event(f"e{n}", item=f"tea-{n % 4}"))
        told = coldstart.context()
        assert len(told.history) == n + 1
        stages.append(told.stage)
    assert stages == [types_pb2.STAGE_WARM] * 4 + [types_pb2.STAGE_HOT]
    assert (told.topics[0].label, list(told.attributes[0].values)) == ("tea", ["GB"])
    answer = coldstart.candidates(told)
    assert {leg.name for leg in answer.vectors} == {"profile"}
    assert unpack_vector(answer.vectors[0].vector) @ towards(2) > 0.9
    assert answer.policy.startswith("hot-home-v1")
    assert answer.generation == coldstart.info().generation
    until(lambda: bool(coldstart.candidates(coldstart.context("stranger")).lists))


def test_an_item_is_profiled_by_the_formulas_of_the_bundle(coldstart: Coldstart) -> None:
    answer = coldstart.profile(item("a", "Lamps"), 1)
    content = towards(1)
    assert answer.topics[0].label == "lamps"
    assert unpack_vector(answer.topic).sum() == pytest.approx(1, abs=1e-5)
    assert (answer.topic_space_version, answer.behaviour_space_version) == ("topics-1", "behaviour-1")
    expected = content[:4] / np.linalg.norm(content[:4])
    assert unpack_vector(answer.behaviour) == pytest.approx(expected, abs=1e-6)
    assert unpack_vector(coldstart.profile(item("trained"), 0).behaviour) == pytest.approx([0, 0, 0.6, 0.8])
    unread = coldstart.profile(item("unread"), 0, content=None)
    assert (len(unread.topics), unread.HasField("behaviour")) == (0, False)
    wrong = refused(lambda: coldstart.profile(item("a"), 1, content_space_version="content-9"))
    assert wrong[0] is grpc.StatusCode.FAILED_PRECONDITION
    short = pack_vector(np.ones(3, np.float32))
    assert refused(lambda: coldstart.profile(item("a"), 1, content=short)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "content.dim: 3; this space has 8",
    )


def test_many_items_are_profiled_as_each_would_be_and_a_malformed_one_stops_no_other(coldstart: Coldstart) -> None:
    lamp, unread, tea = item("lamp", "Lamps"), item("unread"), item("tea", "Tea")
    short = pack_vector(np.ones(3, np.float32))
    told = [
        coldstart_pb2.ToProfile(item=lamp, content=pack_vector(towards(1))),
        coldstart_pb2.ToProfile(item=types_pb2.Item(title="nameless")),
        coldstart_pb2.ToProfile(item=unread),
        coldstart_pb2.ToProfile(item=tea, content=short),
    ]

    def profiles(items: list[coldstart_pb2.ToProfile], space: str = "content-1") -> coldstart_pb2.ProfileItemsResponse:
        request = coldstart_pb2.ProfileItemsRequest(items=items, content_space_version=space)
        answer: coldstart_pb2.ProfileItemsResponse = coldstart.stub.ProfileItems(request, timeout=20)
        return answer

    coldstart.record(event("e1", item="lamp"), event("e2", item="tea"))
    answer = profiles(told)
    assert [one.refused for one in answer.items] == [
        "",
        "item.id: is empty",
        "",
        "content.dim: 3; this space has 8",
    ]
    assert coldstart.info().unknown_item_events == 1
    alone = coldstart.profile(lamp, 1)
    assert (answer.topic_space_version, answer.behaviour_space_version) == ("topics-1", "behaviour-1")
    assert answer.items[0].topics == alone.topics
    assert (answer.items[0].topic, answer.items[0].behaviour) == (alone.topic, alone.behaviour)
    assert not answer.items[2].HasField("behaviour")
    assert refused(lambda: profiles(told, "content-9"))[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert refused(lambda: profiles([])) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "items: holds 0; it must hold 1 to 256",
    )
    assert refused(lambda: profiles(257 * [told[0]]))[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_events_for_items_to_come_are_counted_and_joined(coldstart: Coldstart) -> None:
    answer = coldstart.record(event("e1", item="soon"), event("e2", item="soon"), event("e1", item="other"))
    assert (answer.accepted, answer.duplicates, answer.unknown_items) == (2, 1, 2)
    assert coldstart.info().unknown_item_events == 2
    assert not coldstart.context().HasField("profile")
    coldstart.profile(item("soon", "Tea"), 2)
    assert coldstart.info().unknown_item_events == 0
    assert coldstart.context().topics[0].label == "tea"


def test_malformed_requests_write_nothing_and_name_the_field(coldstart: Coldstart) -> None:
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert refused(lambda: coldstart.record(event("a"), event("b", item=""))) == (
        invalid,
        "events[1].item_id: is empty",
    )
    impression = types_pb2.Impression(request_id="r", items=[types_pb2.ImpressionItem(item_id="a", propensity=0)])
    request = coldstart_pb2.RecordImpressionsRequest(impressions=[impression])
    assert refused(lambda: coldstart.stub.RecordImpressions(request))[0] is invalid
    assert refused(lambda: coldstart.context("")) == (invalid, "shopper_id: is empty")
    assert refused(lambda: coldstart.entries(after=1)) == (
        invalid,
        "from_sequence: 1 is ahead of this log, whose last entry is 0: it is another log's; start from 0",
    )
    assert refused(lambda: coldstart.candidates(coldstart.context(), generation="x"))[0] is invalid
    unknown = refused(lambda: coldstart.candidates(coldstart.context(), generation="0" * 64))
    assert unknown[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert refused(lambda: coldstart.parts("nobody"))[0] is grpc.StatusCode.NOT_FOUND
    questions = coldstart_pb2.OnboardingQuestionsRequest(k=11)
    assert refused(lambda: coldstart.stub.OnboardingQuestions(questions)) == (invalid, "k: 11; it must be 1 to 10")
    info = coldstart.info()
    assert (info.events, info.impressions, info.shoppers) == (0, 0, 0)


def test_a_shopper_sees_all_that_is_held_and_is_forgotten_whole(
    made: Path, tmp_path: Path, own_redis: OwnRedis
) -> None:
    direct = redis.Redis.from_url(own_redis.url)
    with Coldstart(made, tmp_path / "data", redis_url=own_redis.url) as coldstart:
        coldstart.context("gone", country="country-of-gone")
        coldstart.record(*(event(f"gone-{n}", "gone", f"thing-of-gone-{n}") for n in range(700)), event("kept", "kept"))
        shown = types_pb2.ImpressionItem(item_id="a", position=0, score=1, propensity=0.25)
        impression = types_pb2.Impression(request_id="seen-by-gone", shopper_id="gone", items=[shown])
        request = coldstart_pb2.RecordImpressionsRequest(impressions=[impression])
        assert coldstart.stub.RecordImpressions(request).accepted == 1
        assert coldstart.stub.RecordImpressions(request).duplicates == 1
        coldstart.context("gone")
        parts = coldstart.parts("gone")
        kinds = [part.WhichOneof("part") for part in parts]
        assert kinds == ["shopper", "context"] + ["event"] * 700 + ["impression"]
        assert parts[0].shopper.attributes[0].values == ["country-of-gone"]
        assert parts[1].context.history[-1].item_id == "thing-of-gone-699"
        assert parts[-1].impression.items[0].propensity == 0.25
        until(lambda: any(b"thing-of-gone" in (value or b"") for value in values(direct)))

        answer = coldstart.stub.ForgetShopper(coldstart_pb2.ForgetShopperRequest(shopper_id="gone"), timeout=20)
        assert (answer.events, answer.impressions) == (700, 1)
        assert refused(lambda: coldstart.parts("gone"))[0] is grpc.StatusCode.NOT_FOUND
        assert coldstart.context("gone").stage == types_pb2.STAGE_COLD
        assert not any(b"gone" in (value or b"") for value in values(direct))
        entries = coldstart.entries()
        assert [entry.WhichOneof("entry") for entry in entries] == ["event", "forgotten_shopper_id"]

        def traces() -> list[bytes]:
            content = b"".join(file.read_bytes() for file in (tmp_path / "data").iterdir())
            return [trace for trace in (b"thing-of-gone", b"country-of-gone", b"seen-by-gone") if trace in content]

        until(lambda: traces() == [])
        assert coldstart.info().events == 1


def values(direct: redis.Redis) -> list[bytes | None]:
    keys: Any = direct.keys()
    found: Any = direct.mget(keys) if keys else []
    return list(found)


def test_the_log_is_streamed_whole_and_from_any_point(coldstart: Coldstart) -> None:
    for batch in range(3):
        coldstart.record(*(event(f"{batch}-{n}", f"s{n % 3}") for n in range(900)))
    entries = coldstart.entries()
    sequences = [entry.sequence for entry in entries]
    assert len(entries) == 2_700
    assert sequences == sorted(set(sequences))
    assert coldstart.entries(sequences[1_500]) == entries[1_501:]
    assert coldstart.entries(sequences[-1]) == []


def test_questions_stand_for_items_and_answers_make_a_profile(coldstart: Coldstart) -> None:
    for topic, name in enumerate(TOPICS):
        for n in range(6):
            coldstart.profile(item(f"{name}-{n}", name.title(), popularity=n), topic, n)
    request = coldstart_pb2.OnboardingQuestionsRequest(k=3)
    until(lambda: len(coldstart.stub.OnboardingQuestions(request).questions) > 0)
    question = coldstart.stub.OnboardingQuestions(request).questions[0]
    assert question.question_id == "category"
    chosen = next(choice for choice in question.choices if choice.text == "Lamps")
    coldstart.record(*(event(f"answer {name}", item=name, kind=CLICK) for name in chosen.item_ids))
    assert coldstart.context().topics[0].label == "lamps"


def test_a_page_explores_new_items_with_the_probability_it_tells(coldstart: Coldstart) -> None:
    for n in range(5):
        new = types_pb2.Item(id=f"new-{n}", revision=1, title="New", category_path=["Tea"])
        new.created_at.GetCurrentTime()
        coldstart.profile(new, 2, n)
    told = coldstart.context()
    until(lambda: bool(coldstart.candidates(told).explorations))
    drawn = {slot.item_id: slot.propensity for _ in range(60) for slot in coldstart.candidates(told).explorations}
    assert set(drawn) == {f"new-{n}" for n in range(5)}
    assert sum(drawn.values()) == pytest.approx(1, abs=1e-5)


def test_generations_change_under_traffic(made: Path, tmp_path: Path, coldstart: Coldstart) -> None:
    coldstart.profile(item("a", "Tea"), 2)
    coldstart.record(event("e", item="a"))
    told = coldstart.context()
    first = coldstart.info().generation
    following = make_bundle(tmp_path / "next", created_at="later")
    search_alone = make_bundle(tmp_path / "search", trained=False)
    prepare = generations_pb2.PrepareRequest(bundle=str(following.path), generation=following.generation)
    assert coldstart.generations.Prepare(prepare, timeout=20).generation.generation == following.generation
    assert coldstart.candidates(told).generation == first
    assert coldstart.candidates(told, generation=following.generation).generation == following.generation
    coldstart.generations.Switch(generations_pb2.SwitchRequest(generation=following.generation))
    assert coldstart.candidates(told).generation == following.generation
    assert coldstart.context().topics == told.topics
    coldstart.generations.Retire(generations_pb2.RetireRequest(generation=first))
    gone = refused(lambda: coldstart.candidates(told, generation=first))
    assert gone[0] is grpc.StatusCode.FAILED_PRECONDITION
    # A bundle made before coldstart was trained: no topics, the dense profile alone.
    prepare = generations_pb2.PrepareRequest(bundle=str(search_alone.path))
    coldstart.generations.Prepare(prepare, timeout=20)
    coldstart.generations.Switch(generations_pb2.SwitchRequest(generation=search_alone.generation))
    told = coldstart.context()
    assert (len(told.topics), told.HasField("profile")) == (0, True)
    assert not coldstart.info().HasField("topics")
    assert not coldstart.profile(item("b"), 0).topics
    damaged = make_bundle(tmp_path / "damaged")
    (damaged.path / "coldstart/topics.npz").write_bytes(b"damaged")
    prepare = generations_pb2.PrepareRequest(bundle=str(damaged.path))
    coldstart.generations.Retire(generations_pb2.RetireRequest(generation=following.generation))
    failed = refused(lambda: coldstart.generations.Prepare(prepare, timeout=20))
    assert failed[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert "topics.npz" in failed[1]


def test_the_vectors_of_a_space_go_with_its_last_generation(tmp_path: Path, coldstart: Coldstart) -> None:
    first = coldstart.info().generation
    coldstart.profile(item("a", "Tea"), 2)
    same = make_bundle(tmp_path / "same", created_at="later")
    other = make_bundle(tmp_path / "other", content="content-2")
    coldstart.generations.Prepare(generations_pb2.PrepareRequest(bundle=str(same.path)), timeout=20)
    coldstart.generations.Switch(generations_pb2.SwitchRequest(generation=same.generation))
    coldstart.generations.Retire(generations_pb2.RetireRequest(generation=first), timeout=20)
    assert spaces(tmp_path / "data") == ["content-1"]
    coldstart.generations.Prepare(generations_pb2.PrepareRequest(bundle=str(other.path)), timeout=20)
    coldstart.profile(item("a", "Tea"), 2, content_space_version="content-2", generation=other.generation)
    assert spaces(tmp_path / "data") == ["content-1", "content-2"]
    coldstart.generations.Switch(generations_pb2.SwitchRequest(generation=other.generation))
    coldstart.generations.Retire(generations_pb2.RetireRequest(generation=same.generation), timeout=20)
    until(lambda: spaces(tmp_path / "data") == ["content-2"])
    assert coldstart.process.stop() == 0
    assert spaces(tmp_path / "data") == ["content-2"]


def spaces(data: Path) -> list[str]:
    with closing(sqlite3.connect(data / FILE)) as db:
        return [space for (space,) in db.execute("SELECT DISTINCT space FROM vectors ORDER BY space")]


def test_redis_dies_and_stalls_and_no_answer_is_lost_or_old(made: Path, tmp_path: Path, own_redis: OwnRedis) -> None:
    with Coldstart(made, tmp_path / "data", redis_url=own_redis.url) as coldstart:

        def write_and_read(n: int) -> None:
            coldstart.record(event(f"e{n}", item=f"i{n}", kind=VIEW))
            assert [each.item_id for each in coldstart.context().history] == [f"i{m}" for m in range(n + 1)]

        write_and_read(0)
        with own_redis.stop_cont():
            write_and_read(1)
            write_and_read(2)
        own_redis.kill()
        write_and_read(3)
        own_redis.revive()
        write_and_read(4)
        write_and_read(5)


def test_a_restart_keeps_all_and_a_drain_is_clean(made: Path, tmp_path: Path) -> None:
    with Coldstart(made, tmp_path / "data") as coldstart:
        coldstart.profile(item("a", "Tea"), 2)
        coldstart.record(event("e", item="a", kind=PURCHASE))
        told, info, entries = coldstart.context(), coldstart.info(), coldstart.entries()
        assert coldstart.process.stop() == 0
    with Coldstart(made, tmp_path / "data") as coldstart:
        assert (coldstart.context(), coldstart.info(), coldstart.entries()) == (told, info, entries)


def test_health_turns_false_when_the_log_is_gone(made: Path, tmp_path: Path) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with Coldstart(made, tmp_path / "data") as coldstart:
        for file in (tmp_path / "data").glob("coldstart.sqlite3*"):
            file.unlink()
        with grpc.insecure_channel(coldstart.process.address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            until(lambda: health.Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING)


def test_a_second_process_on_the_same_log_does_not_start(made: Path, tmp_path: Path, coldstart: Coldstart) -> None:
    with Process("services.coldstart", bundle=made, coldstart_data=tmp_path / "data") as second:
        assert second.wait() == 1
        assert "SOUK_COLDSTART_DATA" in second.log()
