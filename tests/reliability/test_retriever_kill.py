"""kill -9 at any moment loses no acknowledged write, and sequence numbers never go back."""

import random
import threading
import time
from pathlib import Path

import grpc
import pytest

from souk.retriever.v1 import admin_pb2
from souk.types.v1 import types_pb2
from tests.integration.retrievers import Retriever

KILLS = 20
ITEMS = 200
WRITERS = 3


class Writer(threading.Thread):
    """Writes new revisions of its own items until the process is gone; remembers what was acknowledged."""

    def __init__(self, retriever: Retriever, number: int, acknowledged: dict[str, admin_pb2.WriteResult]) -> None:
        super().__init__(daemon=True)
        self._retriever = retriever
        self._number = number
        self._acknowledged = acknowledged
        self._random = random.Random(number)
        self.written = 0
        self.ended = grpc.StatusCode.OK

    def run(self) -> None:
        try:
            while True:
                chosen = self._random.sample(range(ITEMS), self._random.choice([1, 5, 40]))
                ids = [f"w{self._number}-{n}" for n in chosen]
                if self._random.random() < 0.2:
                    refs = [admin_pb2.ItemRef(item_id=i, revision=self._next(i)) for i in ids]
                    results = self._retriever.writes.Delete(admin_pb2.DeleteRequest(items=refs), timeout=20).results
                else:
                    items = [types_pb2.Item(id=i, revision=self._next(i), title=f"Thing {i}") for i in ids]
                    request = admin_pb2.UpsertRequest(items=items)
                    (response,) = self._retriever.writes.Upsert(iter([request]), timeout=20)
                    results = response.results
                for result in results:
                    self._acknowledged[result.item_id] = result
                self.written += len(results)
        except grpc.RpcError as error:
            self.ended = error.code()

    def _next(self, item_id: str) -> int:
        held = self._acknowledged.get(item_id)
        # Beyond what an unanswered write may have left behind.
        return (held.revision if held else 0) + 1 + self._random.randrange(1, 100)


@pytest.mark.timeout(280)
def test_no_acknowledged_write_is_lost(bundle: Path, tmp_path: Path) -> None:
    acknowledged: dict[str, admin_pb2.WriteResult] = {}
    moments = random.Random(7)
    highest = written = 0
    for kill in range(KILLS):
        with Retriever(bundle, tmp_path / "data") as retriever:
            assert_all_there(retriever, acknowledged)
            assert retriever.info().sequence >= highest
            writers = [Writer(retriever, number, acknowledged) for number in range(WRITERS)]
            for writer in writers:
                writer.start()
            time.sleep(moments.uniform(0.0, 0.8))  # The moment of the kill: the subject of the test.
            retriever.process.kill()
            for writer in writers:
                writer.join(30)
                assert writer.ended in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), kill
            written += sum(writer.written for writer in writers)
            highest = max([highest, *(result.sequence for result in acknowledged.values())])
    with Retriever(bundle, tmp_path / "data") as retriever:
        assert_all_there(retriever, acknowledged)
        assert retriever.info().sequence >= highest
    assert written > KILLS


def assert_all_there(retriever: Retriever, acknowledged: dict[str, admin_pb2.WriteResult]) -> None:
    """The catalogue holds of every item the acknowledged state, or a later one whose answer the kill cut off."""
    states: dict[str, tuple[int, int]] = {}
    shown = 0
    for change in retriever.changes():
        kind = change.WhichOneof("change")
        if kind == "item":
            states[change.item.id] = (change.item.revision, change.sequence)
            shown += 1
        elif kind == "removal":
            states[change.removal.item_id] = (change.removal.revision, change.sequence)
    lost = [
        (item_id, result.revision, states.get(item_id))
        for item_id, result in acknowledged.items()
        if item_id not in states or states[item_id] < (result.revision, result.sequence)
    ]
    assert not lost
    sequences = [sequence for _, sequence in states.values()]
    assert len(set(sequences)) == len(sequences)
    # And the indexes made from it say the same.
    assert len(retriever.words("thing", 1_000)) == shown
