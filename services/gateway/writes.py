"""Writes of the shop: handed to the process that owns the truth, its answer and its errors handed back."""

from collections.abc import AsyncIterator

from services.gateway.peers import Peers
from services.gateway.told_back import told_back
from services.runtime import telemetry
from services.runtime.errors import Unavailable
from souk.coldstart.v1 import coldstart_pb2
from souk.retriever.v1 import admin_pb2
from souk.shop.v1 import shop_pb2


class Writes:
    """Items go to the retriever's primary, events to coldstart. Nothing stands in for either: a caller must retry."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def upsert(self, request: shop_pb2.UpsertItemsRequest, seconds: float) -> shop_pb2.UpsertItemsResponse:
        """One batch to the catalogue; answered after its commit."""

        async def batch() -> AsyncIterator[admin_pb2.UpsertRequest]:
            yield admin_pb2.UpsertRequest(items=request.items, wait=request.wait)

        with told_back("the catalogue"):
            call = self._peers.write.Upsert(batch(), timeout=seconds, metadata=telemetry.outgoing())
            results = [result async for response in call for result in response.results]
        return shop_pb2.UpsertItemsResponse(results=results)

    async def delete(self, request: shop_pb2.DeleteItemsRequest, seconds: float) -> shop_pb2.DeleteItemsResponse:
        """One batch of removals; answered after its commit."""
        removals = admin_pb2.DeleteRequest(items=request.items)
        with told_back("the catalogue"):
            answer = await self._peers.write.Delete(removals, timeout=seconds, metadata=telemetry.outgoing())
        return shop_pb2.DeleteItemsResponse(results=answer.results)

    async def record(self, request: shop_pb2.RecordEventsRequest, seconds: float) -> shop_pb2.RecordEventsResponse:
        """Events to the log; answered after their commit."""
        if self._peers.coldstart is None:
            raise Unavailable("no event was written: this shop runs without coldstart (SOUK_GATEWAY_COLDSTART)")
        events = coldstart_pb2.RecordEventsRequest(events=request.events)
        with told_back("coldstart"):
            answer = await self._peers.coldstart_stub.RecordEvents(
                events, timeout=seconds, metadata=telemetry.outgoing()
            )
        return shop_pb2.RecordEventsResponse(
            accepted=answer.accepted, duplicates=answer.duplicates, unknown_items=answer.unknown_items
        )
