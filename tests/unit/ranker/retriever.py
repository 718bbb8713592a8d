"""A retriever that serves GetVectors alone, from arrays, over real gRPC."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import numpy as np

from souk.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_matrix
from tests.unit.ranker.tiny import DIM, SPACE

_Context = grpc.aio.ServicerContext[object, object]


class ArrayRetriever(retriever_pb2_grpc.RetrieverServicer):
    """Holds vectors by id, all of one revision unless `revisions` says otherwise; remembers what it was asked for."""

    def __init__(self, vectors: dict[str, Float32]) -> None:
        self.vectors = vectors
        self.revisions: dict[str, int] = {}
        self.pending: set[str] = set()
        self.refuses: grpc.StatusCode | None = None
        self.asked: list[list[str]] = []
        self.dim = DIM

    async def GetVectors(
        self, request: retriever_pb2.GetVectorsRequest, context: _Context
    ) -> retriever_pb2.GetVectorsResponse:
        self.asked.append(list(request.item_ids))
        if self.refuses is not None:
            await context.abort(self.refuses, "as told")
        if (request.space, request.space_version) != (types_pb2.SPACE_BEHAVIOUR, SPACE):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "that space is not loaded")
        matrix = np.zeros((len(request.item_ids), self.dim), np.float32)
        presence: list[retriever_pb2.Presence.ValueType] = []
        for row, item_id in enumerate(request.item_ids):
            if item_id in self.pending:
                presence.append(retriever_pb2.PRESENCE_PENDING)
            elif item_id in self.vectors:
                presence.append(retriever_pb2.PRESENCE_PRESENT)
                matrix[row] = self.vectors[item_id]
            else:
                presence.append(retriever_pb2.PRESENCE_NOT_FOUND)
        present = retriever_pb2.PRESENCE_PRESENT
        return retriever_pb2.GetVectorsResponse(
            vectors=pack_matrix(matrix),
            presence=presence,
            revisions=[
                self.revisions.get(item_id, 1) if found == present else 0
                for item_id, found in zip(request.item_ids, presence, strict=True)
            ],
            space_version=SPACE,
        )


@asynccontextmanager
async def serving(retriever: ArrayRetriever, port: int = 0) -> AsyncIterator[str]:
    """Serves it on a loopback port (0: a free one) while the block runs; gives host:port."""
    server = grpc.aio.server()
    retriever_pb2_grpc.add_RetrieverServicer_to_server(retriever, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
