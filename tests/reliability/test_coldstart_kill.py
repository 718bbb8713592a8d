"""kill -9 at any moment loses no acknowledged event or impression, and sequence numbers never go back."""

import random
import threading
import time
from pathlib import Path

import grpc
import pytest

from souk.coldstart.v1 import coldstart_pb2
from souk.types.v1 import types_pb2
from tests.integration.test_coldstart import Coldstart, make_bundle
from tests.unit.coldstart.making import event

KILLS = 15
WRITERS = 3


class Writer(threading.Thread):
    """Writes events and impressions until the process is gone; remembers what was acknowledged."""

    def __init__(self, coldstart: Coldstart, name: str, events: dict[str, str], shown: set[str]) -> None:
        super().__init__(daemon=True)
        self._coldstart = coldstart
        self._prefix = name
        self._events = events
        self._shown = shown
        self._random = random.Random(name)
        self.ended = grpc.StatusCode.OK

    def run(self) -> None:
        number = 0
        try:
            while True:
                batch = []
                for _ in range(self._random.choice([1, 5, 100])):
                    number += 1
                    shopper = f"s{self._random.randrange(20)}"
                    batch.append(event(f"{self._prefix}-{number}", shopper, f"i{number % 50}"))
                # As a shop does that had no answer: again with the same ids.
                for _ in range(self._random.choice([1, 2])):
                    self._coldstart.record(*batch)
                self._events.update((each.event_id, each.shopper_id) for each in batch)
                items = [types_pb2.ImpressionItem(item_id="i", position=0, score=1, propensity=1)]
                impression = types_pb2.Impression(request_id=f"{self._prefix}-{number}", shopper_id="s0", items=items)
                request = coldstart_pb2.RecordImpressionsRequest(impressions=[impression])
                self._coldstart.stub.RecordImpressions(request, timeout=20)
                self._shown.add(impression.request_id)
        except grpc.RpcError as error:
            self.ended = error.code()


@pytest.mark.timeout(250)
def test_no_acknowledged_event_is_lost(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle").path
    events: dict[str, str] = {}
    shown: set[str] = set()
    moments = random.Random(11)
    highest = 0
    for kill in range(KILLS):
        with Coldstart(bundle, tmp_path / "data") as coldstart:
            highest = assert_all_there(coldstart, events, shown, highest)
            writers = [Writer(coldstart, f"{kill}-{number}", events, shown) for number in range(WRITERS)]
            for writer in writers:
                writer.start()
            time.sleep(moments.uniform(0.0, 0.6))  # The moment of the kill: the subject of the test.
            coldstart.process.kill()
            for writer in writers:
                writer.join(30)
                assert writer.ended in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), kill
    with Coldstart(bundle, tmp_path / "data") as coldstart:
        assert_all_there(coldstart, events, shown, highest)
    assert len(events) > 20 * KILLS


def assert_all_there(coldstart: Coldstart, events: dict[str, str], shown: set[str], highest: int) -> int:
    """Everything acknowledged is in the log once, and the contexts made from it say the same."""
    entries = coldstart.entries()
    sequences = [entry.sequence for entry in entries]
    assert sequences == sorted(set(sequences))
    held = [entry.event for entry in entries if entry.HasField("event")]
    shoppers = {each.event_id: each.shopper_id for each in held}
    assert len(shoppers) == len(held)
    assert not {event_id for event_id, shopper in events.items() if shoppers.get(event_id) != shopper}
    assert not shown - {entry.impression.request_id for entry in entries if entry.HasField("impression")}
    info = coldstart.info()
    assert info.events == len(held)
    assert info.unknown_item_events == len(held)
    for shopper in ("s1", "s2"):
        count = sum(who == shopper for who in shoppers.values())
        assert len(coldstart.context(shopper).history) == min(count, 256)
    last = max(sequences, default=0)
    assert last >= highest
    return last
