"""What tests need of a running retriever: its stubs, items, and polling for what happens in the background."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc

from souk.retriever.v1 import admin_pb2, admin_pb2_grpc, retriever_pb2, retriever_pb2_grpc
from souk.types.v1 import generations_pb2_grpc, types_pb2
from tests.integration.processes import Process, spawn

NOWHERE = "127.0.0.1:9"
"""An address at which nothing listens."""


class Retriever:
    """A retriever process of its own, with stubs. `port`: that of one before; other settings by name."""

    def __init__(
        self, bundle: Path, data: Path, embedder: str = NOWHERE, port: int | None = None, **settings: object
    ) -> None:
        own = {"bundle": bundle, "data": data, "snapshots": data.with_name(f"{data.name}-snapshots"), **settings}
        if port is None:
            self.process = spawn("services.retriever", embedder=embedder, **own)
        else:
            self.process = Process("services.retriever", embedder=embedder, port=port, **own)
            self.process.port, self.process.address = port, f"127.0.0.1:{port}"
            self.process.wait_until_serving()
        self.address = self.process.address
        self._channel = grpc.insecure_channel(self.address)
        self.reads = retriever_pb2_grpc.RetrieverStub(self._channel)
        self.writes = admin_pb2_grpc.RetrieverAdminStub(self._channel)
        self.generations = generations_pb2_grpc.GenerationsStub(self._channel)

    def upsert(
        self, *items: types_pb2.Item, wait: admin_pb2.Wait.ValueType = admin_pb2.WAIT_COMMITTED, seconds: float = 30
    ) -> list[admin_pb2.WriteResult]:
        """Writes one batch."""
        request = admin_pb2.UpsertRequest(items=items, wait=wait)
        (response,) = self.writes.Upsert(iter([request]), timeout=seconds)
        return list(response.results)

    def delete(self, *refs: admin_pb2.ItemRef) -> list[admin_pb2.WriteResult]:
        """Takes items out."""
        return list(self.writes.Delete(admin_pb2.DeleteRequest(items=refs), timeout=30).results)

    def words(self, query: str, k: int = 10) -> list[str]:
        """Ids found by words."""
        return self.find(retriever_pb2.Leg(name="w", words=retriever_pb2.WordsLeg(query=query)), k=k)

    def near(self, item_id: str, k: int = 10) -> list[str]:
        """Ids found by the vector of an item."""
        leg = retriever_pb2.ItemLeg(space=types_pb2.SPACE_CONTENT, item_id=item_id)
        return self.find(retriever_pb2.Leg(name="i", item=leg), k=k)

    def find(self, leg: retriever_pb2.Leg, k: int = 10) -> list[str]:
        """Ids that one leg finds."""
        return list(self.reads.Search(retriever_pb2.SearchRequest(legs=[leg], k=k), timeout=30).candidates.id)

    def vectors(self, *ids: str) -> retriever_pb2.GetVectorsResponse:
        """Vectors of the content space that serves."""
        request = retriever_pb2.GetVectorsRequest(item_ids=ids, space=types_pb2.SPACE_CONTENT)
        return self.reads.GetVectors(request, timeout=30)

    def held(self, *ids: str) -> list[types_pb2.Item | None]:
        """Items as held."""
        answer = self.reads.GetItems(retriever_pb2.GetItemsRequest(item_ids=ids), timeout=30)
        present = retriever_pb2.PRESENCE_PRESENT
        return [result.item if result.presence == present else None for result in answer.results]

    def info(self) -> retriever_pb2.GetInfoResponse:
        """What is held and served."""
        return self.reads.GetInfo(retriever_pb2.GetInfoRequest(), timeout=30)

    def changes(self, after: int = 0, vectors: bool = True) -> list[retriever_pb2.Change]:
        """Everything after a sequence number."""
        request = retriever_pb2.StreamChangesRequest(from_sequence=after, vectors=vectors)
        return [change for response in self.reads.StreamChanges(request, timeout=60) for change in response.changes]

    def __enter__(self) -> "Retriever":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self.process.__exit__(None, None, None)


def item(item_id: str, title: str, revision: int = 1, **fields: Any) -> types_pb2.Item:
    """An item of a shop."""
    return types_pb2.Item(id=item_id, revision=revision, title=title, **fields)


def shop(count: int) -> list[types_pb2.Item]:
    """Different items, the same each time."""
    things = ["kettle", "running shoe", "desk lamp", "rain jacket", "wireless headphones", "garden chair", "novel"]
    makes = ["steel", "red", "folding", "children's", "compact", "classic"]
    return [
        item(f"i{n}", f"{makes[n % len(makes)]} {things[n % len(things)]} {n}", price=float(n), currency="EUR")
        for n in range(count)
    ]


def until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Polls. Raises AssertionError when the time is over."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def outcomes(results: Sequence[admin_pb2.WriteResult]) -> list[str]:
    """Names of the outcomes without their prefix."""
    return [admin_pb2.Outcome.Name(result.outcome).removeprefix("OUTCOME_") for result in results]
