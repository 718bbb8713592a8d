"""A real small process for the tests of the runtime: `python -m` it; the item id of a request says what it does."""

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

import grpc.aio

from services.domain.checks import Invalid
from services.runtime.errors import NotFound, Unavailable
from services.runtime.server import run
from services.runtime.settings import Settings, load
from souk.retriever.v1 import retriever_pb2, retriever_pb2_grpc

_Context = grpc.aio.ServicerContext[object, object]


class TinySettings(Settings):
    """Fails its checks while the file `broken` exists."""

    service: ClassVar[str] = "tiny"
    broken: str = ""


class Tiny(retriever_pb2_grpc.RetrieverServicer):
    """Answers GetItems and StreamChanges."""

    def __init__(self, settings: TinySettings) -> None:
        self._settings = settings

    def register(self, server: grpc.aio.Server) -> list[str]:
        retriever_pb2_grpc.add_RetrieverServicer_to_server(self, server)
        return ["souk.retriever.v1.Retriever"]

    async def start(self) -> None:
        self._draining = asyncio.Event()
        if self._settings.broken == "at start":
            raise RuntimeError("the thing is not there")

    async def warm_up(self) -> None:
        pass

    async def check(self) -> None:
        from pathlib import Path

        if await asyncio.to_thread(Path(self._settings.broken or "/nonexistent").exists):
            raise RuntimeError("broken")

    def drain(self) -> None:
        self._draining.set()

    async def stop(self) -> None:
        print("let go", flush=True)

    async def GetItems(
        self, request: retriever_pb2.GetItemsRequest, context: _Context
    ) -> retriever_pb2.GetItemsResponse:
        match request.item_ids[0]:
            case "invalid":
                raise Invalid("item_ids[0]", "is not liked")
            case "missing":
                raise NotFound("no such item")
            case "secret":
                raise RuntimeError("password is hunter2")
            case "slow":
                await asyncio.sleep(float(request.item_ids[1]))
        return retriever_pb2.GetItemsResponse(sequence=7)

    async def StreamChanges(
        self, request: retriever_pb2.StreamChangesRequest, context: _Context
    ) -> AsyncIterator[retriever_pb2.StreamChangesResponse]:
        for i in range(3):
            yield retriever_pb2.StreamChangesResponse(head_sequence=i)
        if request.follow:
            await self._draining.wait()
            raise Unavailable("draining: go on elsewhere")
        if request.from_sequence:
            raise Invalid("from_sequence", "is ahead")


if __name__ == "__main__":
    settings = load(TinySettings)
    run(Tiny(settings), settings)  # type: ignore[abstract]  # The other calls are not asked for.
