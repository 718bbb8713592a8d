"""People decide of items through real processes: the next answer obeys, restarts forget nothing, slips are refused."""

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner, Result

from souk import filters
from souk.cli import app
from souk.coldstart.v1 import review_pb2
from souk.types.v1 import types_pb2
from tests.integration.shops import Shop, until
from tests.integration.test_gateway import code_of, goods, ids

HOME = types_pb2.SCENE_HOME


@pytest.fixture(scope="module")
def shop(bundle: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with Shop(bundle, tmp_path_factory.mktemp("shop"), redis_url, coldstart=True) as one:
        one.fill(goods())
        yield one


def decide(shop: Shop, verdict: review_pb2.Verdict.ValueType, item: str = "", **fields: Any) -> review_pb2.Decision:
    made = review_pb2.Decision(who="ann", why="a test", verdict=verdict, item_id=item, **fields)
    return shop.client.decide(made)


def review(shop: Shop, *arguments: str) -> Result:
    return CliRunner().invoke(
        app, ["review", *arguments], env={"SOUK_SHOP": shop.gateway.address, "SOUK_WHO": "bob", "COLUMNS": "100"}
    )


def pages(shop: Shop, size: int, count: int) -> list[str]:
    found, token = [], ""
    for _ in range(count):
        answer = shop.client.recommend(HOME, shopper_id="visitor", page_size=size, page_token=token)
        found += ids(answer)
        token = answer.info.next_page_token
    return found


def test_a_suppressed_item_is_gone_from_the_next_answer_in_every_scene_and_from_later_pages(shop: Shop) -> None:
    first = shop.client.recommend(HOME, shopper_id="visitor", page_size=5)
    later = ids(shop.client.recommend(HOME, page_size=5, shopper_id="visitor", page_token=first.info.next_page_token))
    number = decide(shop, review_pb2.VERDICT_SUPPRESS, later[0]).sequence
    assert later[0] not in ids(
        # Of the list that was made before.
        shop.client.recommend(HOME, page_size=5, shopper_id="visitor", page_token=first.info.next_page_token)
    )
    assert later[0] not in pages(shop, 20, 3)
    assert later[0] not in ids(shop.client.search(later[0].replace("-", " "), page_size=50))
    assert later[0] not in ids(shop.client.similar("blue-mug" if later[0] != "blue-mug" else "red-mug", page_size=60))
    decide(shop, review_pb2.VERDICT_UNDO, undoes=number)
    assert later[0] in pages(shop, 20, 3)


def test_a_pinned_item_has_its_place_for_its_query_and_passes_the_filter(shop: Shop) -> None:
    decide(shop, review_pb2.VERDICT_PIN, "black-sofa", scene=types_pb2.SCENE_SEARCH, query="Green mug", place=1)
    answer = shop.client.search("green  MUG", page_size=5, explain=True)
    assert ids(answer)[0] == "green-mug"
    assert ids(answer)[1] == "black-sofa"
    assert "pinned by the shop" in answer.hits[1].reasons
    assert not answer.info.degradations
    assert "black-sofa" not in ids(shop.client.search("green mug please", page_size=2))
    cheap = shop.client.search("green mug", page_size=5, filter=filters.price(max=12))
    assert "black-sofa" not in ids(cheap)


def test_a_pin_stands_on_later_pages_is_told_in_the_impression_and_is_not_repeated(shop: Shop) -> None:
    number = decide(shop, review_pb2.VERDICT_PIN, "white-rug", scene=HOME, place=7).sequence
    shown = pages(shop, 5, 4)
    assert shown[7] == "white-rug"
    assert len(set(shown)) == 20

    def positions() -> list[int]:
        parts = shop.client.shopper("visitor")
        return [item.position for part in parts for item in part.impression.items if item.item_id == "white-rug"]

    until(lambda: 7 in positions())
    decide(shop, review_pb2.VERDICT_UNDO, undoes=number)


def test_decisions_outlast_the_processes_and_end_at_their_time(shop: Shop) -> None:
    soon = review_pb2.Decision(
        who="ann", why="a day off", verdict=review_pb2.VERDICT_SUPPRESS, item_id="red-clock", scene=HOME
    )
    soon.until.FromSeconds(int(time.time()) + 3600)
    shop.client.decide(soon)
    decide(shop, review_pb2.VERDICT_SUPPRESS, "red-lamp")
    for name in ("coldstart", "gateway"):
        shop.processes[name].kill()
        shop.restart(name)
    until(lambda: bool(shop.client.search("red lamp").hits))
    assert "red-lamp" not in ids(shop.client.search("red lamp", page_size=20))
    assert {"red-lamp", "red-clock"}.isdisjoint(pages(shop, 20, 3))
    assert ids(shop.client.search("red clock"))[0] == "red-clock"


def test_a_gateway_that_never_learned_what_was_decided_says_so(shop: Shop) -> None:
    shop.processes["coldstart"].kill()
    assert ids(shop.client.search("red lamp", page_size=20)).count("red-lamp") == 0
    shop.gateway.kill()
    shop.restart("gateway")
    [told] = shop.client.search("red lamp").info.degradations
    assert (told.stage, told.substitute) == ("review", "as if nothing were suppressed or pinned")
    shop.restart("coldstart")
    until(lambda: not shop.client.search("red lamp").info.degradations)
    assert "red-lamp" not in ids(shop.client.search("red lamp", page_size=20))


def test_what_is_malformed_unknown_or_over_is_refused_and_nothing_is_written(shop: Shop) -> None:
    before = shop.client.audit()
    code, details = code_of(lambda: decide(shop, review_pb2.VERDICT_SUPPRESS, "red-lmap"))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "red-lmap" in details
    for problem, fields in (
        ("decision.place: 100", {"scene": HOME, "place": 100}),
        ("decision.query: does not belong", {"scene": HOME, "query": "mug"}),
        ("decision.scene", {}),
    ):
        code, details = code_of(lambda fields=fields: decide(shop, review_pb2.VERDICT_PIN, "red-mug", **fields))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert problem in details
    code, details = code_of(lambda: decide(shop, review_pb2.VERDICT_UNDO, undoes=10_000))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert len(shop.client.audit()) == len(before)


def test_the_queue_and_the_audit_are_for_people_too(shop: Shop) -> None:
    events = [
        types_pb2.Event(event_id=uuid.uuid4().hex, shopper_id="fussy", type=kind, item_id="green-sofa")
        for kind in (types_pb2.EVENT_TYPE_PURCHASE, types_pb2.EVENT_TYPE_RETURN)
    ]
    shop.client.record_events(events)

    def returned() -> list[str]:
        proposals = json.loads(review(shop, "list", "--json").stdout)
        return [one["itemId"] for one in proposals if one["kind"] == "PROPOSAL_KIND_RETURNED"]

    until(lambda: returned() == ["green-sofa"])
    said = review(shop, "approve", "green-sofa", "--why", "it was the courier")
    assert said.exit_code == 0, said.output
    assert not returned()
    assert review(shop, "pin", "red-rug", "--scene", "home", "--place", "2", "--why", "sale").exit_code == 0
    assert pages(shop, 5, 1)[1] == "red-rug"
    newest = json.loads(review(shop, "log", "--json", "-n", "2").stdout)
    assert [(one["who"], one["why"], one["itemId"]) for one in newest] == [
        ("bob", "sale", "red-rug"),
        ("bob", "it was the courier", "green-sofa"),
    ]
    table = review(shop, "log").stdout
    # A narrow terminal breaks the cell.
    assert all(part in table for part in ("pin red-rug at", "2 in home", "sale"))
    assert max(map(len, table.splitlines())) <= 100
    assert "red-lamp" in review(shop, "log", "--in-force").stdout
    refused = review(shop, "undo", "4711", "--why", "a slip")
    assert refused.exit_code == 1
