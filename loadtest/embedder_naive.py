"""The baseline of embedder_bench: the same model behind gRPC with nothing clever: one request, one inference."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import onnxruntime
import uvloop
from tokenizers import Tokenizer

from services.domain.bundle import EncoderManifest, read_bundle
from services.runtime.threads import cpu_limit
from souk.embedder.v1 import embedder_pb2
from souk.vectors import pack_matrix


class _Naive:
    """One request, one inference, in one thread beside the loop."""

    def __init__(self, bundle: Path, manifest: EncoderManifest) -> None:
        self._tokenizer = Tokenizer.from_file(str(bundle / manifest.tokenizer))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cpu_limit()
        self._session = onnxruntime.InferenceSession(
            str(bundle / manifest.model), options, providers=["CPUExecutionProvider"]
        )
        self._thread = ThreadPoolExecutor(1)

    async def embed(self, request: embedder_pb2.EmbedRequest, _: Any) -> embedder_pb2.EmbedResponse:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._infer, request.inputs[0].text)

    def _infer(self, text: str) -> embedder_pb2.EmbedResponse:
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)
        (vector,) = self._session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        return embedder_pb2.EmbedResponse(vectors=pack_matrix(vector))


async def _serve(bundle: Path, manifest: EncoderManifest, port: int) -> None:
    server = grpc.aio.server()
    embed: Any = grpc.unary_unary_rpc_method_handler(
        _Naive(bundle, manifest).embed,
        request_deserializer=embedder_pb2.EmbedRequest.FromString,
        response_serializer=embedder_pb2.EmbedResponse.SerializeToString,
    )
    service = embedder_pb2.DESCRIPTOR.services_by_name["Embedder"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Embed": embed}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]), read_bundle(Path(sys.argv[1])).manifest.encoder, int(sys.argv[2])))
